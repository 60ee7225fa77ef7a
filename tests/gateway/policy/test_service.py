"""check_policy_service: what a server is asked, what its answers do, and what happens when it does not answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.policy.registry import RestrictionError
from gateway.policy.service import question
from gateway.policy.session import Session, Tls
from tests.gateway.smtpd.rig import Client, Rig

PLACE = "inet:127.0.0.1:10031"
DEFAULT = "451 4.3.5 <joe@gw.test>: Recipient address rejected: Server configuration problem"


class Server:
    """The policy servers of a rig: each connection that is made to them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.made: list[tuple[Any, StringTransport]] = []

    @property
    def asked(self) -> int:
        """Connections asked for."""
        return len(self.rig.clock.tcpClients)

    def accept(self) -> StringTransport:
        """Make the connection that was asked for last."""
        protocol = self.rig.clock.tcpClients[-1][2].buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        self.made.append((protocol, transport))
        return transport

    def refuse(self) -> None:
        problem = ConnectionRefusedError(111)
        problem.osError = 111
        self.rig.clock.tcpClients[-1][2].clientConnectionFailed(None, Failure(problem))

    def question(self, number: int = -1) -> str:
        """What has been asked on a connection since the last time."""
        transport = self.made[number][1]
        value = transport.value().decode("utf-8", "surrogateescape")
        transport.clear()
        return str(value)

    def say(self, text: str, number: int = -1) -> None:
        self.made[number][0].dataReceived(text.encode())

    def hang_up(self, number: int = -1) -> None:
        self.made[number][0].connectionLost(Failure(ConnectionDone()))


def begin(words: str = PLACE, **settings: str) -> tuple[Rig, Server, Client]:
    """A client in front of its first RCPT."""
    settings = {"smtpd_recipient_restrictions": f"check_policy_service {words}", **settings}
    rig = Rig(smtpd_relay_restrictions="reject_unauth_destination", **settings)
    client = rig.connect()
    client.say("EHLO h.test", 'MAIL FROM:<"a b"@good.test> SIZE=500')
    return rig, Server(rig), client


RCPT = "RCPT TO:<joe@gw.test>\r\n"


def test_what_is_asked() -> None:
    rig, server, client = begin("{ inet:127.0.0.1:10031, {policy_context = first one} }")
    assert client.send(RCPT) == ""
    assert rig.clock.tcpClients[0][:2] == ("127.0.0.1", 10031)
    server.accept()
    text = server.question()
    instance = re.search(r"^instance=([0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+)$", text, re.MULTILINE)
    assert instance is not None
    assert text.replace(instance[1], "X") == (
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.7\n"
        "client_name=unknown\nclient_port=4711\nreverse_client_name=unknown\nserver_address=192.0.2.1\nserver_port=25\n"
        "helo_name=h.test\nsender=a b@good.test\nrecipient=joe@gw.test\nrecipient_count=0\nqueue_id=\ninstance=X\n"
        "size=500\netrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\n"
        "ccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=\nencryption_cipher=\nencryption_keysize=0\n"
        "policy_context=first one\n\n"
    )
    server.say("action=DUNNO\n\n")
    assert client.got() == "250 2.1.5 Ok\n"
    client.send(RCPT)
    assert f"\ninstance={instance[1]}\n" in server.question(), "one transaction, one instance"
    server.say("other=x\naction=DUNNO\n\n")
    client.say("RSET", "MAIL FROM:<>")
    client.send(RCPT)
    assert f"\ninstance={instance[1]}\n" not in server.question()
    assert server.asked == 1, "the connection is kept"


def test_xclient_tells_where_the_client_came_to() -> None:
    rig = Rig(
        smtpd_authorized_xclient_hosts="192.0.2.7", smtpd_delay_reject="no",
        smtpd_helo_restrictions=f"check_policy_service {PLACE}",
    )  # fmt: skip
    client, server = rig.connect(), Server(rig)
    assert client.say("XCLIENT DESTADDR=nonsense") == ["501 5.5.4 Bad DESTADDR syntax: nonsense"]
    client.say("XCLIENT DESTADDR=198.51.100.1 DESTPORT=587")
    client.send("EHLO h.test\r\n")
    server.accept()
    assert "\nprotocol_state=EHLO\n" in (text := server.question())
    assert "\nserver_address=198.51.100.1\nserver_port=587\nhelo_name=h.test\n" in text
    assert "\ninstance=\n" in text, "there is no transaction"


def test_stages_after_the_recipients() -> None:
    rig, server, client = begin(
        "{ inet:127.0.0.1:10031, default_action=DUNNO }", smtpd_data_restrictions=f"check_policy_service {PLACE}",
        smtpd_end_of_data_restrictions=f"check_policy_service {PLACE}",
    )  # fmt: skip
    for name in ("joe", "ann"):
        client.send(f"RCPT TO:<{name}@gw.test>\r\n")
        if name == "joe":
            server.accept()
        server.say("action=DUNNO\n\n")
    assert "recipient_count=0" in server.question()
    client.send("DATA\r\n")
    server.accept()
    assert {"protocol_state=DATA", "recipient=", "recipient_count=2"} <= set(server.question().split("\n"))
    server.say("action=DUNNO\n\n")
    client.got()
    client.send("Subject: x\r\n\r\nx\r\n.\r\n")
    assert {"protocol_state=END-OF-MESSAGE", "recipient_count=2", "queue_id=Q1", "size=20"} <= set(
        server.question().split("\n")
    )
    server.say("action=REJECT the whole of it\n\n")
    assert client.got() == "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: the whole of it\n"
    assert server.asked == 2, "one set of connections for each way to write it"


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("DUNNO", "250 2.1.5 Ok"),
        ("REJECT", "554 5.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("550 5.7.9 not for you", "550 5.7.9 <joe@gw.test>: Recipient address rejected: not for you"),
        ("DEFER_IF_PERMIT greylisted", "450 4.7.1 <joe@gw.test>: Recipient address rejected: greylisted"),
        ("mine", "554 5.7.1 <joe@gw.test>: Recipient address rejected: Access denied"),
        ("bogus", "451 4.3.5 Server configuration error"),
        ("", "250 2.1.5 Ok"),
        ("REDIRECT x", "250 2.1.5 Ok"),
    ],
)
def test_answers(action: str, reply: str) -> None:
    rig, server, client = begin(smtpd_restriction_classes="mine", mine="reject")
    client.send(RCPT)
    server.accept()
    server.say(f"action={action}\n\n")
    assert client.got() == reply + "\n"
    if action.startswith("REDIRECT"):
        assert 'smtpd: warning: access table inet:127.0.0.1:10031 entry "policy query" requires user@' in rig.log.text


def test_a_server_that_is_away_is_tried_again() -> None:
    rig, server, client = begin()
    client.send(RCPT)
    server.refuse()
    assert client.got() == ""
    rig.clock.advance(1)
    assert server.asked == 2
    server.refuse()
    assert client.got() == DEFAULT + "\n"
    complaint = "smtpd: warning: problem talking to server 127.0.0.1:10031: Connection refused"
    assert rig.log.text.count(complaint) == 2
    client.send(RCPT)
    server.refuse()
    rig.clock.advance(1)
    server.accept()
    server.say("action=DUNNO\n\n")
    assert client.got() == "250 2.1.5 Ok\n"


def test_a_server_that_hangs_up() -> None:
    rig, server, client = begin()
    client.send(RCPT)
    for reply in ("", DEFAULT + "\n"):
        server.accept()
        server.hang_up()
        assert client.got() == reply
        rig.clock.advance(1)
    assert rig.log.text.count("problem talking to server 127.0.0.1:10031: Application error") == 1


def test_a_server_that_has_closed_an_idle_connection() -> None:
    rig, server, client = begin(smtpd_policy_service_try_limit="1")
    client.send(RCPT)
    server.accept()
    server.say("action=DUNNO\n\n")
    client.got()
    client.send(RCPT)
    server.hang_up()
    server.accept()
    server.say("action=DUNNO\n\n")
    assert client.got() == "250 2.1.5 Ok\n"
    assert "problem" not in rig.log.text


@pytest.mark.parametrize("said", ["foo\n\n", "\n"])
def test_a_server_that_says_nothing_of_use(said: str) -> None:
    rig, server, client = begin("{ unix:private/policy try_limit=1 {default_action=DEFER 4.9.9 later} }")
    client.send(RCPT)
    path, factory = rig.clock.unixClients[0][:2]
    assert path == "/var/spool/mailgateway/private/policy"
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(said.encode())
    assert client.got() == "450 4.9.9 <joe@gw.test>: Recipient address rejected: later\n"
    assert "warning: missing attribute action in input from private/policy" in rig.log.text
    assert "warning: problem talking to server private/policy: Application error" in rig.log.text


def test_a_server_that_talks_without_end() -> None:
    rig, server, client = begin("{ inet:127.0.0.1:10031, try_limit=1 }")
    client.send(RCPT)
    server.accept()
    server.say("action=" + 100_001 * "x" + "\n\n")
    assert client.got() == DEFAULT + "\n"


def test_a_server_that_is_too_slow() -> None:
    rig, server, client = begin("{ inet:127.0.0.1:10031, timeout=5s, try_limit=1 }")
    client.send(RCPT)
    server.accept()
    rig.clock.advance(5)
    assert client.got() == DEFAULT + "\n"
    assert "problem talking to server 127.0.0.1:10031: Connection timed out" in rig.log.text
    server.hang_up()
    assert client.say("RCPT TO:<no@else.test>")[0].startswith("554 5.7.1 "), "that it has gone then troubles nobody"


@pytest.mark.parametrize(
    ("option", "seconds", "connections"),
    [
        ("request_limit=2", 1, 2), ("max_ttl=100s", 60, 2), ("max_idle=50s", 60, 3), ("max_idle=300s", 60, 1),
    ],
)  # fmt: skip
def test_connections_do_not_last_for_ever(option: str, seconds: float, connections: int) -> None:
    rig, server, client = begin(f"{{ inet:127.0.0.1:10031, {option} }}", smtpd_timeout="1h")
    for _ in range(3):
        client.send(RCPT)
        if server.asked > len(server.made):
            server.accept()
        server.say("action=DUNNO\n\n")
        assert client.got() == "250 2.1.5 Ok\n"
        rig.clock.advance(seconds)
    assert server.asked == connections


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "needs a server"),
        ("foo:127.0.0.1:1", "invalid transport name: foo in service: foo:127.0.0.1:1"),
        ("unix:", "invalid transport name"),
        ("inet:127.0.0.1:nosuchport", "unknown service: nosuchport/tcp"),
        ("{ inet:127.0.0.1:1, timeout }", "malformed option: missing '=' after attribute name: \"timeout\""),
        ("{ inet:127.0.0.1:1, colour=red }", 'bad attribute name: "colour"'),
        ("{ inet:127.0.0.1:1, timeout=red }", "smtpd_policy_service_timeout"),
        ("{ }", "invalid transport name"),
    ],
)
def test_mistakes_are_told_at_start(words: str, problem: str) -> None:
    with pytest.raises(RestrictionError, match=re.escape(problem)):
        begin(words)


@given(st.text(), st.text())
def test_nothing_breaks_out_of_its_line(helo: str, sender: str) -> None:
    session = Session(helo=helo, sender=sender, tls=Tls("TLSv1.3", "AES", 256, 256))
    lines = question(session, "").split(b"\n")
    assert len(lines) == 31 and lines[-2:] == [b"", b""] and all(b"=" in line for line in lines[:-2])
    assert b"encryption_keysize=256" in lines
