"""What a neighbour may send; with the whole way in behind it."""

import os

import pytest
from twisted.internet.task import Clock

from gateway.addresses.recipients import Recipients
from gateway.config import ConfigError, Settings
from gateway.log import MemoryLog
from gateway.policy.registry import Toolbox
from gateway.tables.registry import Tables
from gateway.uucp.neighbours import Neighbours, NotNow, client_of
from spool.envelope import Envelope, Recipient
from tests.gateway.content.support import NOW, SITE, now


def neighbours(restrictions, **parameters):
    settings = Settings({**SITE, "uucp_client_restrictions": restrictions, "uucp_owner": "nobody", **parameters})
    log, clock = MemoryLog(), Clock()
    clock.advance(NOW)
    tables = Tables(clock=clock, log=log)
    tools = Toolbox(settings, log, tables, None, Recipients.from_settings(settings, tables), clock)
    made = Neighbours(tools, clock)
    made.log = log
    return made


def envelope(*to, neighbour="alpha", sender="a@b.example", arrival=NOW):
    return Envelope(sender, [Recipient(one) for one in to], arrival=arrival, client=client_of(neighbour))


def judge(made, asked):
    return now(made.judge(asked))


def test_without_restrictions_all_is_taken():
    assert judge(neighbours(""), envelope("x@y.example")).refused == []


def test_restrictions_by_neighbour_sender_and_recipient():
    made = neighbours(
        "inline:{{beta=REJECT not you}} check_sender_access inline:{{a@b.example=permit}} reject_unauth_destination"
    )
    assert judge(made, envelope("x@y.example")).refused == []
    judged = judge(made, envelope("x@y.example", "joe@gw.my.domain", sender="c@d.example"))
    assert [(one.address, why.code, why.text) for one, why in judged.refused] == [
        ("x@y.example", 554, "<x@y.example>: Relay access denied"),
    ]
    (_, why), = judge(made, envelope("joe@gw.my.domain", neighbour="beta")).refused
    assert (why.code, why.dsn, why.text) == (554, "5.7.1", "<beta[UUCP]>: Client host rejected: not you")
    line = "NOQUEUE: reject: RCPT from beta[UUCP]: 554 5.7.1 <beta[UUCP]>: Client host rejected: not you;"
    assert f"{line} from=<a@b.example> to=<joe@gw.my.domain> proto=UUCP helo=<beta> sasl_username=<beta>" in \
        made.log.text


def test_a_neighbour_counts_as_logged_in():
    made = neighbours("permit_sasl_authenticated reject")
    assert judge(made, envelope("x@y.example")).refused == []


def test_what_access_tables_decide():
    judged = judge(neighbours("inline:{{alpha=HOLD}}"), envelope("x@y.example"))
    assert judged.decisions.hold and judged.refused == []


def test_not_now_waits_but_not_for_ever():
    made = neighbours("inline:{{alpha=450 later}}")
    with pytest.raises(NotNow):
        judge(made, envelope("x@y.example"))
    (_, why), = judge(made, envelope("x@y.example", arrival=NOW - 6 * 86400)).refused
    assert why.dsn == "5.7.1"


def test_nonsense_is_a_configuration_error():
    with pytest.raises(ConfigError, match="nonsense"):
        neighbours("nonsense")


def test_who_is_believed():
    made = neighbours("")
    assert made.believes(0) and made.believes(65534) and made.believes(os.geteuid()) and not made.believes(1)
