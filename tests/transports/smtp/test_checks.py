"""smtp_header_checks and its like, on the way out; flags=DORX; what changes a message while it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gateway.config import ConfigError, Settings
from gateway.content.outgoing import OutgoingChecks
from gateway.interfaces import DEFERRED, SENT
from gateway.log import MemoryLog
from gateway.tables import Tables
from tests.transports.smtp.world import Host, Net, World

MAIL = b"""Subject: one
X-A: a
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

pre
--b
Content-Type: text/plain
X-Part: p

line one
a secret
--b
Content-Type: message/rfc822

Subject: nested
X-N: n

.inner secret
--b--
"""


def world_with_host(content: bytes = MAIL, **values: Any) -> tuple[World, Host]:
    world = World(**values)
    world.content_of(content)
    world.names.hosts["x.test"] = ["192.0.2.1"]
    return world, world.host("192.0.2.1", 25)


@pytest.mark.parametrize(
    ("parameter", "action", "old", "new", "log"),
    [
        ("header", "X-A: a=IGNORE", b"X-A: a\n", b"", ""),
        ("header", "X-A: a=STRIP why", b"X-A: a\n", b"", "QID: strip: header X-A: a: why"),
        ("header", "X-A: a=REPLACE X-B: b", b"X-A: a", b"X-B: b", "QID: replace: header X-A: a: X-B: b"),
        ("header", "X-A: a=PREPEND X-B: b", b"X-A: a", b"X-B: b\nX-A: a", "QID: prepend: header X-A: a: X-B: b"),
        ("header", "X-A: a=WARN hello", b"", b"", "QID: warning: header X-A: a: hello"),
        ("header", "X-A: a=INFO", b"", b"", "QID: info: header X-A: a"),
        ("header", "X-A: a=DUNNO", b"", b"", ""),
        ("header", "X-A: a=REJECT no", b"", b"", "warning: unsupported command in smtp_header_checks map: REJECT no"),
        ("header", "X-A: a=HOLD", b"", b"", "warning: unsupported command in smtp_header_checks map: HOLD"),
        ("header", "X-A: a=REPLACE", b"", b"", "warning: REPLACE action without text in smtp_header_checks map"),
        ("mime_header", "X-Part: p=IGNORE", b"X-Part: p\n", b"", ""),
        ("nested_header", "X-N: n=REPLACE X-M: m", b"X-N: n", b"X-M: m", "QID: replace: header X-N: n: X-M: m"),
        ("body", "a secret=IGNORE", b"a secret\n", b"", ""),
        ("body", "line one=REPLACE line 1", b"line one", b"line 1", "QID: replace: body line one: line 1"),
        ("body", "pre=PREPEND before", b"pre", b"before\npre", "QID: prepend: body pre: before"),
    ],
)
def test_actions(parameter: str, action: str, old: bytes, new: bytes, log: str) -> None:
    world, host = world_with_host(**{f"smtp_{parameter}_checks": f"inline:{{ {{ {action} }} }}"})
    for _ in range(2):
        assert world.send("x.test")[0].status == SENT
    expected = MAIL.replace(old, new) if old else MAIL
    assert host.messages == [expected.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")] * 2
    assert [text for _, text in world.log.lines if "IGNORE" not in text] == ([log] * 2 if log else [])


@pytest.mark.parametrize("kind", ["header", "body"])
def test_a_table_that_is_away(kind: str) -> None:
    world, host = world_with_host(**{f"smtp_{kind}_checks": "fail:away"})
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (DEFERRED, "4.3.0")
    assert result.reason == "local data error while talking to x.test[192.0.2.1]"
    assert f"warning: QID: smtp {kind} checks lookup error" in world.log.text
    assert world.net.wires[0].aborted and not host.messages


def test_lmtp_has_its_own() -> None:
    world, host = world_with_host(lmtp=True, lmtp_header_checks="inline:{ {X-A: a=IGNORE} }", smtp_body_checks="fail:x")
    world.net.hosts["192.0.2.1", 24] = host
    assert world.send("x.test")[0].status == SENT
    assert b"X-A" not in host.messages[0]


def test_addresses_are_changed_behind_the_checks() -> None:
    world, host = world_with_host(
        b"From: joe@gw.test\nTo: x\n\n", smtp_header_checks="inline:{ {From: joe@gw.test=REPLACE From: ann@gw.test} }",
        smtp_generic_maps="inline:{ann@gw.test=ann@out.test}",
    )
    assert world.send("x.test")[0].status == SENT
    assert host.messages == [b"From: ann@out.test\r\nTo: x\r\n\r\n"]


def test_large_messages_and_8_bits_pass_through_them() -> None:
    lines = b"".join(b"line %d \xe4\n" % number for number in range(40_000))
    header = b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n"
    for features, body in (("250-mx\n250 8BITMIME", lines), ("250 mx", lines.replace(b"\xe4", b"=E4"))):
        world, host = world_with_host(header + lines, smtp_header_checks="inline:{ {Subject: x=REPLACE Subject: y} }")
        host.replies["EHLO"] = features
        assert world.send("x.test", encoding="8bit")[0].status == SENT
        assert host.messages[0].startswith(b"Subject: y\r\n")
        assert host.messages[0].endswith(body.replace(b"\n", b"\r\n"))


class Slow:
    """A table that takes its time."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.asked: list[str] = []

    def __call__(self, line: str) -> Any:
        self.asked.append(line)
        answer: Deferred[None] = Deferred()
        self._net.callLater(1, answer.callback, None)
        return answer


@pytest.mark.parametrize("goes_after", [0.5, 1.5])
def test_a_host_that_goes_away_meanwhile(goes_after: float) -> None:
    world, host = world_with_host(b"A: 1\nB: 2\n\nbody\n", smtp_header_checks="inline:{ {x=y} }")
    checks: Any = world.transport._parts.checks
    slow = Slow(world.net)
    checks.checks.header = slow
    world.net.callLater(goes_after, lambda: host.sessions[0].close())
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (DEFERRED, "4.4.2")
    assert result.reason == "lost connection with x.test[192.0.2.1] while sending message body"
    world.net.advance(10)
    assert slow.asked[0] == "A: 1" and world.content.times_closed == 1


BLOCKS = st.lists(st.sampled_from([b"\n", b"A: 1", b" ", b"\n\n", b"x", b"--b\n", b"X: y\n", b"."]), max_size=12)


@settings(max_examples=150)
@given(content=BLOCKS.map(b"".join), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_no_split_makes_a_difference(content: bytes, cuts: list[int]) -> None:
    """A header that is sent anew is the old one if no table has anything to say."""
    head = b'S: x\nContent-Type: multipart/mixed; boundary="b"\n'
    whole = head + (content if content.startswith(b"\n") else b"\n" + content) + b"\n"
    net, log = Net(), MemoryLog()
    values = {f"smtp_{kind}_checks": "inline:{ {none=DUNNO} }" for kind in ("header", "mime_header", "body")}
    conf = Settings(values)
    checks = OutgoingChecks.of(conf, Tables(clock=net, log=log), "smtp_", "smtp", log)
    assert checks is not None
    message = checks.begin("QID")

    async def run() -> bytes:
        out, last = [], 0
        for cut in sorted(cuts):
            out.append(await message.feed(whole[last:cut], False))
            last = max(last, cut)
        out += [await message.feed(whole[last:], False), await message.feed(b"", True)]
        return b"".join(out)

    assert net.run(run()) == whole


# --- flags=DORX


def test_fields_in_front() -> None:
    for flags, fields in (
        ("DOR", b"Return-Path: <from@gw.test>\r\nX-Original-To: was@gw.test\r\nDelivered-To: to@x.test\r\n"),
        ("D", b"Delivered-To: to@x.test\r\n"), ("X", b""),
    ):  # fmt: skip
        for size in (10, 200_000):
            world, host = world_with_host(b"A: b\n\n" + size * b"x" + b"\n", flags=flags, smtp_line_length_limit="0")
            request = world.request("x.test", "to@x.test")
            request.entry.envelope.recipients[0].original = "was@gw.test"
            (result,) = world.net.run(world.transport.deliver(request))
            assert result.status == SENT
            assert host.messages == [fields + b"A: b\r\n\r\n" + size * b"x" + b"\r\n"]
    world, host = world_with_host(flags="DOR")
    world.send("x.test", "a@x.test", "b@x.test")
    assert host.messages[0].startswith(b"Return-Path: <from@gw.test>\r\nSubject:")


def test_final_delivery() -> None:
    for flags, values, features, action in (
        ("", {}, "250 mx", "relayed"), ("X", {}, "250 mx", "delivered"), ("X", {}, "250-mx\n250 DSN", "passed"),
        ("", {"lmtp_assume_final": "yes"}, "250 mx", "delivered"),
    ):  # fmt: skip
        world, host = world_with_host(lmtp=True, flags=flags, **values)
        world.net.hosts["192.0.2.1", 24] = host
        host.replies["LHLO"] = features
        assert world.send("x.test")[0].details["action"] == action
    with pytest.raises(ValueError, match='unknown flags=DQ value "Q"'):
        World(flags="DQ")


# --- probes


@pytest.mark.parametrize(
    ("target", "replies", "status", "dsn", "reason", "commands"),
    [
        ("rcpt", {}, SENT, "2.1.5", "250 2.1.5 Ok", ["RSET"]),
        ("data", {}, SENT, "2.0.0", "354 go ahead", ["DATA"]),
        ("data", {"DATA": "550 5.1.1 no"}, "bounced", "5.1.1",
         "host x.test[192.0.2.1] said: 550 5.1.1 no (in reply to DATA command)", ["DATA", "RSET"]),
        ("data", {"RCPT": "550 5.1.1 no"}, "bounced", "5.1.1",
         "host x.test[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO command)", ["DATA"]),
    ],
)  # fmt: skip
def test_what_decides_on_an_address(
    target: str, replies: dict[str, str], status: str, dsn: str, reason: str, commands: list[str]
) -> None:
    for features in ("250-mx\n250 PIPELINING", "250 mx"):
        world, host = world_with_host(smtp_address_verify_target=target)
        host.replies |= {"EHLO": features, **replies}
        (result,) = world.send("x.test", trace="verify")
        assert (result.status, result.dsn, result.reason) == (status, dsn, reason)
        assert not host.messages
        done = [one for one in host.commands if one in ("DATA", "RSET")]
        assert done[: len(commands)] == commands or (features == "250 mx" and "RCPT" in replies and done == ["RSET"])


def test_a_stage_that_is_none() -> None:
    with pytest.raises(ConfigError, match="bad protocol stage: smtp_address_verify_target = foo"):
        World(smtp_address_verify_target="foo")


# --- a server that takes its time


def test_the_least_rate() -> None:
    """With a deadline, a server must take the bytes in time; without, only each piece counts."""
    for deadline, status in (("no", SENT), ("yes", DEFERRED)):
        world, host = world_with_host(
            b"A: b\n\n" + 1_000_000 * b"x" + b"\n", smtp_per_request_deadline=deadline, smtp_min_data_rate="100000",
            smtp_data_xfer_timeout="10s", smtp_line_length_limit="0",
        )
        world.net.pull_every = 5
        (result,) = world.send("x.test")
        assert result.status == status, result.reason
        if status is DEFERRED:
            assert result.reason == "conversation with x.test[192.0.2.1] timed out while sending message body"
            assert not host.messages
