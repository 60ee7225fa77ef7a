"""reject_link_limits: the service that is responsible says what it does not take."""

import pytest
from twisted.internet.task import Clock

from gateway.addresses.recipients import Recipients
from gateway.config import Settings
from gateway.interfaces import Offer, TableError
from gateway.log import MemoryLog
from gateway.policy.compose import PROVIDERS
from gateway.policy.registry import Toolbox, compile_list
from gateway.policy.session import Session
from gateway.policy.verdict import Outcome
from gateway.tables.registry import Tables
from tests.gateway.content.support import SITE, now

assert PROVIDERS  # they make themselves known


class Acceptance:
    def __init__(self, answer):
        self.answer, self.offers = answer, []

    async def refuse(self, offer):
        self.offers.append(offer)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask(acceptance, recipient="U+1@some.domain", **facts):
    settings = Settings({**SITE, "transport_maps": "inline:{{some.domain=uucp:beta}}"})
    log, clock = MemoryLog(), Clock()
    tables = Tables(clock=clock, log=log)
    addresses = Recipients.from_settings(settings, tables)
    tools = Toolbox(settings, log, tables, None, addresses, clock, acceptances={"uucp": acceptance})
    (item,) = compile_list(tools, ["reject_link_limits"], "smtpd_recipient_restrictions")
    verdict = now(item.restriction.check(Session(recipient=recipient, **facts)))
    return None if verdict.outcome is Outcome.DUNNO else verdict.reply


def test_the_responsible_service_is_asked():
    acceptance = Acceptance(None)
    assert ask(acceptance, size=100, sender="a@b", client_address="10.0.0.1", sasl_username="ann") is None
    assert acceptance.offers == [Offer("u+1@some.domain", "beta", "a@b", 100, "10.0.0.1", "ann")]


def test_no_other_is():
    acceptance = Acceptance((550, "5.1.3", "no"))
    assert ask(acceptance, recipient="u@other.domain") is None
    assert ask(acceptance, recipient=None) is None
    assert acceptance.offers == []


@pytest.mark.parametrize("answer, reply", [
    ((552, "5.3.4", "too large"), "552 5.3.4 <U+1@some.domain>: Recipient address rejected: too large"),
    ((452, "4.4.5", "full"), "452 4.4.5 <U+1@some.domain>: Recipient address rejected: full"),
])
def test_what_it_refuses(answer, reply):
    assert ask(Acceptance(answer)) == reply


def test_a_table_that_is_away():
    with pytest.raises(TableError):
        ask(Acceptance(TableError("away")))
