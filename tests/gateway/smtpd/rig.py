"""A server and a client in memory, with a Clock; the tables, addresses and policy are the real ones."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.testing import MemoryReactorClock, StringTransport
from zope.interface import implementer

from gateway.addresses.recipients import Recipients
from gateway.config import Settings
from gateway.interfaces import MX, DNSError, ICleanup, IIntake, IResolver, Rejected
from gateway.log import MemoryLog
from gateway.smtpd.limits import ClientLimits, Room
from gateway.smtpd.server import SmtpdFactory, make_service
from gateway.smtpd.service import Collaborators
from gateway.tables import Tables

SETTINGS = {
    "myhostname": "gw.test",
    "mail_name": "mailgateway",
    "mydestination": "gw.test, localhost",
    "mynetworks": "10.0.0.0/8",
    "inet_interfaces": "127.0.0.1",
    "local_recipient_maps": "inline:{joe=x, ann=x}",
    "alias_maps": "",
    "compatibility_level": "3.6",
    "smtpd_peername_lookup": "no",
    "smtpd_error_sleep_time": "0",
}


@implementer(IIntake)
class Intake:
    def __init__(self, owner: Cleanup, envelope: Any, received: list[bytes], options: Any, id: str) -> None:
        self.owner = owner
        self.id = id
        self.envelope, self.received, self.options = envelope, received, options
        self.hold, self.discard, self.copies = options.hold, options.discard, list(options.copies)
        self.blocks: list[bytes] = []
        self.state = "open"
        self.room: Any = None

    @property
    def content(self) -> bytes:
        return b"".join(self.blocks)

    def write(self, block: bytes) -> None:
        self.blocks.append(block)

    @property
    def full(self) -> bool:
        return self.room is not None

    async def drained(self) -> None:
        await self.room

    async def finish(self) -> str:
        if self.owner.wait is not None:
            await self.owner.wait
        if self.owner.failure is not None:
            self.state = "refused"
            raise self.owner.failure
        self.state = "stored"
        return self.id

    def abort(self) -> None:
        if self.state == "open":
            self.state = "aborted"


@implementer(ICleanup)
class Cleanup:
    """Takes messages and keeps them; ``failure`` is raised at the end of one, ``wait`` is awaited there."""

    def __init__(self) -> None:
        self.begun: list[Intake] = []
        self.ids = 0
        self.failure: Exception | None = None
        self.refuse_begin: Exception | None = None
        self.wait: Any = None

    def new_id(self) -> str:
        self.ids += 1
        return f"Q{self.ids}"

    async def begin(
        self, service: str, envelope: Any, received: Any = (), options: Any = None, id: str = ""
    ) -> Intake:
        if self.refuse_begin is not None:
            raise self.refuse_begin
        intake = Intake(self, envelope, list(received), options, id or self.new_id())
        self.begun.append(intake)
        return intake

    @property
    def stored(self) -> list[Intake]:
        return [intake for intake in self.begun if intake.state == "stored"]


@implementer(IResolver)
class Resolver:
    """Answers from dicts; what is not there does not exist.  A value of None is a temporary error."""

    disabled = False

    def __init__(self) -> None:
        self.names: dict[str, str | None] = {}
        self.hosts: dict[str, list[str] | None] = {}
        self.servers: dict[str, list[MX] | None] = {}
        self.records: dict[tuple[str, str], list[Any] | None] = {}
        self.wait: Any = None

    async def _get(self, known: dict[Any, Any], key: Any) -> Any:
        if self.wait is not None:
            await self.wait
        if key not in known:
            raise DNSError(f"{key}: not found", temporary=False)
        if known[key] is None:
            raise DNSError(f"{key}: try again", temporary=True)
        if isinstance(known[key], DNSError):
            raise known[key]
        return known[key]

    async def mx(self, domain: str) -> list[MX]:
        if domain not in self.servers and domain in self.hosts:
            return []
        return await self._get(self.servers, domain)

    async def addresses(self, host: str) -> list[str]:
        return await self._get(self.hosts, host)

    async def native(self, host: str) -> list[str]:
        try:
            return await self.addresses(host)
        except DNSError as error:
            words = "Temporary failure in name resolution" if error.temporary else "Name or service not known"
            raise DNSError(f"unable to look up host {host}: {words}", temporary=error.temporary) from None

    async def hostname(self, address: str) -> str:
        return await self._get(self.names, address)

    async def query(self, name: str, type: str) -> list[Any]:
        known = {"MX": self.servers, "A": self.hosts}.get(type, {})
        if name in known:
            return await self._get(known, name)
        return await self._get(self.records, (name, type))


class Transport(StringTransport):
    """Remembers pauses and how it ended."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Client:
    def __init__(self, rig: Rig, address: Any) -> None:
        self.rig = rig
        self.protocol = rig.factory.buildProtocol(address)
        self.transport = Transport(IPv4Address("TCP", "192.0.2.1", 25), address)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes | str) -> str:
        """Send bytes; what came back."""
        self.protocol.dataReceived(data.encode() if isinstance(data, str) else data)
        return self.got()

    def got(self) -> str:
        """What came since the last time."""
        for _ in range(200):
            if not any(call.getTime() <= self.rig.clock.seconds() for call in self.rig.clock.getDelayedCalls()):
                break
            self.rig.clock.advance(0)
        value = self.transport.value().decode().replace("\r\n", "\n")
        self.transport.clear()
        return value

    def say(self, *lines: str) -> list[str]:
        """One command after another; the replies."""
        return [self.send(line + "\r\n").rstrip("\n") for line in lines]

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)

    def go_away(self) -> None:
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.protocol.connectionLost(Failure(ConnectionDone()))


class Rig:
    """``own``: our addresses; ``free``: bytes on the disk; anything else is a setting."""

    reactor: Any = MemoryReactorClock

    def __init__(
        self, *, process_limit: int = 0, free: int = 1 << 40, own: tuple[str, ...] = (), **settings: str
    ) -> None:
        self.clock = self.reactor()
        self.clock.advance(1_800_000_000)
        self.log = MemoryLog()
        self.cleanup = Cleanup()
        self.resolver = Resolver()
        self.tables = Tables(clock=self.clock, log=self.log)
        self.flushed: list[str] = []
        self.free = free
        self.own = frozenset(own)
        self.limits = ClientLimits(self.clock.seconds)
        self.room = Room()
        self.settings = Settings(SETTINGS | settings)
        self.factory = SmtpdFactory(self.service(), process_limit=process_limit)

    def collaborators(self) -> Collaborators:
        async def flush(site: str) -> str:
            self.flushed.append(site)
            return "flushed" if site == "relayed.test" else "not eligible"

        return Collaborators(
            cleanup=self.cleanup,
            addresses=Recipients.from_settings(self.settings, self.tables, self.own, self.log),
            tables=self.tables,
            resolver=self.resolver,
            log=self.log,
            clock=self.clock,
            limits=self.limits,
            own_addresses=self.own,
            free_bytes=lambda: self.free,
            flush_site=flush,
            room=self.room,
        )

    def service(self, **options: Any) -> Any:
        return make_service(self.settings, self.collaborators(), **options)

    def connect(self, address: str = "192.0.2.7", *, greet: bool = True) -> Client:
        kind = IPv6Address if ":" in address else IPv4Address
        client = Client(self, kind("TCP", address, 4711))
        if greet:
            assert client.got() == "220 gw.test ESMTP mailgateway\n", "the greeting"
        return client

    @property
    def lines(self) -> list[str]:
        return [text for _, text in self.log.lines]


__all__ = ["Rejected", "Rig"]
