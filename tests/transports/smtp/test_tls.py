"""STARTTLS with real handshakes over loopback sockets."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_twisted import ensureDeferred
from twisted.internet import reactor, ssl
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from gateway.config.settings import Settings
from gateway.interfaces import DEFERRED, SENT
from gateway.log import MemoryLog
from tests.transports.smtp.world import Message, Names, World
from transports.smtp import SMTPTransport


class Server(LineReceiver):
    """Offers STARTTLS; ``behind``: what it says in clear right behind the 220."""

    delimiter = b"\r\n"

    def connectionMade(self) -> None:
        self.secure = self.factory.wrapped
        self.data = False
        self.factory.connections += 1
        self.sendLine(b"220 mx.test ESMTP")

    def lineReceived(self, line: bytes) -> None:
        self.factory.lines.append((self.secure, line))
        verb = line[:4].upper()
        if self.data:
            if line == b".":
                self.data = False
                self.sendLine(b"250 2.0.0 Ok")
        elif verb == b"STAR":
            self.transport.write(self.factory.answer + b"\r\n" + self.factory.behind)
            if self.factory.answer.startswith(b"220"):
                self.secure = True
                if self.factory.garbage:
                    self.setRawMode()
                else:
                    self.transport.startTLS(self.factory.context)
        elif verb == b"EHLO":
            self.sendLine(b"250-mx.test")
            self.sendLine(b"250 " + (b"8BITMIME" if self.secure or not self.factory.offered else b"starttls"))
        elif verb == b"DATA":
            self.data = True
            self.sendLine(b"354 go")
        elif verb == b"QUIT":
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 ok")


    def rawDataReceived(self, data: bytes) -> None:
        """The client's hello of the handshake."""
        self.transport.write(b"this is no handshake")
        self.transport.loseConnection()


class Site:
    def __init__(self, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.test")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("mx.test"), x509.DNSName("a.hop.test")]), False)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.ca = tmp_path / "ca.pem"
        self.ca.write_bytes(pem)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.factory: Any = Factory.forProtocol(Server)
        self.factory.context = ssl.PrivateCertificate.loadPEM(pem + private).options()
        self.factory.answer, self.factory.behind, self.factory.lines = b"220 go", b"", []
        self.factory.garbage, self.factory.offered, self.factory.connections = False, True, 0
        self.factory.wrapped = False
        self.names = Names()
        self.log = MemoryLog()

    def listen(self, wrapped: bool = False) -> int:
        self.factory.wrapped = wrapped
        loop: Any = reactor
        if wrapped:
            self.port = loop.listenSSL(0, self.factory, self.factory.context, interface="127.0.0.1")
        else:
            self.port = loop.listenTCP(0, self.factory, interface="127.0.0.1")
        return int(self.port.getHost().port)

    async def send(self, level: str, nexthop: str = "mx.test", wrapped: bool = False, **values: str) -> Any:
        port = self.listen(wrapped)
        self.names.hosts |= dict.fromkeys(("mx.test", "other.test", "hop.test"), ["127.0.0.1"])
        conf = {"myhostname": "gw.test", "smtp_tls_security_level": level, "smtp_tls_CAfile": str(self.ca), **values}
        transport = SMTPTransport(Settings(conf), "smtp", self.names, self, self.log, reactor)
        try:
            (result,) = await transport.deliver(World().request(f"[{nexthop}]:{port}", "to@x"))
        finally:
            await self.port.stopListening()
        return result

    async def content(self, id: str) -> Message:
        return Message(b"Subject: x\n\nbody\n")

    def lines(self, secure: bool) -> list[bytes]:
        return [line for was_secure, line in self.factory.lines if was_secure is secure]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)


@ensureDeferred
async def test_may_uses_it_whoever_it_is(site: Site) -> None:
    result = await site.send("may", "other.test", smtp_tls_loglevel="1")
    assert result.status == SENT
    assert b"MAIL FROM:<from@gw.test>" in site.lines(True) and site.lines(False) == [b"EHLO gw.test", b"STARTTLS"]
    assert "Untrusted TLS connection established to other.test[127.0.0.1]" in site.log.text


@ensureDeferred
async def test_none_does_not(site: Site) -> None:
    assert (await site.send("none")).status == SENT
    assert not site.lines(True)


@ensureDeferred
async def test_may_goes_on_in_clear_after_a_failure(site: Site) -> None:
    site.factory.garbage = True
    site.factory.answer = b"220 go"
    result = await site.send("may")
    assert result.status == SENT and site.factory.connections == 2
    assert b"MAIL FROM:<from@gw.test>" in site.lines(False)


@ensureDeferred
async def test_may_goes_on_in_the_same_session_after_a_refusal(site: Site) -> None:
    site.factory.answer = b"454 not now"
    assert (await site.send("may")).status == SENT
    assert site.factory.connections == 1


@ensureDeferred
async def test_encrypt_never_goes_on_in_clear(site: Site) -> None:
    site.factory.garbage = True
    result = await site.send("encrypt")
    assert (result.status, result.dsn) == (DEFERRED, "4.7.5")
    assert result.reason == "Cannot start TLS: handshake failure"
    site.factory.answer = b"454 4.7.0 not now"
    result = await site.send("encrypt")
    assert (result.status, result.dsn) == (DEFERRED, "4.7.0")
    assert result.reason.startswith("TLS is required, but host mx.test[127.0.0.1] refused to start TLS: 454")
    site.factory.offered = False
    result = await site.send("encrypt")
    assert (result.status, result.dsn) == (DEFERRED, "4.7.4")
    assert result.reason == "TLS is required, but was not offered by host mx.test[127.0.0.1]"
    assert not [line for line in site.lines(False) if line.startswith(b"MAIL")]


@ensureDeferred
async def test_what_comes_in_clear_behind_the_220_is_never_believed(site: Site) -> None:
    site.factory.behind = b"250-mx.test\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"
    for level in ("may", "encrypt"):
        result = await site.send(level)
        assert result.status == DEFERRED and "Protocol error" in result.reason
    assert not [line for _, line in site.factory.lines if line.startswith(b"MAIL")]


@ensureDeferred
async def test_certificates_are_checked(site: Site) -> None:
    assert (await site.send("verify", "mx.test")).status == SENT
    assert (await site.send("secure", "mx.test")).status == SENT
    assert (await site.send("secure", "hop.test", smtp_tls_secure_cert_match="dot-nexthop")).status == SENT
    assert (await site.send("secure", "other.test", smtp_tls_secure_cert_match="mx.test")).status == SENT
    assert not [line for line in site.lines(False) if line.startswith(b"MAIL")]
    del site.factory.lines[:]
    for level in ("verify", "secure"):
        result = await site.send(level, "other.test")
        assert (result.status, result.dsn, result.reason) == (DEFERRED, "4.7.5", "Server certificate not verified")
        result = await site.send(level, "mx.test", smtp_tls_CAfile="/etc/ssl/certs/ca-certificates.crt")
        assert (result.status, result.reason) == (DEFERRED, "Cannot start TLS: handshake failure")
    assert not [line for _, line in site.factory.lines if line.startswith(b"MAIL")]


@ensureDeferred
async def test_wrapper_mode(site: Site) -> None:
    result = await site.send("encrypt", wrapped=True, smtp_tls_wrappermode="yes")
    assert result.status == SENT and not site.lines(False)


def test_levels_that_are_not_known() -> None:
    for level in ("dane", "rubbish"):
        with pytest.raises(ValueError, match="smtp_tls_security_level"):
            World(smtp_tls_security_level=level)


