"""What the postmaster hears of sessions in which a server does not understand us; notify_classes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transports.smtp.world import CLOSE, World
from transports.smtp.transcript import KEPT, LONGEST, Transcript


def world(host: str = "x.test", **replies: Any) -> World:
    values = replies.pop("values", {"notify_classes": "protocol"})
    made = World(**values)
    made.names.hosts["x.test"] = ["192.0.2.1"]
    made.names.mxs["x.test"] = [(10, host)]
    made.names.hosts[host] = ["192.0.2.1"]
    made.host("192.0.2.1", **replies)
    return made


def test_a_command_that_is_held_for_a_mistake() -> None:
    made = world(RCPT=["250 2.1.5 Ok", "501 5.5.4 syntax\x00"])
    made.send("x.test", "a@x.test", "b@x.test")
    ((errors, peer, lines),) = made.told
    assert (errors, peer) == ({"protocol"}, "x.test[192.0.2.1]:25")
    assert lines == [
        " In:  220 mx.test ESMTP", " Out: EHLO gw.test", " In:  250-mx.test", " In:  250-PIPELINING", " In:  250-SIZE",
        " In:  250-8BITMIME", " In:  250 DSN", " Out: MAIL FROM:<from@gw.test> SIZE=20",
        " Out: RCPT TO:<a@x.test> ORCPT=rfc822;a@x.test", " Out: RCPT TO:<b@x.test> ORCPT=rfc822;b@x.test",
        " Out: DATA", " In:  250 2.1.0 Ok", " In:  250 2.1.5 Ok", " In:  501 5.5.4 syntax?", " In:  354 go ahead",
        " Out: .", " In:  250 2.0.0 Ok",
    ]


@pytest.mark.parametrize("replies", [
    {"CONNECT": "501 no"}, {"EHLO": "500 what", "HELO": "500 what"}, {"MAIL": "555 5.5.4 parameter"},
    {"DATA": "503 5.5.1 sequence"}, {"DATA": "250 done"}, {"EOM": "354 more"}, {"EOM": "nonsense"}, {"RCPT": "354 x"},
])  # fmt: skip
def test_what_is_no_proper_answer(replies: dict[str, Any]) -> None:
    made = world(**replies)
    made.send("x.test")
    assert [errors for errors, _, _ in made.told] == [{"protocol"}]


@pytest.mark.parametrize("replies", [
    {}, {"CONNECT": "554 no"}, {"MAIL": "550 5.7.1 no"}, {"RCPT": "550 5.1.1 no", "DATA": "503 no recipients"},
    {"EOM": "451 4.3.0 later"}, {"DATA": CLOSE}, {"EHLO": "500 what"}, {"CONNECT": "421 busy"},
])  # fmt: skip
def test_an_ordinary_refusal_is_none_of_his_business(replies: dict[str, Any]) -> None:
    made = world(**replies)
    made.send("x.test")
    assert made.told == []


def test_who_does_not_want_to_hear() -> None:
    made = world(MAIL="501 syntax", values={})
    made.send("x.test")
    assert made.told == []
    made = world(MAIL="501 syntax")
    made.send("x.test", sender="Double-Bounce@gw.test")
    assert made.told == []


def test_it_cannot_be_told() -> None:
    made = world("trouble.test", MAIL="501 syntax")
    (result,) = made.send("x.test")
    assert result.status == "bounced"
    assert made.log.text.endswith("smtp: warning: cannot notify the postmaster: OSError: no room")


def test_the_memory_of_it_is_bounded() -> None:
    transcript = Transcript()
    for _ in range(KEPT + 1):
        transcript.asked(b"x" * (LONGEST + 1) + b"\r\n")
    assert len(transcript.lines) == KEPT and len(transcript.lines[0]) == LONGEST + 6
