"""A real TLS server on loopback, and a transport that delivers to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from gateway.certificates import load
from gateway.config.settings import Settings
from gateway.log import MemoryLog
from gateway.tables import Tables
from tests.transports.smtp.certificates import Certificate
from tests.transports.smtp.world import Message, Names, World
from transports.smtp import SMTPTransport
from transports.smtp.login import Logins


@implementer(IOpenSSLServerConnectionCreator)
class Contexts:
    """What the server shows; notes what it was asked for, and whether sessions were resumed."""

    def __init__(self, file: Path, *, ask: bool = False, most: int = SSL.TLS1_3_VERSION) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.set_max_proto_version(most)
        self.context.set_session_id(b"test")
        self.names: list[bytes | None] = []
        self.context.set_tlsext_servername_callback(lambda connection: self.names.append(connection.get_servername()))
        if ask:
            self.context.set_verify(SSL.VERIFY_PEER, lambda *found: True)
        load(self.context, [file])

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class Server(LineReceiver):
    """Offers STARTTLS; see Site for what it does else."""

    delimiter = b"\r\n"

    def connectionMade(self) -> None:
        self.secure = self.factory.wrapped
        self.data = False
        self.factory.connections += 1
        self.sendLine(b"220 mx.test ESMTP")

    def lineReceived(self, line: bytes) -> None:
        site = self.factory
        site.lines.append((self.secure, line))
        verb = line[:4].upper()
        if self.data:
            if line == b".":
                self.data = False
                self.sendLine(b"250 2.0.0 Ok")
        elif verb == b"STAR":
            self.transport.write(site.answer + b"\r\n" + site.behind)
            if site.answer.startswith(b"220"):
                self.secure = True
                if site.garbage or site.silent:
                    self.setRawMode()
                else:
                    self.transport.startTLS(site.contexts)
        elif verb in (b"EHLO", b"LHLO"):
            if self.secure:
                site.certificates.append(self.transport.getPeerCertificate())
            self.sendLine(b"250-mx.test")
            keywords = site.keywords if self.secure else site.clear_keywords
            for word in keywords:
                self.sendLine(b"250-" + word)
            self.sendLine(b"250 " + (b"8BITMIME" if self.secure or not site.offered else b"starttls"))
        elif verb == b"DATA":
            self.data = True
            self.sendLine(b"354 go")
        elif verb == b"MAIL" and site.hangs_up and self.secure:
            self.transport.abortConnection()
        elif verb == b"QUIT":
            self.transport.loseConnection()
        else:
            self.sendLine(b"235 ok" if verb == b"AUTH" else b"250 ok")

    def rawDataReceived(self, data: bytes) -> None:
        """The client's hello of the handshake."""
        if not self.factory.silent:
            self.transport.write(b"this is no handshake")
            self.transport.loseConnection()


class Site:
    """``factory``: the server's, with answer (to STARTTLS), behind (in clear behind that), garbage or silent (instead
    of a handshake), offered (STARTTLS), hangs_up (at MAIL within TLS), keywords, clear_keywords."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Certificate("Test Root", authority=True)
        self.ca = self.authority.write(folder / "ca.pem", key=False)
        self.factory: Any = Factory.forProtocol(Server)
        self.factory.answer, self.factory.behind, self.factory.lines = b"220 go", b"", []
        self.factory.garbage, self.factory.silent, self.factory.offered = False, False, True
        self.factory.hangs_up, self.factory.connections, self.factory.wrapped = False, 0, False
        self.factory.keywords, self.factory.clear_keywords, self.factory.certificates = [], [], []
        self.names = Names()
        self.log = MemoryLog()
        self.transport: SMTPTransport | None = None
        self.port: Any = None
        self.shows(Certificate("mx.test", ["mx.test", "a.hop.test"], self.authority))

    def shows(self, certificate: Certificate, *chain: Certificate, **how: Any) -> Certificate:
        """What the server has from now on."""
        self.factory.contexts = Contexts(certificate.write(self.folder / "server.pem", *chain), **how)
        return certificate

    def listen(self, wrapped: bool = False) -> int:
        if self.port is None:
            self.factory.wrapped = wrapped
            loop: Any = reactor
            factory = TLSMemoryBIOFactory(self.factory.contexts, False, self.factory) if wrapped else self.factory
            self.port = loop.listenTCP(0, factory, interface="127.0.0.1")
        return int(self.port.getHost().port)

    def transport_with(self, prefix: str, values: dict[str, str]) -> SMTPTransport:
        conf = {"myhostname": "gw.test", prefix + "tls_CAfile": str(self.ca), **values}
        settings, tables = Settings(conf, directory=self.folder), Tables(clock=reactor, log=self.log)  # type: ignore[arg-type]
        lmtp = prefix == "lmtp_"
        return SMTPTransport(
            settings, "smtp", self.names, self, self.log, reactor, tables, lmtp=lmtp,  # type: ignore[arg-type]
            logins=Logins.of(settings, tables, lambda: "nonce", lmtp=lmtp),
        )

    async def send(self, level: str = "", nexthop: str = "mx.test", *, wrapped: bool = False, age: float = 0,
                   prefix: str = "smtp_", again: bool = False, policy: str = "", **values: str) -> Any:
        """``age``: of the message; ``again``: with the transport of last time; ``policy``: smtp_tls_policy_maps says
        so of this next hop."""
        port = self.listen(wrapped)
        self.names.hosts |= dict.fromkeys(("mx.test", "other.test", "hop.test"), ["127.0.0.1"])
        if policy:
            values[prefix + "tls_policy_maps"] = f"inline:{{ {{ [{nexthop}]:{port} = {policy} }} }}"
        if self.transport is None or not again:
            await self.stop_transport()
            self.transport = self.transport_with(prefix, {prefix + "tls_security_level": level, **values})
        request = World().request(f"[{nexthop}]:{port}", "to@x", arrival=reactor.seconds() - age)  # type: ignore[attr-defined]
        (result,) = await self.transport.deliver(request)
        return result

    async def hears(self, *line: Any) -> None:
        """Let the server hear that, within TLS or not, before the test goes on."""
        for _ in range(500):
            if line in self.factory.lines:
                return
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        raise AssertionError(f"{line} did not come")

    async def stop_transport(self) -> None:
        if self.transport is not None:
            await self.transport.stop()

    async def stop(self) -> None:
        await self.stop_transport()
        if self.port is not None:
            await self.port.stopListening()

    async def content(self, id: str) -> Message:
        return Message(b"Subject: x\n\nbody\n")

    def lines(self, secure: bool) -> list[bytes]:
        return [line for was_secure, line in self.factory.lines if was_secure is secure]
