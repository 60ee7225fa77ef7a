"""AUTH by Dovecot's protocol: what is offered to whom, the dialogues, and servers that fail."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.config import ConfigError
from gateway.policy.session import Tls
from gateway.smtpd.dovecot import _Link
from tests.gateway.smtpd.rig import Client, Rig

HELLO = (
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\n"
    "MECH\tEXTERNAL\nMECH\tANONYMOUS\tanonymous\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n"
)
RESPONSE = b64encode(b"\0joe\0secret").decode()


class Server:
    """The login server of a rig: the connections that are made to it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.link: Any = None
        self.transport = StringTransport()

    @property
    def asked(self) -> int:
        return len(self.rig.clock.tcpClients)

    def accept(self, hello: str = HELLO) -> None:
        self.link = self.rig.clock.tcpClients[-1][2].buildProtocol(None)
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        self.link.makeConnection(self.transport)
        self.say(hello)

    def refuse(self) -> None:
        self.rig.clock.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError(111)))

    def heard(self) -> str:
        value = self.transport.value().decode()
        self.transport.clear()
        return value

    def say(self, text: str) -> None:
        self.link.dataReceived(text.encode())

    def hang_up(self) -> None:
        self.link.connectionLost(Failure(ConnectionDone()))


def begin(*, accept: bool = True, tls: bool = False, **settings: str) -> tuple[Rig, Server, Client]:
    """A client that has said EHLO, to a server that knows about logins."""
    own = {
        "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "inet:127.0.0.1:12345",
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
    }  # fmt: skip
    rig = Rig(**{**own, **settings})
    client = rig.connect()
    if tls:
        session(client).tls = Tls("TLSv1.3", "AES", 256, 256)
    server = Server(rig)
    client.send("EHLO h.test\r\n")
    if accept:
        server.accept()
    return rig, server, client


def session(client: Client) -> Any:
    """The server's facts about that client."""
    return client.protocol._conversation.cr_frame.f_locals["self"].session


def auth_lines(reply: str) -> list[str]:
    return re.findall(r"^250[ -](AUTH.*)$", reply, re.MULTILINE)


def test_a_login_and_what_it_is_good_for() -> None:
    rig, server, client = begin(smtpd_sasl_authenticated_header="yes")
    assert auth_lines(client.got()) == ["AUTH PLAIN LOGIN CRAM-MD5"]
    assert re.fullmatch(r"VERSION\t1\t1\nCPID\t[1-9][0-9]*\n", server.heard())
    assert client.send(f"AUTH PLAIN {RESPONSE}\r\n") == ""
    assert server.heard() == f"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.7\tresp={RESPONSE}\n"
    server.say("OK\t1\tuser=joe\n")
    assert client.got() == "235 2.7.0 Authentication successful\n"
    assert client.say(f"AUTH PLAIN {RESPONSE}") == ["503 5.5.1 Error: already authenticated"]
    said = client.say("MAIL FROM:<joe@gw.test> AUTH=a+40b", "RCPT TO:<x@else.test>", "DATA")
    assert said[1] == "250 2.1.5 Ok" and said[2].startswith("354 ")
    client.send(b"x\r\n.\r\n")
    (stored,) = rig.cleanup.stored
    assert b"(Authenticated sender: joe)" in stored.received[1] and b"with ESMTPA id" in stored.received[2]
    about = stored.envelope.client
    assert (about.sasl_method, about.sasl_username, about.sasl_sender) == ("PLAIN", "joe", "a+40b")
    assert "client=unknown[192.0.2.7], sasl_method=PLAIN, sasl_username=joe, sasl_sender=a+40b" in rig.log.text
    client.say("MAIL FROM:<joe@gw.test> AUTH=<>", "RCPT TO:<x@else.test>")
    assert session(client).sasl_sender == ""


def test_a_dialogue() -> None:
    rig, server, client = begin()
    client.got()
    server.heard()
    client.send("auth login\r\n")
    assert server.heard().startswith("AUTH\t1\tLOGIN\t")
    server.say("CONT\t1\tVXNlcm5hbWU6\n")
    assert client.got() == "334 VXNlcm5hbWU6\n"
    client.send("am9l\r\n")
    assert server.heard() == "CONT\t1\tam9l\n"
    server.say("CONT\t1\t\n")
    assert client.got() == "334 \n"
    long = 3000 * "QUFB"
    client.send(f"{long}\r\n")
    assert server.heard() == f"CONT\t1\t{long}\n"
    server.say("FAIL\t1\tuser=j\x01toe\treason=not\x01n today\n")
    assert client.got() == "535 5.7.8 Error: authentication failed: not? today\n"
    assert "SASL login authentication failed: not? today, sasl_username=j?oe" in rig.log.text
    assert long not in rig.log.text


@pytest.mark.parametrize(
    ("command", "heard", "answer", "reply"),
    [
        ("AUTH", "", "", "501 5.5.4 Syntax: AUTH mechanism"),
        ("AUTH PLAIN a b", "", "", "501 5.5.4 Syntax: AUTH mechanism"),
        ("AUTH GSSAPI", "", "", "535 5.7.8 Error: authentication failed: Invalid authentication mechanism"),
        ("AUTH EXTERNAL =", "", "", "535 5.7.8 Error: authentication failed: Invalid authentication mechanism"),
        ("AUTH PLAIN %%%", "", "", "535 5.7.8 Error: authentication failed: Invalid base64 data in initial response"),
        ("AUTH PLAIN QQ=", "", "", "535 5.7.8 Error: authentication failed: Invalid base64 data in initial response"),
        ("AUTH PLAIN =", "resp=", "FAIL\t1", "535 5.7.8 Error: authentication failed: (reason unavailable)"),
        ("AUTH PLAIN QQ==", "resp=QQ==", "FAIL\t1\ttemp\treason=busy",
         "454 4.7.0 Temporary authentication failure: busy"),
        ("AUTH PLAIN QQ==", "resp=QQ==", "FAIL\t1\tcode=temp_fail",
         "454 4.7.0 Temporary authentication failure: (reason unavailable)"),
        ("AUTH PLAIN QQ==", "resp=QQ==", "OK\t1", "535 5.7.8 Error: authentication failed: (reason unavailable)"),
    ],
)  # fmt: skip
def test_what_does_not_work(command: str, heard: str, answer: str, reply: str) -> None:
    rig, server, client = begin()
    client.got()
    server.heard()
    said = client.send(command + "\r\n")
    if heard:
        assert server.heard().endswith(f"\t{heard}\n")
        server.say(f"OK\t99\tuser=else\nNONSENSE\n{answer}\n")
        said = client.got()
    assert said == reply + "\n"
    assert server.heard() == ""
    said = client.say("MAIL FROM:<joe@gw.test>", "RCPT TO:<x@else.test>")[1]
    assert said == "554 5.7.1 <x@else.test>: Relay access denied"


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("*", "501 5.7.0 Authentication aborted"),
        ("%%%", "535 5.7.8 Error: authentication failed: Invalid base64 data in continued response"),
        (3073 * "QUFB", "500 5.5.6 SASL response limit exceeded"),
        ("QQ==\tresp=x", "535 5.7.8 Error: authentication failed: Invalid base64 data in continued response"),
    ],
)
def test_a_dialogue_that_is_given_up(answer: str, reply: str) -> None:
    rig, server, client = begin()
    client.send("AUTH PLAIN\r\n")
    server.say("CONT\t1\t\n")
    client.got()
    server.heard()
    assert client.say(answer) == [reply]
    assert server.heard() == ""
    assert client.say("NOOP") == ["250 2.0.0 Ok"]
    client.send(f"AUTH PLAIN {RESPONSE}\r\n")
    server.say("OK\t1\tuser=ghost\n")
    assert client.got() == "", "an answer to the dialogue that is over"
    server.say("OK\t2\tuser=joe\n")
    assert client.got().startswith("235 ")


@pytest.mark.parametrize(
    ("settings", "tls", "offered"),
    [
        ({"broken_sasl_auth_clients": "yes"}, False, ["AUTH PLAIN LOGIN CRAM-MD5", "AUTH=PLAIN LOGIN CRAM-MD5"]),
        ({"smtpd_sasl_security_options": "noanonymous, noplaintext"}, False, ["AUTH CRAM-MD5"]),
        ({"smtpd_sasl_security_options": "noplaintext", "smtpd_sasl_tls_security_options": "noactive"}, True,
         ["AUTH PLAIN LOGIN ANONYMOUS"]),
        ({"smtpd_sasl_security_options": "mutual_auth"}, False, []),
        ({"smtpd_sasl_mechanism_filter": "plain"}, False, ["AUTH PLAIN"]),
        ({"smtpd_sasl_exceptions_networks": "192.0.2.0/24"}, False, []),
        ({"smtpd_tls_auth_only": "yes"}, False, []),
        ({"smtpd_tls_auth_only": "yes"}, True, ["AUTH PLAIN LOGIN CRAM-MD5"]),
        ({"smtpd_discard_ehlo_keywords": "auth"}, False, []),
        ({"smtpd_sasl_auth_enable": "no"}, False, []),
        ({"smtpd_sasl_type": "cyrus"}, False, []),
    ],
)  # fmt: skip
def test_who_is_offered_what(settings: dict[str, str], tls: bool, offered: list[str]) -> None:
    rig, server, client = begin(accept=False, tls=tls, **settings)
    if server.asked:
        server.accept()
    reply = client.got()
    assert auth_lines(reply) == offered
    if "smtpd_sasl_exceptions_networks" in settings:
        client.send("AUTH PLAIN QQ==\r\n")
        assert client.got() == "" and server.asked, "they are not told of it, but may log in"
    elif not server.asked:
        assert client.say("AUTH PLAIN QQ==") == ["503 5.5.1 Error: authentication not enabled"]
        said = client.say("MAIL FROM:<a@b.test> AUTH=<>")[0]
        assert said.startswith("503 5.5.4 Error: auth" if "dovecot" in rig.settings.text("smtpd_sasl_type") and
                               rig.settings.flag("smtpd_sasl_auth_enable") else "555 5.5.4 Unsupported option: AUTH=<>")


def test_auth_has_its_place() -> None:
    rig, server, client = begin(smtpd_client_auth_rate_limit="2")
    client.got()
    assert client.say("MAIL FROM:<a@b.test> AUTH=<> AUTH=<>") == ["503 5.5.4 Error: multiple AUTH= options"]
    assert client.say("MAIL FROM:<a@b.test>", "AUTH PLAIN QQ==", "RSET")[1] == (
        "503 5.5.1 Error: MAIL transaction in progress"
    )
    client.send("AUTH PLAIN QQ==\r\n")
    server.say("FAIL\t1\n")
    client.got()
    assert client.say("AUTH PLAIN QQ==") == ["450 4.7.1 Error: too many AUTH commands from 192.0.2.7"]
    assert "AUTH command rate limit exceeded: 3 from unknown[192.0.2.7] for service smtp" in rig.log.text


def test_a_server_that_is_away() -> None:
    rig, server, client = begin(accept=False)
    other = rig.connect()
    other.send("EHLO h.test\r\n")
    assert server.asked == 1
    server.refuse()
    for each in (client, other):
        assert (reply := each.got()).startswith("250-") and not auth_lines(reply)
    assert "no login for unknown[192.0.2.7]: SASL server: connect to 127.0.0.1:12345" in rig.log.text
    client.send("AUTH PLAIN QQ==\r\n")
    server.refuse()
    assert client.got().startswith("454 4.7.0 Temporary authentication failure: SASL server: connect to 127.0.0.1:1")


@pytest.mark.parametrize("hello", ["VERSION\t2\t0\n", "x" * 70_000, ""])
def test_a_server_that_is_none(hello: str) -> None:
    rig, server, client = begin(accept=False)
    server.accept(hello)
    rig.clock.advance(10)
    assert not auth_lines(client.got())
    assert "does not introduce itself" in rig.log.text


def test_a_server_that_is_started_again() -> None:
    rig, server, client = begin()
    client.got()
    client.send(f"AUTH PLAIN {RESPONSE}\r\n")
    server.hang_up()
    assert server.asked == 2
    server.accept()
    assert f"resp={RESPONSE}\n" in server.heard()
    server.hang_up()
    assert client.got() == "454 4.7.0 Temporary authentication failure: Connection lost to authentication server\n"


def test_a_server_that_goes_away_in_the_middle() -> None:
    rig, server, client = begin()
    client.send("AUTH PLAIN\r\n")
    server.say("CONT\t1\t\n")
    client.got()
    server.hang_up()
    lost = "Connection lost to authentication server"
    assert client.say("QQ==") == [f"454 4.7.0 Temporary authentication failure: {lost}"]


def test_a_server_that_says_nothing() -> None:
    rig, server, client = begin()
    client.got()
    client.send(f"AUTH PLAIN {RESPONSE}\r\n")
    rig.clock.advance(10)
    assert client.got() == "454 4.7.0 Temporary authentication failure: Authentication server does not answer\n"
    server.say("OK\t1\tuser=joe\n")
    assert client.say("NOOP") == ["250 2.0.0 Ok"] and session(client).sasl_username == ""


def test_connections_have_numbers_of_their_own() -> None:
    transports = [StringTransport(), StringTransport()]
    for transport in transports:
        _Link().makeConnection(transport)
    assert transports[0].value() != transports[1].value()


def test_a_unix_socket() -> None:
    rig, server, client = begin(accept=False, smtpd_sasl_path="private/auth")
    assert rig.clock.unixClients[0][0] == "/var/spool/mailgateway/private/auth"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"smtpd_sasl_path": "inet:127.0.0.1:nosuch"}, "smtpd_sasl_path: unknown service: nosuch/tcp"),
        ({"smtpd_sasl_security_options": "nothing"}, "smtpd_sasl_security_options: unknown option nothing"),
    ],
)
def test_mistakes_are_told_at_start(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        begin(accept=False, **settings)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_nothing_that_a_server_says_breaks_anything(blocks: list[bytes]) -> None:
    link = _Link()
    transport = StringTransport()
    transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
    link.makeConnection(transport)
    link.ready.addErrback(lambda _: None)
    for block in [HELLO.encode(), *blocks, b"\n"]:
        link.dataReceived(block)
