"""Refused, put off or cut off at each stage, and the words for it: as Postfix has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.interfaces import BOUNCED, DEFERRED, SENT
from tests.transports.smtp.world import CLOSE, SILENCE, World

NAMED = "x.test[192.0.2.1]"


def deliver(*recipients: str, piece: int = 0, **replies: Any) -> tuple[World, list[Any]]:
    world = World()
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1", **replies).piece = piece
    return world, world.send("x.test", *recipients)



def read_cases() -> Iterator[tuple[dict[str, Any], list[str]]]:
    replies: dict[str, Any] = {}
    for line in (Path(__file__).parent / "stages.txt").read_text().splitlines():
        verb, _, rest = line.partition(" ")
        if verb == "=":
            yield replies, rest.replace("@", NAMED).split(" ", 2)
            replies = {}
        elif verb and verb != "#":
            replies[verb] = rest.encode().decode("unicode_escape")


CASES = list(read_cases())


@pytest.mark.parametrize(("replies", "outcome"), CASES, ids=[str(case[0]) for case in CASES])
@pytest.mark.parametrize("piece", [0, 1])
def test_each_stage(replies: dict[str, Any], outcome: list[str], piece: int) -> None:
    if piece and "(and more than was" in outcome[2]:
        pytest.skip("only what comes in one piece is known to be too much")
    world, (result,) = deliver(piece=piece, **replies)
    assert [result.status, result.dsn, result.reason] == outcome
    assert result.relay == f"{NAMED}:25"
    world.net.settle()
    assert world.content.times_closed == 1


def test_recipients_have_words_of_their_own() -> None:
    for keywords in ("250-mx\n250 PIPELINING", "250 mx"):
        world = World()
        world.names.hosts["x.test"] = ["192.0.2.1"]
        host = world.host("192.0.2.1", EHLO=keywords)
        host.on("RCPT", "one@", "550 5.1.1 no such user").on("RCPT", "two@", "450 4.2.0 later")
        one, two, three = world.send("x.test", "one@x.test", "two@x.test", "three@x.test")
        assert (one.status, two.status, three.status) == (BOUNCED, DEFERRED, SENT)
        assert one.details == {
            "action": "failed", "remote_mta": "dns; x.test", "diagnostic_type": "smtp",
            "diagnostic": "550 5.1.1 no such user",
        }
        assert not two.destination_down
        assert host.messages == [b"Subject: x\r\n\r\nbody\r\n"]
        assert three.details["remote_mta"] == "dns; x.test" and three.details["action"] == "relayed"


def test_all_refused_but_the_server_wants_the_message() -> None:
    world, (result,) = deliver(RCPT="550 5.1.1 no", DATA="354 go")
    assert result.status == BOUNCED
    assert world.net.hosts["192.0.2.1", 25].messages == [b""]


def test_421_for_one_recipient_ends_it_for_all() -> None:
    world = World()
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1").on("RCPT", "two@", "421 4.3.2 bye")
    results = world.send("x.test", "one@x.test", "two@x.test", "three@x.test")
    assert [each.status for each in results] == [DEFERRED] * 3
    assert {each.reason for each in results} == {f"host {NAMED} said: 421 4.3.2 bye (in reply to RCPT TO command)"}


def test_what_counts_against_the_host() -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"CONNECT": "421 busy"}, True), ({"CONNECT": CLOSE}, True), ({"RCPT": CLOSE}, True),
        ({"MAIL": "451 no"}, False), ({"EOM": "451 no"}, False), ({"RCPT": "450 no"}, False),
    ]
    for replies, down in cases:
        assert deliver(**replies)[1][0].destination_down is down, replies


def test_lmtp_has_a_word_for_each_recipient_after_the_message() -> None:
    for piece in (0, 1):
        world = World(lmtp=True)
        host = world.net.hosts["/run/lmtp"] = world.host(
            "/run/lmtp", EOM=["250 2.0.0 Ok", "552 5.2.2 over quota", "452 4.2.2 not now"]
        )
        host.piece = piece
        host.on("RCPT", "none@", "550 5.1.1 no such mailbox")
        results = world.send("unix:/run/lmtp", "a@x", "none@x", "full@x", "later@x")
        assert [each.status for each in results] == [SENT, BOUNCED, BOUNCED, DEFERRED]
        assert results[2].reason == (
            "host gw.test[/run/lmtp] said: 552 5.2.2 over quota (in reply to end of DATA command)"
        )
        assert results[0].relay == "gw.test[/run/lmtp]"
        assert host.commands[0] == "LHLO gw.test"


def test_lmtp_lost_between_the_words() -> None:
    world = World(lmtp=True)
    world.host("192.0.2.1", 24, EOM=["250 2.0.0 Ok", CLOSE])
    results = world.send("inet:192.0.2.1", "a@x", "b@x")
    assert [each.status for each in results] == [SENT, DEFERRED]


def test_a_connection_that_cannot_be_made() -> None:
    world = World()
    world.names.hosts["x.test"] = ["192.0.2.1"]
    (result,) = world.send("x.test")
    assert (result.status, result.dsn, result.relay) == (DEFERRED, "4.4.1", "none")
    assert result.reason == f"connect to {NAMED}:25: Connection refused"
    assert result.destination_down
    assert ("smtp", result.reason) in world.log.lines
    world.host("192.0.2.1", TIMEOUT=True)
    assert world.send("x.test")[0].reason == f"connect to {NAMED}:25: Connection timed out"


def test_a_trickle_extends_nothing() -> None:
    world = World(smtp_helo_timeout="5s")
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1", CONNECT=SILENCE)
    began = world.net.seconds()

    def drip() -> None:
        if world.net.wires and world.net.wires[0].connected:
            world.net.wires[0].send(b"2", 0)
        world.net.callLater(1, drip)

    drip()
    assert "timed out" in world.send("x.test")[0].reason
    assert world.net.seconds() - began < 6


def test_an_endless_reply_is_cut_off() -> None:
    world = World()
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1", CONNECT="\n".join(["220-" + "x" * 4000] * 300))
    (result,) = world.send("x.test")
    assert "a reply without end" in result.reason and result.status == DEFERRED
    assert world.net.wires[0].aborted
