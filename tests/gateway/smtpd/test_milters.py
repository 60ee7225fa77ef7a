"""Milters during an SMTP session: what they hear, and what their answers mean for the client."""

from __future__ import annotations

import pytest

from gateway.config import ConfigError
from gateway.content.milter import protocol
from tests.gateway.milters import FakeMilter, Reactor
from tests.gateway.smtpd.rig import Rig as PlainRig

REJECT, TEMPFAIL, DISCARD, ACCEPT = [(b"r", b"")], [(b"t", b"")], [(b"d", b"")], [(b"a", b"")]
TEMPORARY = "451 4.7.1 Service unavailable - try again later"
FULL_REPLY = [(b"y", b"550 5.7.1 Not you\0")]


class Rig(PlainRig):
    reactor = Reactor

    def __init__(self, *milters, **settings):
        names = " ".join(f"inet:127.0.0.1:{8000 + at}" for at in range(len(milters)))
        settings.setdefault("smtpd_milters", names or "inet:127.0.0.1:8000")
        super().__init__(**settings)
        self.clock.milters = {8000 + at: milter for at, milter in enumerate(milters)}

    def client(self, greeting="220 gw.test ESMTP mailgateway\n"):
        client = self.connect(greet=False)
        assert client.got() == greeting
        return client


MAIL = ("EHLO c.test", "MAIL FROM:<a@b.test> SIZE=9", "RCPT TO:<joe@gw.test>")


def test_they_hear_everything_in_order():
    milter = FakeMilter()
    rig = Rig(milter)
    client = rig.client()
    assert client.say(*MAIL, "DATA")[1:] == ["250 2.1.0 Ok", "250 2.1.5 Ok", "354 End data with <CR><LF>.<CR><LF>"]
    client.send("x\r\n.\r\nQUIT\r\n")
    assert milter.commands() == "OCHMRTAQ"  # this cleanup asks nothing of them
    assert milter.data(b"C") == [b"[192.0.2.7]\x004\x12\x67192.0.2.7\0"]
    assert milter.data(b"H") == [b"c.test\0"] and milter.data(b"M") == [b"<a@b.test>\0SIZE=9\0"]
    assert milter.data(b"R") == [b"<joe@gw.test>\0"]
    assert rig.cleanup.stored[0].options.chain is not None


def test_macros():
    wanted = b"\0\0\0\3{rcpt_addr} {client_addr}\0"
    milter = FakeMilter(symbols=wanted)
    rig = Rig(milter, milter_mail_macros="{mail_addr} {auth_type} extra", milter_macro_defaults="extra=given")
    rig.client().say(*MAIL, "DATA")
    assert milter.macros[b"C"][b"j"] == b"gw.test" and milter.macros[b"C"][b"_"] == b"unknown [192.0.2.7]"
    assert milter.macros[b"M"] == {b"{mail_addr}": b"a@b.test", b"{extra}": b"given"}
    assert milter.macros[b"R"] == {b"{rcpt_addr}": b"joe@gw.test", b"{client_addr}": b"192.0.2.7"}
    assert milter.macros[b"T"] == {b"i": b"Q1"}


@pytest.mark.parametrize(
    "command, answer, replies",
    [
        (b"M", REJECT, ["550 5.7.1 Command rejected", "503 5.5.1 Error: need MAIL command"]),
        (b"M", TEMPFAIL, [TEMPORARY, "503 5.5.1 Error: need MAIL command"]),
        (b"R", FULL_REPLY, ["250 2.1.0 Ok", "550 5.7.1 Not you"]),
        (b"R", [(b"p", b""), *REJECT], ["250 2.1.0 Ok", "550 5.7.1 Command rejected"]),
        (b"R", [(b"y", b"451 4.7.1 a\r\n451 b\0")], ["250 2.1.0 Ok", "451-4.7.1 a\n451 b"]),
        (b"H", FULL_REPLY, ["550 5.7.1 Not you", "503 5.5.1 Error: need MAIL command"]),
        (b"R", DISCARD, ["250 2.1.0 Ok", "250 2.1.5 Ok"]),
        (b"R", [(b"y", b"550 5.7.1 100%% or 100%\0")], ["250 2.1.0 Ok", "550 5.7.1 100% or 100"]),
        (b"R", [(b"s", b"")], ["250 2.1.0 Ok", "250 2.1.5 Ok"]),
    ],
)
def test_answers(command, answer, replies):
    assert Rig(FakeMilter({command: answer})).client().say(*MAIL)[1:] == replies


def test_a_refused_connection():
    rig = Rig(FakeMilter({b"C": REJECT}))
    client = rig.client("554 gw.test ESMTP not accepting connections\n")
    assert client.say("EHLO x", "MAIL FROM:<a@b.test>") == [
        "250-gw.test\n250 ENHANCEDSTATUSCODES", "550 5.7.1 Command rejected"
    ]
    refusal = "550 5.7.1 Command rejected; proto=SMTP"
    assert f"NOQUEUE: milter-reject: CONNECT from unknown[192.0.2.7]: {refusal}" in rig.lines


def test_421_hangs_up():
    client = Rig(FakeMilter({b"M": [(b"4", b"")]})).client()
    assert client.say("EHLO x", "MAIL FROM:<a@b.test>")[1] == "421 4.7.0 Server closing connection" and client.closed
    rig = Rig(FakeMilter({b"C": [(b"y", b"421 4.3.2 later\0")]}))
    assert rig.client("421 gw.test Service unavailable - try again later\n").closed


def test_refused_at_data():
    milter = FakeMilter({b"T": REJECT})
    rig = Rig(milter)
    client = rig.client()
    assert client.say(*MAIL, "DATA")[-1] == "550 5.7.1 Command rejected"
    assert [one.state for one in rig.cleanup.begun] == ["aborted"]
    milter.script.clear()
    assert client.say("DATA")[0].startswith("354")
    assert client.send("x\r\n.\r\n").startswith("250 2.0.0 Ok")


def test_discarded_and_held():
    rig = Rig(FakeMilter({b"R": DISCARD}))
    client = rig.client()
    client.say(*MAIL, "DATA")
    assert rig.cleanup.begun[0].discard
    line = "from=<a@b.test> to=<joe@gw.test> proto=ESMTP helo=<c.test>"
    assert f"NOQUEUE: milter-discard: RCPT from unknown[192.0.2.7]: milter triggers DISCARD action; {line}" in rig.lines
    rig = Rig(milter_default_action="quarantine")
    client = rig.client()
    client.say(*MAIL, "DATA")
    assert rig.cleanup.begun[0].hold


def test_accept_ends_it_for_the_message_or_the_session():
    milter = FakeMilter({b"M": ACCEPT})
    client = Rig(milter).client()
    client.say(*MAIL, "RSET", *MAIL[1:])
    assert milter.commands() == "OCHMM"
    milter = FakeMilter({b"H": ACCEPT})
    client = Rig(milter).client()
    client.say(*MAIL, "RSET", *MAIL[1:])
    assert milter.commands() == "OCH"


def test_rset_aborts():
    milter = FakeMilter()
    Rig(milter).client().say(*MAIL, "RSET", "NOOP", "BLAH")
    assert milter.commands() == "OCHMRAU"


def test_what_they_need_not_hear_and_not_answer():
    milter = FakeMilter(options=protocol.NO_HELO | protocol.SILENT[b"M"])
    assert Rig(milter).client().say(*MAIL)[1:] == ["250 2.1.0 Ok", "250 2.1.5 Ok"]
    assert milter.commands() == "OCMR"


def test_refused_recipients_for_those_who_want_them():
    milter, other = FakeMilter(options=protocol.WANTS_REJECTED), FakeMilter()
    client = Rig(milter, other).client()
    assert client.say(*MAIL[:2], "RCPT TO:<nobody@gw.test>")[2].startswith("550 5.1.1")
    assert milter.commands() == "OCHMR" and milter.macros[b"R"][b"{rcpt_mailer}"] == b"error"
    assert milter.macros[b"R"][b"{rcpt_host}"] == b"5.1.1"
    assert milter.macros[b"R"][b"{rcpt_addr}"].startswith(b"Recipient address rejected: User unknown")
    assert other.commands() == "OCHM"


def test_the_first_refusal_counts():
    first, second = FakeMilter({b"M": REJECT}), FakeMilter()
    client = Rig(first, second).client()
    client.say(*MAIL)
    assert (first.commands(), second.commands()) == ("OCHMA", "OCH")


@pytest.mark.parametrize(
    "action, reply",
    [
        ("tempfail", TEMPORARY), ("reject", "550 5.5.0 Service unavailable"), ("accept", "250 2.1.0 Ok"),
        ("quarantine", "250 2.1.0 Ok"), ("shutdown", "421 4.7.0 Server closing connection"),
    ],
)
@pytest.mark.parametrize(
    "answer, why",
    [
        (None, "can't read SMFIC_MAIL reply packet header: Application error"),
        ([b"\xff\xff\xff\xffx"], "unreasonable packet length: 4294967295 > 1073741823"),
        ([(b"z", b"")], "unexpected filter response (unknown filter reply) after event SMFIC_MAIL"),
        ([(b"h", b"X-A\0b\0")], "unexpected filter response SMFIR_ADDHEADER after event SMFIC_MAIL"),
    ],
)
def test_one_that_fails(action, reply, answer, why):
    rig = Rig(FakeMilter({b"M": answer}), milter_default_action=action)
    client = rig.client()
    assert client.say("EHLO x", "MAIL FROM:<a@b.test>")[1] == reply
    assert f"warning: milter inet:127.0.0.1:8000: {why}" in rig.lines


@pytest.mark.parametrize("text", [b"200 fine", b"550", b"550 4.7.1 Of two kinds", b"5x0 a", b"", b"550~a"])
@pytest.mark.parametrize(
    "action, reply",
    [
        ("tempfail", "451 4.3.5 Server configuration problem - try again later"), ("accept", "250 2.1.0 Ok"),
        ("reject", "451 4.3.5 Server configuration problem - try again later"), ("quarantine", "250 2.1.0 Ok"),
    ],
)
def test_one_whose_reply_is_none(action, reply, text):
    rig = Rig(FakeMilter({b"M": [(b"y", text + b"\0")]}), milter_default_action=action)
    assert rig.client().say("EHLO x", "MAIL FROM:<a@b.test>")[1] == reply
    assert any(line.rstrip().endswith(f": malformed reply: {text.decode()}".rstrip()) for line in rig.lines)


def test_a_connection_is_not_discarded():
    rig = Rig(FakeMilter({b"C": DISCARD, b"H": DISCARD}))
    assert rig.client().say(*MAIL, "DATA")[-1].startswith("354") and not rig.cleanup.begun[0].discard
    assert any("DISCARD action is not allowed for connect or helo" in line for line in rig.lines)


def test_an_old_one_does_not_hear_what_it_cannot_know():
    milter = FakeMilter(version=2, options=0x10000000)
    Rig(milter).client().say(*MAIL, "DATA", "x", ".", "BLAH")
    assert milter.commands() == "OCHMRA"


def test_a_message_that_is_broken_off():
    milter = FakeMilter()
    rig = Rig(milter)
    client = rig.client()
    client.say("MAIL FROM:<>", "RCPT TO:joe", "QUIT")
    assert milter.commands() == "OCMRAQ" and milter.data(b"R") == [b"joe\0"]
    assert milter.macros[b"M"] == {b"{mail_addr}": b"", b"{mail_host}": b"gw.test", b"{mail_mailer}": b"local"}


def test_one_that_is_not_there():
    rig = Rig()
    assert rig.client().say("EHLO x", "MAIL FROM:<a@b.test>")[1] == TEMPORARY
    assert "warning: connect to Milter service inet:127.0.0.1:8000: Connection refused" in rig.lines


def test_one_that_is_silent():
    rig = Rig(FakeMilter({b"M": []}), milter_command_timeout="7s")
    client = rig.client()
    assert client.say("EHLO x", "MAIL FROM:<a@b.test>")[1] == ""
    rig.clock.advance(7)
    assert client.got().strip() == TEMPORARY


def test_a_client_that_leaves_while_a_milter_thinks():
    rig = Rig(FakeMilter({b"M": []}))
    client = rig.client()
    client.say("EHLO x", "MAIL FROM:<a@b.test>")
    client.go_away()
    rig.clock.advance(31)
    assert any(line.startswith("disconnect from") for line in rig.lines)


def test_negotiation_that_fails():
    rig = Rig(FakeMilter(version=7))
    assert rig.client().say("EHLO x", "MAIL FROM:<a@b.test>")[1] == TEMPORARY
    assert any("protocol version 7 conflict" in line for line in rig.lines)


def test_milters_by_client():
    milter = FakeMilter()
    other = "{192.0.2.8={inet:127.0.0.1:9000, default_action=accept}}"
    rig = Rig(milter, smtpd_milter_maps=f"inline:{{192.0.2.7=DISABLE, {other}}}")
    assert rig.client().say(*MAIL)[2] == "250 2.1.5 Ok"
    assert milter.heard == []
    other = rig.connect("192.0.2.8", greet=False)
    assert other.say(*MAIL)[2] == "250 2.1.5 Ok"
    assert "warning: connect to Milter service inet:127.0.0.1:9000: Connection refused" in rig.lines


@pytest.mark.parametrize(
    "settings",
    [
        {"smtpd_milters": "tcp:here"}, {"milter_default_action": "maybe"}, {"milter_protocol": "5"},
        {"smtpd_milters": "{inet:127.0.0.1:1, colour=red}"},
    ],
)
def test_what_cannot_be_understood(settings):
    with pytest.raises(ConfigError):
        Rig(**settings)


def test_a_client_that_has_gone_before_they_are_asked():
    def gone():
        raise AttributeError("there is no socket any more")

    milter = FakeMilter({protocol.NEGOTIATE: []})
    rig = Rig(milter, milter_connect_macros="{daemon_addr}")
    client = rig.connect(greet=False)
    client.transport.getHost = gone
    client.go_away()
    milter.transport.protocol.dataReceived(protocol.packet(protocol.NEGOTIATE, milter.agreement))
    client.got()
    assert rig.lines[-1].startswith("disconnect from") and "internal" not in rig.log.text
