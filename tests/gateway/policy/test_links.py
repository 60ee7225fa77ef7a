"""reject_link_limits."""

import json

import pytest
from twisted.internet.task import Clock

from gateway.addresses.recipients import Recipients
from gateway.config import Settings
from gateway.log import MemoryLog
from gateway.policy.compose import PROVIDERS
from gateway.policy.registry import Toolbox, compile_list
from gateway.policy.session import Session
from gateway.policy.verdict import Outcome
from gateway.tables.registry import Tables
from tests.gateway.content.support import NOW, SITE, now

assert PROVIDERS  # they make themselves known
FULL = "the link to beta has used up the 9 bytes of today"


def ask(folder, said, recipient="u@some.domain", size=100):
    if said is not None:
        (folder / "uucp").mkdir(exist_ok=True)
        (folder / "uucp" / "limits").write_text(said if isinstance(said, str) else json.dumps({"uucp": said}))
    settings = Settings({**SITE, "queue_directory": str(folder), "transport_maps": "inline:{{some.domain=uucp:beta}}"})
    log, clock = MemoryLog(), Clock()
    clock.advance(NOW)
    tables = Tables(clock=clock, log=log)
    tools = Toolbox(settings, log, tables, None, Recipients.from_settings(settings, tables), clock)
    (item,) = compile_list(tools, ["reject_link_limits"], "smtpd_recipient_restrictions")
    verdict = now(item.restriction.check(Session(recipient=recipient, size=size)))
    return None if verdict.outcome is Outcome.DUNNO else verdict.reply


def said(size=0, sites=None, left=None, until=NOW + 60):
    return {"size": size, "sites": sites or {}, "left": left or {}, "until": until, "use": {}}


@pytest.mark.parametrize("published", [
    None, "nonsense", "[]", said(), said(size=100), said(sites={"gamma": ["full", 0]}),
    said(sites={"beta": [FULL, NOW - 1]}), said(left={"beta": 100}), said(left={"beta": 1}, until=NOW - 1),
])
def test_what_is_taken(tmp_path, published):
    assert ask(tmp_path, published) is None


@pytest.mark.parametrize("published, reply", [
    (said(size=99), "552 5.3.4 <u@some.domain>: Recipient address rejected: "
                    "message size 100 exceeds the limit of the link to beta: 99"),
    (said(sites={"beta": [FULL, NOW + 1]}), f"452 4.4.5 <u@some.domain>: Recipient address rejected: {FULL}"),
    (said(sites={"beta": ["9 bytes wait", 0]}), "452 4.4.5 <u@some.domain>: Recipient address rejected: 9 bytes wait"),
    (said(left={"beta": 99}), "452 4.4.5 <u@some.domain>: Recipient address rejected: "
                              "the link to beta takes 99 more bytes today"),
])
def test_what_is_not(tmp_path, published, reply):
    assert ask(tmp_path, published) == reply
    assert ask(tmp_path, published, recipient="u@other.domain") is None
