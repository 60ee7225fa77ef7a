"""What a dialogue is more than its replies: order, limits, time, the log, what cleanup gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gateway.interfaces import Rejected
from gateway.smtpd.channel import BUDGET, GRACE, HIGH_WATER
from gateway.smtpd.server import make_service
from gateway.smtpd.transcript import error_class
from spool.envelope import NOTIFY_FAILURE, NOTIFY_SUCCESS
from spool.interfaces import SpoolError
from tests.gateway.smtpd.rig import Client, Rig

MAIL = ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>")
BEGIN = (*MAIL, "DATA")


def begin(rig: Rig, address: str = "192.0.2.7") -> Client:
    client = rig.connect(address)
    assert client.say(*BEGIN)[-1].startswith("354 ")
    return client


# --- a message --------------------------------------------------------------------------------


def test_what_cleanup_gets() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(
        "EHLO client.test",
        "MAIL FROM:<a@b.test> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=e+2B1 SMTPUTF8",
        "RCPT TO:<joe@gw.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;j+2Boe@old.test",
        "RCPT TO:<ann@gw.test>",
        "DATA",
    )
    assert client.send(b"Subject: x\r\n\r\n..a\r\n.\r\n") == "250 2.0.0 Ok: queued as Q1\n"
    (intake,) = rig.cleanup.stored
    assert intake.content == b"Subject: x\n\n.a\n"
    envelope = intake.envelope
    assert (envelope.sender, envelope.encoding, envelope.smtputf8) == ("a@b.test", "8bit", True)
    assert (envelope.ret, envelope.envid, envelope.arrival) == ("HDRS", "e+1", rig.clock.seconds())
    joe, ann = envelope.recipients
    assert (joe.address, joe.orcpt, joe.notify) == (
        "joe@gw.test", "rfc822;j+oe@old.test", NOTIFY_SUCCESS | NOTIFY_FAILURE
    )  # fmt: skip
    assert (ann.address, ann.orcpt, ann.notify) == ("ann@gw.test", "rfc822;ann@gw.test", 0)
    assert (envelope.client.name, envelope.client.address, envelope.client.port) == ("unknown", "192.0.2.7", "4711")
    assert (envelope.client.helo, envelope.client.protocol) == ("client.test", "ESMTP")
    assert envelope.client.rewrite_context == "remote"
    assert intake.received[0] == b"Received: from client.test (unknown [192.0.2.7])"
    assert intake.received[1].startswith(b"\tby gw.test (mailgateway) with UTF8SMTP id %(id)s; ")
    assert len(intake.received) == 2


@pytest.mark.parametrize(
    ("path", "orcpt"),
    [
        ("<@a.test,@b.test:ann@gw.test>", "rfc822;@a.test,@b.test:ann@gw.test"),
        ('<"a n".@gw.test>', 'rfc822;"a n".@gw.test'),
        ("ann@gw.test", "rfc822;ann@gw.test"),
        ("<änn@gw.test>", "utf-8;änn@gw.test"),
        ("<a\u200bnn@gw.test>", ""),
    ],
)
def test_the_original_recipient_is_what_the_client_wrote(path: str, orcpt: str) -> None:
    rig = Rig(local_recipient_maps="")
    client = rig.connect()
    client.say("EHLO client.test", "MAIL FROM:<a@b.test> SMTPUTF8", f"RCPT TO:{path}", "DATA")
    client.send(b"x\r\n.\r\n")
    assert [one.orcpt for one in rig.cleanup.stored[0].envelope.recipients] == [orcpt]


def test_received_can_say_nothing_of_the_client() -> None:
    rig = Rig(smtpd_hide_client_session="yes")
    rig.connect().say("EHLO client.test", "MAIL FROM:<a@x>", "RCPT TO:<joe@gw.test>", "DATA", "x", ".")
    first, second = rig.cleanup.stored[0].received
    assert first == b"Received: by gw.test (mailgateway) id %(id)s" and second.startswith(b"\tfor <joe@gw.test>; ")


def test_received_names_a_single_recipient() -> None:
    rig = Rig()
    client = begin(rig, "2001:db8::7")
    client.send(b"x\r\n.\r\n")
    lines = rig.cleanup.stored[0].received
    assert lines[0] == b"Received: from client.test (unknown [IPv6:2001:db8::7])"
    assert lines[1] == b"\tby gw.test (mailgateway) with ESMTP id %(id)s"
    assert lines[2].startswith(b"\tfor <joe@gw.test>; ")


def test_helo_cannot_put_anything_into_headers() -> None:
    rig = Rig()
    client = rig.connect()
    client.say("EHLO a(b)<c>;d\te\x01f", *BEGIN[1:])
    client.send(b"x\r\n.\r\n")
    assert rig.cleanup.stored[0].received[0] == b"Received: from a?b??c??d?e?f (unknown [192.0.2.7])"


def test_log_of_a_session() -> None:
    rig = Rig()
    client = begin(rig)
    client.send(b"x\r\n.\r\n")
    client.say("QUIT")
    assert client.closed
    assert rig.lines == [
        "connect from unknown[192.0.2.7]",
        "Q1: client=unknown[192.0.2.7]",
        "disconnect from unknown[192.0.2.7] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
    ]


def test_two_messages_in_one_session() -> None:
    rig = Rig()
    client = begin(rig)
    assert client.send(b"one\r\n.\r\n").startswith("250 ")
    client.say(*BEGIN[1:])
    assert client.send(b"two\r\n.\r\n").startswith("250 ")
    assert [intake.content for intake in rig.cleanup.stored] == [b"one\n", b"two\n"]


@pytest.mark.parametrize(
    "failure, reply",
    [
        (Rejected(550, "5.7.1", "no"), "550 5.7.1 no"),
        (SpoolError("disk full", no_room=True), "452 4.3.1 Insufficient system storage"),
        (SpoolError("broken"), "451 4.3.0 Error: queue file write error"),
        (RuntimeError("bug"), "451 4.3.0 Error: queue file write error"),
    ],
)
def test_failures_at_the_end_leave_the_session_alive(failure: Exception, reply: str) -> None:
    rig = Rig()
    rig.cleanup.failure = failure
    client = begin(rig)
    assert client.send(b"x\r\n.\r\n") == reply + "\n"
    rig.cleanup.failure = None
    assert client.say(*BEGIN[1:])[-1].startswith("354 ")
    assert client.send(b"x\r\n.\r\n").startswith("250 ")


def test_no_room_at_the_beginning() -> None:
    rig = Rig()
    rig.cleanup.refuse_begin = SpoolError("full", no_room=True)
    assert rig.connect().say(*BEGIN)[-1] == "452 4.3.1 Insufficient system storage"


def test_a_bug_in_a_command_is_451_and_the_session_goes_on() -> None:
    rig = Rig()
    rig.cleanup.refuse_begin = RuntimeError("bug")
    client = rig.connect()
    assert client.say(*BEGIN)[-1] == "451 4.3.0 Error: internal error"
    assert client.say("NOOP") == ["250 2.0.0 Ok"]
    assert any("internal: DATA from unknown[192.0.2.7]: RuntimeError: bug" in line for line in rig.lines)


def test_little_free_space() -> None:
    rig = Rig(free=12_000_000)
    client = rig.connect()
    assert client.say(*MAIL[:2])[-1] == "452 4.3.1 Insufficient system storage"
    assert "NOQUEUE: reject: MAIL from unknown[192.0.2.7]: 452 4.3.1 Insufficient system storage; proto=ESMTP " \
        "helo=<client.test>" in rig.lines  # fmt: skip


# --- order (one command at a time) --------------------------------------------------------------------------------


def test_pipelined_commands_wait_for_a_slow_reply() -> None:
    rig = Rig(
        smtpd_recipient_restrictions="check_recipient_access inline:{{joe@gw.test = sleep 2}} reject_unauth_destination"
    )
    client = rig.connect()
    client.say(*MAIL[:2])
    assert client.send(b"RCPT TO:<joe@gw.test>\r\nRCPT TO:<x@else.test>\r\nRSET\r\nNOOP\r\n") == ""
    rig.clock.advance(2.5)
    replies = client.got().splitlines()
    assert [reply[:3] for reply in replies] == ["250", "454", "250", "250"]


def test_commands_behind_a_message_wait_for_its_reply() -> None:
    rig = Rig(smtpd_forbid_unauth_pipelining="no")
    rig.cleanup.wait = Deferred()
    client = begin(rig)
    assert client.send(b"x\r\n.\r\nMAIL FROM:<b@b.test>\r\nQUIT\r\n") == ""
    rig.cleanup.wait.callback(None)
    assert [line[:3] for line in client.got().splitlines()] == ["250", "250", "221"]


def test_whole_session_in_one_segment() -> None:
    rig = Rig(smtpd_forbid_unauth_pipelining="no")
    client = rig.connect()
    text = "\r\n".join([*BEGIN, "Subject: x", "", "body", ".", *BEGIN[1:], "two", ".", "QUIT", ""])
    codes = [line[:4] for line in client.send(text).splitlines()]
    assert [code[:3] for code in codes if code[3] == " "] == [
        "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"
    ]  # fmt: skip
    assert [intake.content for intake in rig.cleanup.stored] == [b"Subject: x\n\nbody\n", b"two\n"]


def test_talking_ahead_is_refused_by_default() -> None:
    rig = Rig()
    client = rig.connect()
    replies = client.send("\r\n".join([*BEGIN, "Subject: x", "", "body", ".", ""]))
    assert replies == "554 5.5.0 Error: SMTP protocol synchronization\n"
    assert client.closed and not rig.cleanup.begun
    assert rig.lines[1].startswith(
        "improper command pipelining after EHLO from unknown[192.0.2.7]: MAIL FROM:<a@b.test>"
    )


def test_ordinary_pipelining_is_no_talking_ahead() -> None:
    rig = Rig()
    client = rig.connect()
    client.say("EHLO x")
    replies = client.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<joe@gw.test>\r\nDATA\r\n").splitlines()
    assert [reply[:3] for reply in replies] == ["250", "250", "354"]
    assert not any("improper" in line for line in rig.lines)


def test_others_get_a_turn() -> None:
    rig = Rig(smtpd_junk_command_limit="100000")
    client = rig.connect()
    client.say("EHLO x")
    client.protocol.dataReceived(b"RSET\r\n" * (BUDGET * 3))
    first = client.transport.value().count(b"250 ")
    assert first <= BUDGET
    client.transport.clear()
    assert first + client.got().count("250 ") == BUDGET * 3


# --- line ends --------------------------------------------------------------------------------


def test_bare_lf_is_no_end_of_data() -> None:
    rig = Rig()
    client = begin(rig)
    assert client.send(b"a\n.\nMAIL FROM:<evil@x.test>\r\n") == ""
    assert client.send(b".\r\n").startswith("250 ")
    assert b"MAIL FROM:<evil@x.test>\n" in rig.cleanup.stored[0].content


def test_bare_lf_is_an_end_for_exempt_clients() -> None:
    rig = Rig()
    client = begin(rig, "10.0.0.1")
    assert client.send(b"a\n.\n").startswith("250 ")
    assert client.say("NOOP") == ["250 2.0.0 Ok"]


def test_bare_lf_refused() -> None:
    rig = Rig(smtpd_forbid_bare_newline="reject")
    client = begin(rig)
    assert client.send(b"a\nb\r\n.\r\n") == "550 5.5.2 gw.test Error: bare <LF> received\n"
    assert rig.cleanup.begun[0].state == "aborted"
    assert client.send(b"NOOP\n") == "550 5.5.2 gw.test Error: bare <LF> received\n"
    assert client.closed


def test_commands_may_end_in_lf() -> None:
    assert Rig().connect().send(b"NOOP\n") == "250 2.0.0 Ok\n"


def test_a_long_command_is_cut_and_answered_once() -> None:
    rig = Rig()
    client = rig.connect()
    assert client.send(b"X" * 100_000 + b"\r\nNOOP\r\n").splitlines() == [
        "500 5.5.2 Error: command not recognized", "250 2.0.0 Ok"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line, reply",
    [
        (b"\xff\xfe", "500 5.5.2 Error: bad UTF-8 syntax"),
        (b"", "500 5.5.2 Error: bad syntax"),
        (b"NO\0OP", "500 5.5.2 Error: command not recognized"),
        (b"HELP", "500 5.5.2 Error: command not recognized"),
        (b'MAIL FROM:<"a\x01b"@c.test>', "501 5.1.7 Bad sender address syntax"),
        (b"BDAT", "521 5.5.4 Syntax: BDAT count [LAST]"),
        (b"BDAT 0x10 LAST", "521 5.5.4 Syntax: BDAT count [LAST]"),
        (b"BDAT 99999999999999999999 LAST", "521 5.5.4 Syntax: BDAT count [LAST]"),
        (b"XCLIENT ADDR=1.2.3.4", "550 5.7.0 Error: insufficient authorization"),
        (b"XFORWARD ADDR=1.2.3.4", "550 5.7.0 Error: insufficient authorization"),
        (b"AUTH", "503 5.5.1 Error: authentication not enabled"),
        (b"STARTTLS", "502 5.5.1 Error: command not implemented"),
    ],
)
def test_odd_commands(line: bytes, reply: str) -> None:
    assert Rig().connect().send(line + b"\r\n") == reply + "\n"


@pytest.mark.parametrize("line", ["GET / HTTP/1.0", "CONNECT x:25 HTTP/1.0", "POST / HTTP/1.1", "Host: x", "."])
def test_other_protocols_are_hung_up_on(line: str) -> None:
    rig = Rig()
    client = rig.connect()
    assert client.say(line) == ["221 2.7.0 Error: I can break rules, too. Goodbye."]
    assert client.closed
    assert f"warning: non-SMTP command from unknown[192.0.2.7]: {line}" in rig.lines


# --- BDAT --------------------------------------------------------------------------------


def test_bdat() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL)
    assert client.send(b"BDAT 14\r\nSubject: x\r\n\r\n") == "250 2.0.0 Ok: 14 bytes\n"
    assert client.send(b"BDAT 10 LAST\r\n.\r\n..\r\na\r\n") == "250 2.0.0 Ok: 24 bytes queued as Q1\n"
    assert rig.cleanup.stored[0].content == b"Subject: x\n\n.\n..\na\n"


def test_bdat_line_end_across_chunks() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL)
    client.send(b"BDAT 2\r\na\r")
    client.send(b"BDAT 4 LAST\r\n\n.\r\n")
    assert rig.cleanup.stored[0].content == b"a\n.\n"


def test_bdat_content_is_never_taken_for_commands() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL[:2])
    assert client.send(b"BDAT 6 LAST\r\nNOOP\r\nRSET\r\n").splitlines() == [
        "554 5.5.1 Error: no valid recipients", "250 2.0.0 Ok"
    ]  # fmt: skip


def test_bdat_after_an_error() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL)
    assert client.send(b"BDAT 0\r\n") == "551 5.7.1 Null BDAT request\n"
    assert client.send(b"BDAT 3\r\nabc") == "551 5.0.0 Discarded 3 bytes after earlier error\n"
    assert client.say("MAIL FROM:<x@y.test>", "DATA") == [
        "503 5.5.1 Error: MAIL after BDAT", "503 5.5.1 Error: DATA after BDAT"
    ]  # fmt: skip
    assert client.send(b"BDAT 3 LAST\r\nabc").startswith("551 ")
    assert client.say("MAIL FROM:<x@y.test>") == ["250 2.1.0 Ok"]
    assert not rig.cleanup.stored


def test_bdat_beyond_the_size_limit() -> None:
    rig = Rig(message_size_limit="10")
    client = rig.connect()
    client.say(*MAIL)
    client.send(b"BDAT 6\r\nabcdef")
    assert client.send(b"BDAT 6 LAST\r\nabcdef") == "552 5.3.4 Chunk exceeds message size limit\n"
    assert rig.cleanup.begun[0].state == "aborted"


def test_rset_gives_up_chunks() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL)
    client.send(b"BDAT 3\r\nabc")
    assert client.say("RSET", "DATA") == ["250 2.0.0 Ok", "503 5.5.1 Error: need RCPT command"]
    assert rig.cleanup.begun[0].state == "aborted"


# --- limits --------------------------------------------------------------------------------


def test_hard_error_limit() -> None:
    rig = Rig(smtpd_hard_error_limit="3")
    client = rig.connect()
    replies = client.say("X", "X", "X")
    assert replies[-1] == "500 5.5.2 Error: command not recognized\n421 4.7.0 gw.test Error: too many errors"
    assert client.closed
    assert "too many errors after UNKNOWN from unknown[192.0.2.7]" in rig.lines


def test_soft_errors_slow_down() -> None:
    rig = Rig(smtpd_soft_error_limit="2", smtpd_error_sleep_time="5")
    client = rig.connect()
    client.say("X", "X")
    assert client.say("NOOP") == [""]
    rig.clock.advance(5)
    assert client.got() == "250 2.0.0 Ok\n"


def test_junk_becomes_errors() -> None:
    rig = Rig(smtpd_junk_command_limit="3", smtpd_hard_error_limit="2")
    client = rig.connect()
    replies = client.say(*["NOOP"] * 7)
    assert "421 4.7.0 gw.test Error: too many errors" in replies[-1] or client.closed


def test_a_message_forgives_junk() -> None:
    rig = Rig(smtpd_junk_command_limit="3", smtpd_hard_error_limit="2")
    client = begin(rig)
    for _ in range(5):
        client.send(b"x\r\n.\r\n")
        assert client.say(*BEGIN[1:])[-1].startswith("354")
    assert len(rig.cleanup.stored) == 5


def test_recipient_limit_and_overshoot() -> None:
    rig = Rig(smtpd_recipient_limit="1", smtpd_recipient_overshoot_limit="2", smtpd_hard_error_limit="1")
    client = rig.connect()
    client.say(*MAIL)
    assert client.say(*["RCPT TO:<ann@gw.test>"] * 2) == ["452 4.5.3 Error: too many recipients"] * 2
    assert client.say("RCPT TO:<ann@gw.test>")[0].endswith("421 4.7.0 gw.test Error: too many errors")


def test_connection_count_limit_by_network() -> None:
    rig = Rig(smtpd_client_connection_count_limit="2")
    first, _ = rig.connect("2001:db8::1"), rig.connect("2001:db8::2")
    third = rig.connect("2001:db8::3", greet=False)
    assert third.got() == "421 4.7.0 gw.test Error: too many connections from 2001:db8::3\n"
    assert third.closed
    assert any("Connection concurrency limit exceeded: 3 from" in line for line in rig.lines)
    rig.connect("2001:db9::1")
    rig.connect("10.0.0.1"), rig.connect("10.0.0.1"), rig.connect("10.0.0.1")
    first.go_away()
    third.go_away()
    rig.connect("2001:db8::4")


def test_rates() -> None:
    rig = Rig(
        smtpd_client_message_rate_limit="1",
        smtpd_client_recipient_rate_limit="2",
        smtpd_client_connection_rate_limit="2",
    )
    client = rig.connect()
    assert client.say("EHLO x", "MAIL FROM:<a@b.test>", *["RCPT TO:<joe@gw.test>"] * 3)[2:] == [
        "250 2.1.5 Ok", "250 2.1.5 Ok", "450 4.7.1 Error: too many recipients from 192.0.2.7"
    ]  # fmt: skip
    assert client.say("RSET", "MAIL FROM:<a@b.test>")[-1] == "450 4.7.1 Error: too much mail from 192.0.2.7"
    rig.connect()
    assert rig.connect(greet=False).got() == "421 4.7.0 gw.test Error: too many connections from 192.0.2.7\n"
    rig.clock.advance(60)
    assert client.say("MAIL FROM:<a@b.test>") == ["250 2.1.0 Ok"]


def test_process_limit() -> None:
    rig = Rig(process_limit=1)
    rig.connect()
    second = rig.connect(greet=False)
    assert second.got() == "421 4.7.0 gw.test Error: too many connections\n"
    assert second.closed
    assert rig.factory.status() == {"connections": 2, "accepted": 1, "refused": 1}


def test_as_many_clients_as_there_is_room_for() -> None:
    rig = Rig()
    rig.room.most_clients = 2
    first = rig.connect()
    rig.connect()
    for _ in range(3):
        assert rig.connect(greet=False).got() == "421 4.7.0 gw.test Error: too many connections\n"
    told = "warning: 2 clients are connected, as many as can be: others are sent away with 421"
    assert rig.lines.count(told) == 1
    assert rig.room.clients == 5
    first.go_away()
    assert rig.room.clients == 4


def test_as_many_messages_as_there_is_room_for() -> None:
    rig = Rig()
    rig.room.most_messages = 1
    one, two = rig.connect(), rig.connect()
    for client in (one, two):
        client.say("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<ann@gw.test>")
    assert one.say("DATA")[0].startswith("354")
    for command in ("DATA\r\n", "BDAT 1 LAST\r\nx"):
        assert two.send(command) == "451 4.3.2 Error: too many messages at a time, try again later\n"
    assert one.say("x\r\n.")[0].startswith("250")
    assert rig.room.messages == 0
    assert two.say("MAIL FROM:<a@b.test>", "RCPT TO:<ann@gw.test>", "DATA")[-1].startswith("354")
    two.go_away()
    assert rig.room.messages == 0


def test_a_pause_before_each_message_while_more_comes_in_than_goes_out() -> None:
    rig = Rig()
    rig.room.pause = 1.0
    client = rig.connect()
    client.say("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<ann@gw.test>")
    assert client.say("DATA") == [""]
    rig.clock.advance(1)
    assert client.got().startswith("354")


# --- time --------------------------------------------------------------------------------


def wait(rig: Rig, seconds: int) -> None:
    rig.clock.pump([1] * seconds)


def test_a_client_that_says_nothing() -> None:
    rig = Rig(smtpd_timeout="30")
    client = rig.connect()
    wait(rig, 31)
    assert client.got() == "421 4.4.2 gw.test Error: timeout exceeded\n"
    assert client.closed and not client.transport.aborted
    assert "timeout after CONNECT from unknown[192.0.2.7]" in rig.lines
    wait(rig, int(GRACE) + 2)
    assert client.transport.aborted


def test_a_command_byte_by_byte_has_one_deadline() -> None:
    rig = Rig(smtpd_timeout="30")
    client = rig.connect()
    for _ in range(40):
        client.send(b"E")
        rig.clock.advance(1)
    assert client.closed


def test_content_may_be_slow_as_long_as_it_comes() -> None:
    rig = Rig(smtpd_timeout="30")
    client = begin(rig)
    for _ in range(5):
        wait(rig, 20)
        assert client.send(b"x\r\n") == ""
    assert client.send(b".\r\n").startswith("250 ")
    client.say(*BEGIN[1:])
    client.send(b"half")
    wait(rig, 31)
    assert client.closed
    assert "timeout after DATA (4 bytes) from unknown[192.0.2.7]" in rig.lines
    assert rig.cleanup.begun[1].state == "aborted"


def test_time_does_not_run_while_we_work() -> None:
    rig = Rig(smtpd_timeout="30")
    rig.cleanup.wait = Deferred()
    client = begin(rig)
    client.send(b"x\r\n.\r\n")
    wait(rig, 100)
    rig.cleanup.wait.callback(None)
    assert client.got() == "250 2.0.0 Ok: queued as Q1\n"


def test_a_client_that_does_not_read() -> None:
    rig = Rig(smtpd_junk_command_limit="100000", smtpd_timeout="30")
    client = rig.connect()
    client.say("EHLO x")
    client.protocol.pauseProducing()
    assert client.send(b"RSET\r\n" * 50_000).count("250 ") <= 1
    assert client.transport.producerState == "paused"
    client.protocol.resumeProducing()
    assert client.got().count("250 ") >= BUDGET
    client.protocol.pauseProducing()
    client.got()
    wait(rig, 35)
    assert client.closed


def test_input_is_held_back_while_a_command_is_at_work() -> None:
    rig = Rig()
    rig.cleanup.wait = Deferred()
    client = begin(rig)
    client.send(b"x\r\n.\r\n")
    client.send(b"N" * (HIGH_WATER + 10))
    assert client.transport.producerState == "paused"
    rig.cleanup.wait.callback(None)
    assert client.transport.producerState == "producing"


def test_a_slow_disk_holds_up_the_client() -> None:
    rig = Rig()
    client = begin(rig)
    (intake,) = rig.cleanup.begun
    intake.room = Deferred()
    for _ in range(HIGH_WATER // 10_000 + 2):
        client.send(b"x" * 9_998 + b"\r\n")
    assert client.transport.producerState == "paused"
    room, intake.room = intake.room, None
    room.callback(None)
    assert client.transport.producerState == "producing"
    assert client.send(b".\r\n").startswith("250 ")
    assert len(intake.content) == 9_999 * (HIGH_WATER // 10_000 + 2)


# --- the client goes --------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [b"\r\n", b"\r\n.", b"\r\n.\r"])
def test_half_a_message_is_dropped(tail: bytes) -> None:
    rig = Rig()
    client = begin(rig)
    client.send(b"half" + tail)
    client.go_away()
    assert rig.cleanup.begun[0].state == "aborted"
    assert f"lost connection after DATA ({4 + len(tail)} bytes) from unknown[192.0.2.7]" in rig.lines
    assert rig.lines[-1] == "disconnect from unknown[192.0.2.7] ehlo=1 mail=1 rcpt=1 data=0/1 commands=3/4"


def test_lost_after_a_command() -> None:
    rig = Rig()
    client = rig.connect()
    client.say(*MAIL)
    client.go_away()
    assert rig.lines[-2:] == [
        "lost connection after RCPT from unknown[192.0.2.7]",
        "disconnect from unknown[192.0.2.7] ehlo=1 mail=1 rcpt=1 commands=3",
    ]


def test_a_client_that_leaves_at_once() -> None:
    rig = Rig()
    rig.connect().go_away()
    assert rig.lines[-1] == "disconnect from unknown[192.0.2.7] commands=0/0"


def test_lost_while_the_message_is_stored() -> None:
    rig = Rig()
    rig.cleanup.wait = Deferred()
    client = begin(rig)
    client.send(b"x\r\n.\r\n")
    client.go_away()
    rig.cleanup.wait.callback(None)
    assert rig.cleanup.begun[0].state == "stored"
    assert rig.factory.status()["connections"] == 0
    assert rig.lines[-1].startswith("disconnect from ")


def test_nothing_after_quit() -> None:
    client = Rig().connect()
    client.say("EHLO x")
    assert client.send(b"QUIT\r\nMAIL FROM:<a@b.test>\r\n") == "221 2.0.0 Bye\n"
    assert client.send(b"NOOP\r\n") == ""


# --- the postmaster hears of it ---------------------------------------------------------------------------------------


def reported(rig: Rig) -> list[tuple[set[str], str, list[str]]]:
    """Install somebody who listens; what he was told."""
    told: list[tuple[set[str], str, list[str]]] = []

    async def report(errors: Any, peer: str, lines: Any, aborted: str) -> None:
        told.append((set(errors), peer, [*lines, aborted] if aborted else list(lines)))

    service = make_service(rig.settings, replace(rig.collaborators(), report_session=report))
    rig.factory.reload(service)
    return told


def test_the_postmaster_is_told_why_a_session_was_aborted() -> None:
    rig = Rig(notify_classes="protocol", smtpd_hard_error_limit="1", smtpd_error_sleep_time="0")
    told = reported(rig)
    rig.connect().say("HELO x", "FOO")
    ((_, _, lines),) = told
    assert lines[-2:] == [" Out: 421 4.7.0 gw.test Error: too many errors", "too many errors"]


def test_the_postmaster_is_told_of_resource_errors() -> None:
    rig = Rig(free=0)
    told = reported(rig)
    client = rig.connect()
    client.say("HELO x", "MAIL FROM:<a@b.test>", "AUTH PLAIN c2VjcmV0", "QUIT")
    assert told == [
        (
            {"resource", "protocol"},
            "unknown[192.0.2.7]",
            [
                " Out: 220 gw.test ESMTP mailgateway", " In:  HELO x", " Out: 250 gw.test",
                " In:  MAIL FROM:<a@b.test>", " Out: 452 4.3.1 Insufficient system storage",
                " In:  AUTH *", " Out: 503 5.5.1 Error: authentication not enabled",
                " In:  QUIT", " Out: 221 2.0.0 Bye",
            ],
        )
    ]  # fmt: skip


@pytest.mark.parametrize("classes, number", [("", 0), ("policy", 1), ("protocol", 0)])
def test_only_what_notify_classes_names_is_reported(classes: str, number: int) -> None:
    rig = Rig(notify_classes=classes)
    told = reported(rig)
    rig.connect().say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<x@else.test>", "QUIT")
    assert len(told) == number


def test_a_transcript_does_not_grow_for_ever() -> None:
    rig = Rig(notify_classes="policy", smtpd_history_flush_threshold="20", smtpd_junk_command_limit="1000")
    told = reported(rig)
    client = rig.connect()
    client.say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<x@else.test>", *["RSET"] * 30)
    assert len(told) == 1
    client.say("QUIT")
    assert len(told) == 1


@pytest.mark.parametrize(
    "reply, kind",
    [
        ("452 4.3.1 Insufficient system storage", "resource"),
        ("451 4.3.0 Error: queue file write error", "resource"),
        ("451 4.3.5 Server configuration error", "software"),
        ("451 4.3.0 <x>: Temporary lookup failure", "data"),
        ("500 5.5.2 Error: command not recognized", "protocol"),
        ("501 Syntax: EHLO hostname", "protocol"),
        ("501 5.1.3 Bad recipient address syntax", "protocol"),
        ("554 5.7.1 <x@y>: Relay access denied", "policy"),
        ("550 5.1.1 <x@y>: Recipient address rejected", "policy"),
    ],
)
def test_classes_of_errors(reply: str, kind: str) -> None:
    assert error_class(reply) == kind


def test_replies_to_a_group_of_commands_go_out_together() -> None:
    rig = Rig(
        smtpd_recipient_restrictions="check_recipient_access inline:{{joe@gw.test = sleep 2}} reject_unauth_destination"
    )
    client = rig.connect()
    client.say("EHLO x")
    assert client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<joe@gw.test>\r\nDATA\r\n") == ""
    rig.clock.advance(2)
    assert [line[:3] for line in client.got().splitlines()] == ["250", "250", "354"]
