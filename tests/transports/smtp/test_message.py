"""The message and its envelope on the wire: parameters, 8-bit text, sizes, large messages, work-arounds."""

from __future__ import annotations

import quopri
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.interfaces import BOUNCED, DEFERRED, SENT
from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_NEVER,
    NOTIFY_SUCCESS,
    Client,
    Envelope,
    Recipient,
)
from tests.transports.smtp.world import Host, World
from transports.smtp import commands
from transports.smtp.downgrade import Downgrader
from transports.smtp.features import Features
from transports.smtp.replies import Reply

ALL = Features(Reply(250, [b"250-mx", b"250-8BITMIME", b"250-SIZE 1000", b"250-dsn", b"250 SMTPUTF8"]))


def world_with_host(ehlo: str = "", **values: Any) -> tuple[World, Host]:
    world = World(**values)
    world.names.hosts["x.test"] = ["192.0.2.1"]
    replies: dict[str, Any] = {"EHLO": ehlo} if ehlo else {}
    return world, world.host("192.0.2.1", **replies)


def rcpt(recipient: Recipient) -> str:
    return commands.rcpt(recipient, recipient.address, ALL).decode().removeprefix("RCPT TO:").rstrip("\r\n")


def test_mail_parameters() -> None:
    envelope = Envelope("a@x", envid="QQ+314", ret="HDRS", encoding="8bit")
    line = commands.mail(envelope, ALL, 99, sender="a@x", eight_bit=True, utf8=True)
    assert line == b"MAIL FROM:<a@x> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B314\r\n"
    assert commands.mail(envelope, Features(), 99, sender="a@x", eight_bit=True, utf8=True) == b"MAIL FROM:<a@x>\r\n"
    assert commands.mail(Envelope("", encoding="7bit"), ALL, 1, sender="", eight_bit=False, utf8=False) == (
        b"MAIL FROM:<> SIZE=1 BODY=7BIT\r\n"
    )


@pytest.mark.parametrize(
    ("recipient", "line"),
    [
        (Recipient("joe+folder@x"), "<joe+folder@x> ORCPT=rfc822;joe+2Bfolder@x"),
        (Recipient('"quoted local"@x', "q uoted@x"), '<"quoted local"@x> ORCPT=rfc822;q+20uoted@x'),
        (Recipient("a@x", "b@x", "rfc822;c@x"), "<a@x> ORCPT=rfc822;c@x"),
        (Recipient("a@x", notify=NOTIFY_SUCCESS | NOTIFY_DELAY), "<a@x> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@x"),
        (Recipient("a@x", notify=NOTIFY_NEVER), "<a@x> NOTIFY=NEVER ORCPT=rfc822;a@x"),
        (Recipient("a@x", notify=NOTIFY_FAILURE), "<a@x> NOTIFY=FAILURE ORCPT=rfc822;a@x"),
        (Recipient("ü+@x"), "<ü+@x> ORCPT=utf-8;\\x{FC}\\x{2B}@x"),
        (Recipient("a@x", "\udcff@x"), "<a@x>"),
        (Recipient("a@x", "x\r\ny@x"), "<a@x> ORCPT=rfc822;x+0D+0Ay@x"),
    ],
)
def test_rcpt_parameters(recipient: Recipient, line: str) -> None:
    assert rcpt(recipient) == line


@given(st.text(st.characters(codec=None), max_size=30))
@settings(max_examples=200)
def test_no_address_breaks_out_of_its_line(address: str) -> None:
    try:
        line = commands.rcpt(Recipient("a@x", address), address, ALL)
    except commands.BadAddress:
        return
    assert line.count(b"\n") == 1 and line.endswith(b"\r\n") and line.count(b"\r") == 1
    assert line.startswith(b"RCPT TO:<") and b"\0" not in line


def test_bad_addresses_reach_nobody() -> None:
    world, host = world_with_host()
    good, bad = world.send("x.test", "good@x", "b@x> NOTIFY=NEVER\r\nRSET")
    assert (good.status, bad.status, bad.dsn) == (SENT, BOUNCED, "5.1.3")
    assert len([command for command in host.commands if command.startswith("RCPT")]) == 1
    (result,) = world.send("x.test", "a@x", sender="a b\n@x")
    assert (result.status, result.dsn) == (BOUNCED, "5.1.7")


def test_keywords_in_any_case_and_form() -> None:
    features = Features(Reply(250, [b"250-mx", b"250-starttls", b"250-Size=12", b"250-", b"250 \xff"]), {"STARTTLS"})
    assert features.size == 12 and not features.starttls and not features.dsn
    assert Features(Reply(250, [b"250-mx", b"250 SIZE"])).size == 0
    assert Features(Reply(250, [b"250-mx", b"250 SIZE -1x"])).size == 0


def test_messages_larger_than_the_server_takes() -> None:
    world, host = world_with_host("250-mx\n250-8BITMIME\n250 SIZE 1000")
    world.content_of(b"Subject: x\n\n" + b"x" * 989 + b"\n")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (BOUNCED, "5.3.4")
    assert result.reason == "message size 1005 exceeds size limit 1000 of server x.test[192.0.2.1]"
    assert result.details == {"action": "failed"}
    world.content_of(b"Subject: x\n\n" + b"x" * 983 + b"\n")
    assert world.send("x.test")[0].status == SENT
    assert "MAIL FROM:<from@gw.test> SIZE=999" in host.commands


@pytest.mark.parametrize(
    ("encoding", "left", "told"),
    [("", "no", False), ("8bit", "no", False), ("7bit", "no", True), ("8bit", "yes", True)],
)
def test_no_size_is_told_where_the_text_may_change(encoding: str, left: str, told: bool) -> None:
    world, host = world_with_host("250-mx\n250 SIZE", disable_mime_output_conversion=left)
    assert world.send("x.test", encoding=encoding)[0].status == SENT
    assert ("MAIL FROM:<from@gw.test> SIZE=20" in host.commands) is told


def test_eight_bit_parts_are_found_where_nothing_was_declared() -> None:
    part = b"--q\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n\xc3\xa4\n--q--\n"
    for filler in (b"", 3000 * (63 * b"x" + b"\n")):
        world, host = world_with_host("250 mx")
        world.content_of(b"Content-Type: multipart/mixed; boundary=q\n\n" + filler + part)
        assert world.send("x.test")[0].status == SENT
        assert b"=C3=A4" in host.messages[0]
        assert world.send("x.test", encoding="7bit")[0].status == SENT
        assert b"\xc3\xa4" in host.messages[1]


GENERIC = "inline:{ {from@gw.test = me@isp.test}, {@inside.test = all@isp.test} }"
HEADER = b"From: Me <from@gw.test>\nX-To: from@gw.test\nTo: to@x.test,\n  a@inside.test\nReceived: for a@inside.test\n"
TRANSLATED = b"From: Me <me@isp.test>\nX-To: from@gw.test\nTo: to@x.test, all@isp.test\nReceived: for a@inside.test\n"


@pytest.mark.parametrize("body", [b"To: from@gw.test\n", 3000 * (b"To: from@gw.test " + 50 * b"x" + b"\n")])
def test_addresses_as_the_outside_knows_them(body: bytes) -> None:
    world, host = world_with_host(smtp_generic_maps=GENERIC)
    world.content_of(HEADER + b"\n" + body)
    result, other = world.send("x.test", "to@x.test", "b@inside.test")
    assert (result.status, result.recipient, other.status) == (SENT, None, SENT)
    assert host.messages == [(TRANSLATED + b"\n" + body).replace(b"\n", b"\r\n")]
    mail, *rcpts = [command.split(" ")[1] for command in host.commands if command.startswith(("MAIL", "RCPT"))]
    assert (mail, rcpts) == ("FROM:<me@isp.test>", ["TO:<to@x.test>", "TO:<all@isp.test>"])
    assert "RCPT TO:<all@isp.test> ORCPT=rfc822;b@inside.test" in host.commands


def test_generic_maps_that_change_nothing_or_are_away() -> None:
    world, host = world_with_host(smtp_generic_maps="inline:{ {x@y = z@y} }")
    world.content_of(HEADER + b"\nx\n")
    assert world.send("x.test", sender="")[0].status == SENT
    assert host.messages == [(HEADER + b"\nx\n").replace(b"\n", b"\r\n")]
    world, host = world_with_host(smtp_generic_maps="fail:away")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn, host.commands) == (DEFERRED, "4.3.0", [])


def test_utf8_is_not_sent_to_who_cannot_read_it() -> None:
    world, host = world_with_host()
    (result,) = world.send("x.test", "ü@x", smtputf8=True)
    assert (result.status, result.dsn) == (BOUNCED, "5.6.7")
    assert result.reason == "SMTPUTF8 is required, but was not offered by host x.test[192.0.2.1]"
    assert world.send("x.test", "u@x", smtputf8=True)[0].status == SENT
    world.content_of("Subject: ü\n\nx\n".encode())
    assert world.send("x.test", "u@x", smtputf8=True)[0].dsn == "5.6.7"


def test_xforward() -> None:
    world, host = world_with_host("250-mx\n250 XFORWARD NAME ADDR PROTO HELO SOURCE", smtp_send_xforward_command="yes")
    client = Client(name="unknown", address="192.0.2.77", helo="h [x]", protocol="ESMTP", rewrite_context="remote")
    world.send("x.test", client=client)
    assert host.commands[1:3] == [
        "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.77", "XFORWARD PROTO=ESMTP HELO=h+20[x] SOURCE=REMOTE"
    ]


def test_probes_ask_and_send_nothing() -> None:
    for ehlo in ("250-mx\n250 PIPELINING", "250 mx"):
        world, host = world_with_host(ehlo)
        host.on("RCPT", "no@", "550 5.1.1 who is that")
        yes, no = world.send("x.test", "yes@x", "no@x", trace="verify")
        assert (yes.status, yes.reason) == (SENT, "250 2.1.5 Ok")
        assert (no.status, no.dsn) == (BOUNCED, "5.1.1")
        assert not host.messages and "DATA" not in host.commands


LARGE = b"Subject: large\n\n" + (b".line of text\n" * 100 + b"\n") * 400


def test_a_large_message_goes_in_blocks() -> None:
    world, host = world_with_host()
    world.content_of(LARGE)
    assert world.send("x.test")[0].status == SENT
    text = host.messages[0].replace(b"\r\n..", b"\r\n.").replace(b"\r\n", b"\n")
    assert text == LARGE
    assert max(map(len, world.net.wires[0].written)) < 100_000


def test_a_refusal_in_the_middle_stops_the_message() -> None:
    world, host = world_with_host()
    world.content_of(LARGE)
    host.replies["DATA"] = "354 go\n552 5.3.4 too much"
    host.piece = 8
    (result,) = world.send("x.test")
    assert result.status == BOUNCED and "552 5.3.4 too much (in reply to end of DATA command)" in result.reason
    wire = world.net.wires[0]
    assert wire.aborted and not b"".join(wire.written).endswith(b"\r\n.\r\n")


def test_early_success_in_the_middle_is_not_believed() -> None:
    world, host = world_with_host()
    world.content_of(LARGE)
    host.replies["DATA"] = "354 go\n250 2.0.0 Ok"
    host.piece = 8
    (result,) = world.send("x.test")
    assert result.status == DEFERRED and "before the end of the message" in result.reason


def test_a_message_that_cannot_be_read_is_not_ended_with_a_dot() -> None:
    world, host = world_with_host()
    world.content_of(LARGE)
    read = world.content.read

    def fails(count: int | None = -1) -> bytes:
        if world.content.tell() > 100_000:
            raise OSError("disk")
        return read(count)

    world.content.read = fails  # type: ignore[method-assign]
    (result,) = world.send("x.test")
    assert (result.status, result.reason) == (
        DEFERRED, "local data error while talking to x.test[192.0.2.1]"
    )
    assert world.net.wires[0].aborted and not host.messages


def test_lines_that_are_too_long_are_told_once_a_message() -> None:
    world, host = world_with_host(smtp_line_length_limit="20")
    world.content_of(b"A: b\n\n" + b"x" * 50 + b"\nshort\n" + b"y" * 21 + b"\n")
    assert world.send("x.test")[0].status == SENT
    assert host.messages[0].endswith(b"\r\nshort\r\n" + b"y" * 20 + b"\r\n y\r\n")
    assert world.log.text.count("smtp: QID: breaking line > 20 bytes with <CR><LF>SPACE") == 1
    world.content_of(b"A: b\n\nshort\n")
    world.send("x.test")
    assert world.log.text.count("breaking line") == 1


def test_pix() -> None:
    world, host = world_with_host(smtp_pix_workaround_threshold_time="0s", smtp_pix_workaround_delay_time="1s")
    host.replies["CONNECT"] = "220 *****0*******0******"
    began = world.net.seconds()
    assert world.send("x.test")[0].status == SENT
    assert world.net.seconds() - began == 1
    assert host.commands[0] == "HELO gw.test"
    assert "smtp: QID: enabling PIX workarounds: disable_esmtp delay_dotcrlf for x.test[192.0.2.1]:25" in world.log.text
    assert host.messages == [b"Subject: x\r\n\r\nbody\r\n"]


@pytest.mark.parametrize(
    ("values", "command", "names"),
    [
        ({}, "HELO", "disable_esmtp"),  # a fresh message
        ({"smtp_pix_workarounds": "delay_dotcrlf"}, "EHLO", ""),
        ({"smtp_pix_workaround_maps": "inline:{192.0.2.1=}"}, "HELO", "disable_esmtp"),
        ({"smtp_pix_workaround_maps": "inline:{192.0.2.1=delay_dotcrlf}"}, "EHLO", ""),
        ({"smtp_pix_workaround_maps": "inline:{192.0.2.9=delay_dotcrlf}"}, "HELO", "disable_esmtp"),
        ({"smtp_pix_workaround_maps": "fail:away"}, "HELO", "disable_esmtp"),
    ],
)
def test_pix_workarounds(values: dict[str, str], command: str, names: str) -> None:
    world, host = world_with_host(smtp_pix_workaround_delay_time="1s", **values)
    host.replies["CONNECT"] = "220 *****0*******0******"
    began = world.net.seconds()
    assert world.send("x.test")[0].status == SENT
    assert host.commands[0] == f"{command} gw.test" and world.net.seconds() == began
    assert f"enabling PIX workarounds: {names} for x.test[192.0.2.1]:25" in world.log.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, ""),
        ({"smtp_discard_ehlo_keywords": "pipelining, etrn, dsn"}, "discarding EHLO keywords: ETRN PIPELINING DSN"),
        ({"smtp_discard_ehlo_keywords": "pipelining, silent-discard"}, ""),
        (
            {"smtp_discard_ehlo_keyword_address_maps": "inline:{{192.0.2.1=pipelining, dsn}}"},
            "discarding EHLO keywords: PIPELINING DSN",
        ),
    ],
)
def test_discarded_keywords(values: dict[str, str], text: str) -> None:
    world, host = world_with_host(**values)
    assert world.send("x.test")[0].status == SENT
    assert ("discarding" in world.log.text) is bool(text) and text in world.log.text
    discards = any("pipelining" in value for value in values.values())
    assert (host.commands[2] == "RCPT TO:<to@x.test>") is ("dsn" in "".join(values.values()))
    assert len(host.sessions[0].transport.written) == (6 if discards else 4)


def test_a_table_of_keywords_that_is_away() -> None:
    world, host = world_with_host(smtp_discard_ehlo_keyword_address_maps="fail:away")
    (result,) = world.send("x.test")
    assert (result.dsn, result.reason) == ("4.3.0", "local data error while talking to x.test[192.0.2.1]")
    text = "warning: QID: smtp_discard_ehlo_keyword_address_maps map lookup error for 192.0.2.1"
    assert text in world.log.text and not host.sessions


REPLIES = "inline:{ {250 2.1.5 Ok = 450 4.2.0 wait}, {354 go ahead = rubbish}, {250-SIZE=250-X} }"


def test_replies_that_a_table_changes() -> None:
    world, host = world_with_host(smtp_reply_filter=REPLIES)
    for host.piece in (0, 1):
        (result,) = world.send("x.test")
        assert (result.status, result.dsn) == (DEFERRED, "4.2.0")
        assert result.reason == "host x.test[192.0.2.1] said: 450 4.2.0 wait (in reply to RCPT TO command)"
    assert 'x.test[192.0.2.1]:25: replacing server reply "250 2.1.5 Ok" with "450 4.2.0 wait"' in world.log.text
    assert "SIZE" not in host.commands[1]


def test_many_replies_that_a_table_looks_at() -> None:
    world, host = world_with_host(smtp_reply_filter="inline:{ {none=250 x} }")
    results = world.send("x.test", *[f"a{number}@x.test" for number in range(1500)])
    assert {result.status for result in results} == {SENT} and len(host.messages) == 1


def test_replies_that_a_table_spoils() -> None:
    world, host = world_with_host(smtp_reply_filter="inline:{ {354 go ahead = rubbish} }")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (DEFERRED, "4.5.0")
    assert result.reason == "Protocol error: host x.test[192.0.2.1] said: rubbish (while sending DATA command)"
    world, host = world_with_host(smtp_reply_filter="fail:away")
    (result,) = world.send("x.test")
    assert (result.dsn, result.reason) == ("4.3.0", "local data error while talking to x.test[192.0.2.1]")
    assert host.commands == []


def test_helo_by_configuration() -> None:
    world, host = world_with_host(smtp_never_send_ehlo="yes")
    world.send("x.test")
    assert host.commands[0] == "HELO gw.test"
    world, host = world_with_host(smtp_always_send_ehlo="no")
    host.replies["CONNECT"] = "220 mx.test hello"
    world.send("x.test")
    assert host.commands[0] == "HELO gw.test"
    with pytest.raises(ValueError, match="smtp_helo_name"):
        World(smtp_helo_name="a b")


EIGHT_BIT = """\
Subject: 8-bit text
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
From: x

Grüße = viele, und am Ende ein Leerzeichen\x20
.. zwei Punkte
0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 mehr als hundert
""".encode()

AS_POSTFIX_DOES = b"""\
Subject: 8-bit text
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
From: x
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe =3D viele, und am Ende ein Leerzeichen=20
.. zwei Punkte
0123456789012345678901234567890123456789012345678901234567890123456789012=
345678901234567890123456789 mehr als hundert
"""

NESTED = """\
Content-Type: multipart/mixed;
 boundary="a b"
Content-Transfer-Encoding: 8bit

preamble ü
--a b
Content-Type: text/plain
Content-Transfer-Encoding: 8bit

ä
--a b
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
Content-Transfer-Encoding: binary

ö
--a b
Content-Transfer-Encoding: base64

AAAA
--a b--
epilogue
""".encode()


def downgrade(*blocks: bytes) -> bytes:
    return b"".join(Downgrader().convert(blocks))


def test_8bit_text_for_who_takes_7_bits() -> None:
    assert downgrade(EIGHT_BIT) == AS_POSTFIX_DOES
    world, host = world_with_host("250 mx")
    world.content_of(EIGHT_BIT)
    world.send("x.test", encoding="8bit", eight_bit=True)
    assert host.messages[0].replace(b"\r\n..", b"\r\n.") == AS_POSTFIX_DOES.replace(b"\n", b"\r\n")
    world, host = world_with_host("250 mx", disable_mime_output_conversion="yes")
    world.content_of(EIGHT_BIT)
    world.send("x.test", encoding="8bit", eight_bit=True)
    assert "ü".encode() in host.messages[0]


def test_parts_are_encoded_one_by_one() -> None:
    result = downgrade(NESTED)
    assert result == NESTED.replace(b"Transfer-Encoding: 8bit\n\npre", b"Transfer-Encoding: 7bit\n\npre").replace(
        b"Transfer-Encoding: 8bit\n\n\xc3\xa4", b"Transfer-Encoding: quoted-printable\n\n=C3=A4"
    ).replace(b"Transfer-Encoding: 8bit\n\nSub", b"Transfer-Encoding: 7bit\n\nSub").replace(
        b"Transfer-Encoding: binary\n\n\xc3\xb6", b"Transfer-Encoding: quoted-printable\n\n=C3=B6"
    )


@given(st.lists(st.integers(0, len(NESTED)), max_size=6))
@settings(max_examples=60)
def test_every_split_is_encoded_the_same(cuts: list[int]) -> None:
    cuts = sorted(cuts)
    for whole in (NESTED, EIGHT_BIT, b"", b"no header end", b"--\n\n--"):
        pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert downgrade(*pieces) == downgrade(whole)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_quoted_printable_decodes_to_what_it_was(body: bytes) -> None:
    head = b"Content-Transfer-Encoding: binary\n\n"
    result = downgrade(head + body)
    encoded = result.partition(b"\n\n")[2]
    assert encoded.isascii() and all(len(line) <= 76 for line in encoded.split(b"\n"))
    assert quopri.decodestring(encoded) == body


def test_lines_that_could_be_boundaries_cost_little() -> None:
    """Within a hundred parts, each a multipart."""
    parts = b"".join(b"Content-Type: multipart/x; boundary=%03d\n\n--%03d\n" % (one, one) for one in range(100))
    begin = time.perf_counter()
    assert downgrade(parts + b"\n" + b"--\n" * 20_000) == parts + b"\n" + b"--\n" * 20_000
    assert time.perf_counter() - begin < 0.3
