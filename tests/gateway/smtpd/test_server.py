"""Names of clients, trusted clients, TLS, ETRN, reload, stopping, SMTP on standard input."""

from __future__ import annotations

import socket
import ssl as tls
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from gateway.config.findings import ConfigError
from gateway.interfaces import ICleanup, IIntake, IResolver
from gateway.policy.registry import RestrictionError
from gateway.smtpd.limits import ClientLimits
from gateway.smtpd.peer import plain_address
from gateway.smtpd.server import make_service, make_stdio
from tests.gateway.smtpd.rig import Cleanup, Intake, Resolver, Rig

BEGIN = ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>", "DATA")


# --- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, hosts, client, warning",
    [
        ("good.test", ["192.0.2.7"], "good.test[192.0.2.7]", None),
        ("liar.test", ["192.0.2.99"], "unknown[192.0.2.7]", "hostname liar.test does not resolve to address 192.0.2.7"),
        ("gone.test", "none", "unknown[192.0.2.7]",
         "hostname gone.test does not resolve to address 192.0.2.7: Name or service not known"),
        ("slow.test", None, "unknown[192.0.2.7]",
         "hostname slow.test does not resolve to address 192.0.2.7: Name or service not known"),
        ("192.0.2.7", ["192.0.2.7"], "unknown[192.0.2.7]", "numeric hostname: 192.0.2.7"),
        (None, "none", "unknown[192.0.2.7]", None),
    ],
)  # fmt: skip
def test_client_names(name: str | None, hosts: Any, client: str, warning: str | None) -> None:
    rig = Rig(smtpd_peername_lookup="yes")
    rig.resolver.names["192.0.2.7"] = name
    if hosts != "none":
        rig.resolver.hosts[str(name)] = hosts
    rig.connect()
    assert rig.lines == ([f"warning: {warning}"] if warning else []) + [f"connect from {client}"]


def test_a_slow_name_server_holds_up_one_client_only() -> None:
    rig = Rig(smtpd_peername_lookup="yes")
    rig.resolver.wait = Deferred()
    slow = rig.connect(greet=False)
    assert slow.send(b"EHLO x\r\n") == ""
    waiting, rig.resolver.wait = rig.resolver.wait, None
    assert rig.connect("192.0.2.8").say("NOOP") == ["250 2.0.0 Ok"]
    waiting.callback(None)
    assert slow.got().startswith("220 ")


def test_port_logging() -> None:
    rig = Rig(smtpd_client_port_logging="yes")
    rig.connect()
    assert rig.lines == ["connect from unknown[192.0.2.7]:4711"]


@pytest.mark.parametrize(
    "given, plain", [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("", "unknown")]
)
def test_plain_address(given: str, plain: str) -> None:
    assert plain_address(given) == plain


# --- XCLIENT, XFORWARD --------------------------------------------------------------------------------


def test_xclient() -> None:
    rig = Rig(
        smtpd_authorized_xclient_hosts="192.0.2.7, 198.51.100.9, [2001:db8::9]",
        smtpd_client_restrictions="reject_unknown_client_hostname",
    )
    client = rig.connect()
    assert "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT" in client.say("EHLO x")[0]
    assert client.say("XCLIENT NAME=real.test ADDR=198.51.100.9") == ["220 gw.test ESMTP mailgateway"]
    assert client.say(*BEGIN)[2] == "250 2.1.5 Ok"
    client.send(b"x\r\n.\r\n")
    assert rig.cleanup.stored[0].received[0] == b"Received: from client.test (real.test [198.51.100.9])"
    assert client.say("XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9")[0].startswith("220 ")
    assert client.say(*BEGIN)[2].startswith("450 4.7.25 Client host rejected")
    assert client.say("RSET", "XCLIENT FOO=1", "XCLIENT ADDR=nonsense", "XCLIENT ADDR", "XCLIENT NAME=a+0Ab")[1:] == [
        "501 5.5.4 Bad XCLIENT attribute name: FOO", "501 5.5.4 Bad ADDR syntax: nonsense",
        "501 5.5.4 Error: attribute=value expected", "501 5.5.4 Bad NAME syntax: a+0Ab",
    ]  # fmt: skip


def test_whoever_a_proxy_speaks_for_may_not_do_so_himself() -> None:
    client = Rig(smtpd_authorized_xclient_hosts="192.0.2.7").connect()
    assert "XCLIENT" in client.say("EHLO x")[0]
    client.say("XCLIENT ADDR=198.51.100.9")
    assert "XCLIENT" not in client.say("EHLO x")[0]
    assert client.say("XCLIENT ADDR=10.0.0.1") == ["550 5.7.0 Error: insufficient authorization"]


def test_xclient_does_not_make_a_stranger_of_mynetworks_an_open_relay() -> None:
    rig = Rig(smtpd_authorized_xclient_hosts="10.0.0.1")
    client = rig.connect("10.0.0.1")
    client.say("EHLO x", "XCLIENT ADDR=198.51.100.9 NAME=[UNAVAILABLE]", "EHLO x", "MAIL FROM:<a@b.test>")
    assert client.say("RCPT TO:<x@else.test>") == ["454 4.7.1 <x@else.test>: Relay access denied"]


def test_what_xforward_says_counts_for_one_message() -> None:
    rig = Rig(smtpd_authorized_xforward_hosts="192.0.2.7")
    client = rig.connect()
    client.say("EHLO x", "XFORWARD NAME=orig.test", *BEGIN[1:])
    client.send(b"x\r\n.\r\n")
    client.say(*BEGIN[1:])
    client.send(b"x\r\n.\r\n")
    assert [one.envelope.client.name for one in rig.cleanup.stored] == ["orig.test", "unknown"]


def test_xforward() -> None:
    rig = Rig(smtpd_authorized_xforward_hosts="192.0.2.0/24")
    client = rig.connect()
    assert client.say("EHLO x", "XFORWARD NAME=orig.test ADDR=198.51.100.9 PORT=99 IDENT=OLD1 SOURCE=LOCAL")[-1] == (
        "250 2.0.0 Ok"
    )
    client.say(*BEGIN[1:])
    client.send(b"x\r\n.\r\n")
    facts = rig.cleanup.stored[0].envelope.client
    assert (facts.name, facts.address, facts.port, facts.ident) == ("orig.test", "198.51.100.9", "99", "OLD1")
    assert facts.rewrite_context == "local"
    assert "Q1: client=unknown[192.0.2.7], orig_queue_id=OLD1, orig_client=orig.test[198.51.100.9]" in rig.lines


# --- ETRN --------------------------------------------------------------------------------


def test_etrn() -> None:
    rig = Rig()
    client = rig.connect()
    assert client.say("ETRN relayed.test", "ETRN else.test", "ETRN a..b", "ETRN #relayed.test") == [
        "250 Queuing started", "459 <else.test>: service unavailable", "501 Error: invalid parameter syntax",
        "250 Queuing started",
    ]  # fmt: skip
    assert rig.flushed == ["relayed.test", "else.test", "relayed.test"]
    refused = Rig(smtpd_etrn_restrictions="permit_mynetworks, reject").connect()
    assert refused.say("ETRN relayed.test") == ["554 5.7.1 <relayed.test>: Etrn command rejected: Access denied"]


# --- rewriting context --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clients, address, context",
    [
        ("permit_inet_interfaces", "192.0.2.1", "local"),
        ("permit_inet_interfaces", "10.0.0.1", "remote"),
        ("permit_mynetworks", "10.0.0.1", "local"),
        ("permit_mynetworks", "192.0.2.7", "remote"),
        ("check_address_map inline:{192.0.2.7=x}", "192.0.2.7", "local"),
        ("", "192.0.2.1", "remote"),
    ],
)
def test_local_header_rewrite_clients(clients: str, address: str, context: str) -> None:
    rig = Rig(own=("192.0.2.1",), local_header_rewrite_clients=clients)
    client = rig.connect(address)
    client.say(*BEGIN)
    client.send(b"x\r\n.\r\n")
    assert rig.cleanup.stored[0].envelope.client.rewrite_context == context


# --- reload, stop --------------------------------------------------------------------------------


def test_reload_concerns_new_connections_only() -> None:
    rig = Rig()
    old = rig.connect()
    rig.settings = rig.settings.with_overrides({"disable_vrfy_command": "yes"})
    rig.factory.reload(rig.service())
    assert rig.connect().say("VRFY joe") == ["502 5.5.1 VRFY command is disabled"]
    assert old.say("VRFY joe") == ["252 2.0.0 joe"]


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"smtpd_recipient_restrictions": "foo"}, 'unknown smtpd restriction: "foo"'),
        ({"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": "permit"}, "at least one working instance"),
        ({"smtpd_data_restrictions": "hash:/x"}, "before access map"),
        ({"smtpd_client_restrictions": "check_client_access"}, "needs a lookup table"),
        ({"smtpd_restriction_classes": "a", "smtpd_client_restrictions": "a"}, "needs a definition"),
        ({"smtpd_restriction_classes": "a", "a": "a", "smtpd_client_restrictions": "a"}, "refers to itself"),
    ],
)
def test_broken_restrictions_are_found_at_composition(settings: dict[str, str], error: str) -> None:
    rig = Rig()
    with pytest.raises(RestrictionError, match=error):
        make_service(rig.settings.with_overrides(settings), rig.collaborators())


@pytest.mark.parametrize("name", ["smtpd_forbid_bare_newline", "smtpd_tls_security_level"])
def test_broken_values_are_found_at_composition(name: str) -> None:
    rig = Rig()
    with pytest.raises(ConfigError):
        make_service(rig.settings.with_overrides({name: "rubbish"}), rig.collaborators())


def test_stopping() -> None:
    rig = Rig()
    idle, busy, stuck = rig.connect(), rig.connect(), rig.connect()
    busy.say(*BEGIN), stuck.say(*BEGIN)
    done: list[None] = []
    Deferred.fromCoroutine(rig.factory.stop(10)).addCallback(done.append)
    assert idle.got() == "421 4.3.2 gw.test Server closing connection\n"
    assert idle.closed
    assert rig.connect(greet=False).got() == "421 4.3.2 gw.test Service unavailable - try again later\n"
    assert busy.send(b"x\r\n.\r\n").startswith("250 2.0.0 Ok: queued as ")
    assert busy.closed
    rig.clock.pump([1] * 11)
    assert stuck.transport.aborted
    for client in list(rig.factory._channels):
        client.connectionLost()
    assert done == [None]
    assert not rig.clock.getDelayedCalls()


def test_the_clock_rests_without_clients() -> None:
    rig = Rig()
    rig.connect().go_away()
    rig.clock.advance(2)
    assert not rig.clock.getDelayedCalls()


# --- standard input --------------------------------------------------------------------------------


def test_smtp_on_standard_input() -> None:
    rig = Rig(smtpd_client_restrictions="reject", smtpd_helo_required="no")
    finished: list[bool] = []
    channel = make_stdio(rig.settings, rig.collaborators(), lambda: finished.append(True))
    transport = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(b"MAIL FROM:<joe>\r\nRCPT TO:<x@else.test>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n")
    assert [line[:3] for line in transport.value().splitlines()] == [b"220", b"250", b"250", b"354", b"250", b"221"]
    assert transport.disconnecting
    channel.connectionLost()
    assert finished == [True]
    assert rig.cleanup.stored[0].envelope.client.rewrite_context == "local"
    assert rig.cleanup.stored[0].received[0] == b"Received: from localhost (localhost [127.0.0.1])"


# --- TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw.test")])
    now = datetime.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "chain.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def served(rig: Rig) -> Iterator[int]:
    """The server on a port of loopback."""
    port = reactor.listenTCP(0, rig.factory, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


class Caller:
    """A client that blocks, for a thread."""

    def __init__(self, port: int) -> None:
        self.socket: Any = socket.create_connection(("127.0.0.1", port), 10)

    def ask(self, data: bytes) -> bytes:
        """Send, and wait for what comes."""
        if data:
            self.socket.sendall(data)
        return self.socket.recv(65536)

    def handshake(self) -> None:
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, tls.CERT_NONE
        self.socket = context.wrap_socket(self.socket)


async def call(rig: Rig, dialogue: Callable[[Caller], list[bytes]]) -> list[bytes]:
    def run(port: int) -> list[bytes]:
        caller = Caller(port)
        try:
            return dialogue(caller)
        finally:
            caller.socket.close()

    with served(rig) as port:
        answers: list[bytes] = await deferToThread(run, port)
        await deferLater(reactor, 0.05)
    return answers


def tls_rig(certificate: Path, level: str = "may", **settings: str) -> Rig:
    return Rig(smtpd_tls_security_level=level, smtpd_tls_chain_files=str(certificate), **settings)


@ensureDeferred
async def test_starttls(certificate: Path) -> None:
    rig = tls_rig(certificate, smtpd_tls_received_header="yes")

    def dialogue(client: Caller) -> list[bytes]:
        answers = [client.ask(b""), client.ask(b"EHLO x\r\n"), client.ask(b"MAIL FROM:<a@b.test>\r\n")]
        answers.append(client.ask(b"STARTTLS\r\n"))
        client.handshake()
        for line in (b"RCPT TO:<joe@gw.test>", b"EHLO inside", b"STARTTLS", b"MAIL FROM:<a@b.test>",
                     b"RCPT TO:<joe@gw.test>", b"DATA", b"x\r\n."):  # fmt: skip
            answers.append(client.ask(line + b"\r\n"))
        return answers

    answers = await call(rig, dialogue)
    assert b"250-STARTTLS\r\n" in answers[1]
    assert answers[3] == b"220 2.0.0 Ready to start TLS\r\n"
    assert answers[4] == b"503 5.5.1 Error: need MAIL command\r\n"
    assert b"STARTTLS" not in answers[5]
    assert answers[6] == b"554 5.5.1 Error: TLS already active\r\n"
    assert answers[-1] == b"250 2.0.0 Ok: queued as Q1\r\n"
    lines = rig.cleanup.stored[0].received
    assert lines[0] == b"Received: from inside (unknown [127.0.0.1])"
    assert lines[1].startswith(b"\t(using TLSv1.3 with cipher TLS_")
    assert b" with ESMTPS id " in lines[4]


@ensureDeferred
@pytest.mark.parametrize("ahead", [b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n", b"MAIL FROM:<a@b.test>", b"NOOP\n"])
@pytest.mark.parametrize("forbid", ["yes", "no"])
async def test_commands_behind_starttls_are_refused(certificate: Path, ahead: bytes, forbid: str) -> None:
    rig = tls_rig(certificate, smtpd_forbid_unauth_pipelining=forbid)
    answers = await call(
        rig, lambda client: [client.ask(b""), client.ask(b"EHLO x\r\n"), client.ask(b"STARTTLS\r\n" + ahead)]
    )
    assert answers[-1] == b"554 5.5.0 Error: SMTP protocol synchronization\r\n"
    assert any(line.startswith("improper command pipelining after STARTTLS") for line in rig.lines)


@ensureDeferred
async def test_clear_text_instead_of_a_handshake(certificate: Path) -> None:
    rig = tls_rig(certificate)

    def dialogue(client: Caller) -> list[bytes]:
        client.ask(b""), client.ask(b"EHLO x\r\n"), client.ask(b"STARTTLS\r\n")
        try:
            return [client.ask(b"MAIL FROM:<a@b.test>\r\n")]
        except ConnectionError:
            return [b""]

    answers = await call(rig, dialogue)
    assert b"250" not in answers[0]
    assert any(line.startswith("SSL_accept error from unknown[127.0.0.1]") for line in rig.lines)


@ensureDeferred
async def test_encryption_may_be_demanded(certificate: Path) -> None:
    rig = tls_rig(certificate, "encrypt")
    answers = await call(
        rig,
        lambda client: [client.ask(line) for line in (b"", b"EHLO x\r\n", b"MAIL FROM:<a@b.test>\r\n", b"NOOP\r\n")],
    )
    assert answers[2:] == [b"530 5.7.0 Must issue a STARTTLS command first\r\n", b"250 2.0.0 Ok\r\n"]


@ensureDeferred
async def test_tls_from_the_first_byte(certificate: Path) -> None:
    rig = tls_rig(certificate, "encrypt", smtpd_tls_wrappermode="yes")

    def dialogue(client: Caller) -> list[bytes]:
        client.handshake()
        return [client.ask(b""), client.ask(b"MAIL FROM:<a@b.test>\r\n")]

    assert await call(rig, dialogue) == [b"220 gw.test ESMTP mailgateway\r\n", b"250 2.1.0 Ok\r\n"]


def test_starttls_without_a_certificate(tmp_path: Path) -> None:
    rig = Rig(smtpd_tls_security_level="may", smtpd_tls_cert_file=str(tmp_path / "none.pem"))
    assert any("cannot load server certificate" in line for line in rig.lines)
    assert rig.connect().say("EHLO x", "STARTTLS")[-1] == "454 4.7.0 TLS not available due to local problem"


# --- limits, interfaces --------------------------------------------------------------------------------


def test_limits_forget_clients() -> None:
    now = [0.0]
    limits = ClientLimits(lambda: now[0])
    for number in range(5000):
        network = limits.network(f"2001:db8:{number:x}::1")
        limits.connect("smtp", network)
        limits.disconnect("smtp", network)
        now[0] += 0.1
    assert len(limits) < 2100


def test_ipv6_clients_are_counted_by_network() -> None:
    limits = ClientLimits(lambda: 0.0)
    assert limits.network("2001:db8::1") == limits.network("2001:db8::ffff:ffff")
    assert limits.network("192.0.2.1") != limits.network("192.0.2.2")


def test_stand_ins_keep_their_interfaces() -> None:
    cleanup = Cleanup()
    verifyObject(ICleanup, cleanup)
    verifyObject(IIntake, Intake(cleanup, None, [], Rig().factory.service.intake_options, "Q1"))
    verifyObject(IResolver, Resolver())


# --- keywords, footer, deadline --------------------------------------------------------------------------------


def test_keywords_are_kept_from_some_clients() -> None:
    rig = Rig(
        smtpd_discard_ehlo_keywords="chunking",
        smtpd_discard_ehlo_keyword_address_maps="inline:{{192.0.2.7 = dsn, etrn}}",
    )
    assert "DSN" not in rig.connect().say("EHLO x")[0]
    other = rig.connect("192.0.2.8").say("EHLO x", "BDAT 3")
    assert "DSN" in other[0] and "CHUNKING" not in other[0]
    assert other[1] == "521 5.5.1 Error: command not implemented"


@pytest.mark.parametrize(
    "footer, reply",
    [
        (
            "see $server_name, $client_address",
            "500-5.5.2 Error: command not recognized\n500 5.5.2 see gw.test, 192.0.2.7",
        ),
        ("\\c; call us", "500 5.5.2 Error: command not recognized; call us"),
        ("a\\nb", "500-5.5.2 Error: command not recognized\n500-5.5.2 a\n500 5.5.2 b"),
        ("${", "500 5.5.2 Error: command not recognized"),
    ],
)
def test_reject_footer(footer: str, reply: str) -> None:
    client = Rig(smtpd_reject_footer=footer).connect()
    assert client.say("XYZZY", "NOOP") == [reply, "250 2.0.0 Ok"]


def test_a_message_has_its_queue_id_from_the_first_good_recipient_on() -> None:
    rig = Rig()
    client = rig.connect()
    client.say("EHLO x", "MAIL FROM:<a@b.test>", *(f"RCPT TO:<{user}@gw.test>" for user in ("no", "joe", "no")))
    assert [line.partition(": RCPT")[0] for line in rig.lines[1:]] == [
        "NOQUEUE: reject", "Q1: client=unknown[192.0.2.7]", "Q1: reject"
    ]  # fmt: skip
    client.say("RSET", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>", "DATA")
    assert client.send(b"x\r\n.\r\n") == "250 2.0.0 Ok: queued as Q2\n"
    rig = Rig(smtpd_delay_open_until_valid_rcpt="no")
    rig.connect().say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>")
    assert rig.lines[1:] == ["Q1: client=unknown[192.0.2.7]"]


@pytest.mark.parametrize(
    "footer, line",
    [
        ("$reverse_client_name $sender $sender_domain $helo_name", "unknown <>  x"),
        ("${client_name?{at $localtime}}", "at Jan 15 08:00:00"),
        ("$nosuch|", "|"),
    ],
)
def test_what_a_footer_may_name(footer: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    rig = Rig(smtpd_reject_footer=footer)
    assert rig.connect().say("EHLO x", "MAIL FROM:<>", "XYZZY")[2].split("\n")[1] == f"500 5.5.2 {line}"
    assert ("unknown macro name" in rig.log.text) == ("nosuch" in footer)


def test_a_footer_goes_with_all_refusals() -> None:
    client = Rig(smtpd_reject_footer="sorry", smtpd_hard_error_limit="1").connect()
    assert client.send(b"XYZZY\r\n").endswith("421-4.7.0 gw.test Error: too many errors\n421 4.7.0 sorry\n")


def test_reject_footer_by_reply(tmp_path: Path) -> None:
    table = tmp_path / "footers"
    table.write_text("/^550 5.1.1 /  call $$server_name\n")
    client = Rig(smtpd_reject_footer_maps=f"pcre:{table}", smtpd_reject_footer="sorry").connect()
    assert client.say("EHLO x", "MAIL FROM:<>", "RCPT TO:<nobody@gw.test>", "BLAH")[2:] == [
        "550-5.1.1 <nobody@gw.test>: Recipient address rejected: User unknown in local recipient table\n"
        "550 5.1.1 call gw.test",
        "500-5.5.2 Error: command not recognized\n500 5.5.2 sorry",
    ]


@pytest.mark.parametrize(
    ("entry", "reply"),
    [
        ("/Access denied/ 450 4.7.9 Come back later", "450 4.7.9 Come back later"),
        ("/^554 5/ 521 Go away", "521 Go away"),
        ("/sender address/ 550 5.7.9 $$1", "550 5.7.9 $1"),
        ("/denied/ 550 4.7.9 A mixture", "554 5.7.1 <a@b.test>: Sender address rejected: Access denied"),
        ("/denied/ 250 2.0.0 Ok", "554 5.7.1 <a@b.test>: Sender address rejected: Access denied"),
        ("/denied/ 550 5.7.1", "554 5.7.1 <a@b.test>: Sender address rejected: Access denied"),
        ("/x/ DUNNO", "554 5.7.1 <a@b.test>: Sender address rejected: Access denied"),
    ],
)
def test_another_refusal(tmp_path: Path, entry: str, reply: str) -> None:
    (tmp_path / "replies").write_text(f"{entry}\n")
    rig = Rig(
        smtpd_reject_filter_maps=f"pcre:{tmp_path}/replies", smtpd_sender_restrictions="reject", soft_bounce="no",
        smtpd_reject_footer="\\c; sorry",
    )
    assert rig.connect().say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>")[2] == f"{reply}; sorry"
    unusable = "Sender" in reply and "/x/" not in entry
    assert ("warning: smtpd_reject_filter_maps: no refusal" in rig.log.text) == unusable
    assert "reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 <a@b.test>: Sender address" in rig.log.text


def test_vrfy_counts_as_a_recipient() -> None:
    rig = Rig(smtpd_client_recipient_rate_limit="1", smtpd_client_event_limit_exceptions="")
    replies = ["252 2.0.0 joe", "450 4.7.1 Error: too many recipients from 192.0.2.7"]
    assert rig.connect().say("VRFY joe", "VRFY joe") == replies
    line = "warning: Recipient address rate limit exceeded: 2 from unknown[192.0.2.7] for service smtp"
    assert line in rig.lines


def test_what_soft_bounce_softens() -> None:
    rig = Rig(
        smtpd_reject_filter_maps="inline:{{502 5.5.1 VRFY command is disabled=550 5.7.1 No}}", soft_bounce="yes",
        smtpd_reject_footer="sorry", disable_vrfy_command="yes",
    )
    assert rig.connect().say("VRFY x", "XYZZY") == [
        "450-4.7.1 No\n450 4.7.1 sorry", "400-4.5.2 Error: command not recognized\n400 4.5.2 sorry"
    ]  # fmt: skip


def test_per_request_deadline() -> None:
    rig = Rig(smtpd_per_request_deadline="yes", smtpd_timeout="10", smtpd_min_data_rate="10")
    client = rig.connect()
    client.say(*BEGIN)
    for _ in range(8):
        client.send(b"x")
        rig.clock.pump([1, 1])
    assert client.closed
    client = rig.connect()
    client.say(*BEGIN)
    for _ in range(8):
        client.send(b"x" * 28 + b"\r\n")
        rig.clock.pump([1, 1])
    assert client.send(b".\r\n").startswith("250 ")
