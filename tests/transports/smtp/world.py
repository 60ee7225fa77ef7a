"""A network in memory: a clock, hosts that answer by a script, names, messages."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError, ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.addresses.rewriting import Generic
from gateway.config.settings import Settings
from gateway.content.outgoing import OutgoingChecks
from gateway.interfaces import MX, DNSError, Request
from gateway.log import MemoryLog
from gateway.tables.registry import Tables
from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, RecipientState
from transports.smtp import SMTPTransport
from transports.smtp.login import Logins
from transports.smtp.transcript import Postmaster

T = TypeVar("T")
CLOSE, RESET, SILENCE = "CLOSE", "RESET", "SILENCE"
PROPER = {
    "CONNECT": "220 mx.test ESMTP", "EHLO": "250-mx.test\n250-PIPELINING\n250-SIZE\n250-8BITMIME\n250 DSN",
    "LHLO": "250-mx.test\n250-PIPELINING\n250 8BITMIME", "HELO": "250 mx.test", "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok", "DATA": "354 go ahead", "EOM": "250 2.0.0 Ok", "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye", "XFORWARD": "250 2.0.0 Ok",
}


class Host:
    """A mail server.  ``replies``: verb (or "VERB pattern") → reply, or a list of replies one after the other;
    lines are parted by "\\n"; CLOSE, RESET, SILENCE are deeds instead of words."""

    def __init__(self, **replies: Any) -> None:
        self.replies: dict[str, Any] = replies
        self.special: list[tuple[str, str, Any]] = []
        self.sessions: list[ServerSide] = []
        self.messages: list[bytes] = []
        self.piece = 0
        """Bytes that go out at a time; 0 = each reply in one piece."""

    def on(self, verb: str, pattern: str, reply: Any) -> Host:
        self.special.append((verb, pattern, reply))
        return self

    def reply(self, verb: str, text: str) -> str:
        for known, pattern, reply in self.special:
            if known == verb and re.search(pattern, text):
                return str(reply)
        found = self.replies.get(verb, PROPER.get(verb, "500 what"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return str(found)

    @property
    def commands(self) -> list[str]:
        return [command for session in self.sessions for command in session.commands]


class ServerSide:
    def __init__(self, host: Host, net: Net, transport: Any) -> None:
        self.host, self.net, self.transport = host, net, transport
        self.commands: list[str] = []
        self.buffer = b""
        self.data: bytes | None = None
        self.accepted = 0
        self.closed = False
        self.say("CONNECT", "")

    def receive(self, data: bytes) -> None:
        self.buffer += data
        while not self.closed:
            if self.data is not None:
                if not self.take_message():
                    return
            elif b"\r\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\r\n", 1)
                self.command(line.decode("utf-8", "surrogateescape"))
            else:
                return

    def take_message(self) -> bool:
        assert self.data is not None
        whole = b"\r\n" + self.buffer
        end = whole.find(b"\r\n.\r\n")
        if end < 0:
            return False
        self.buffer = whole[end + 5 :]
        self.host.messages.append(whole[2 : end + 2])
        self.data = None
        lmtp = any(command.startswith("LHLO") for command in self.commands)
        for _ in range(self.accepted if lmtp else 1):
            self.say("EOM", self.host.messages[-1].decode("latin-1"))
        return True

    def command(self, line: str) -> None:
        self.commands.append(line)
        verb = line.split(" ")[0].upper()
        if verb == "MAIL":
            self.accepted = 0
        code = self.say(verb, line)
        if verb == "RCPT" and code == "2":
            self.accepted += 1
        if verb == "DATA" and code == "3":
            self.data = b""
        if verb == "QUIT" and code == "2":
            self.close()

    def say(self, verb: str, text: str) -> str:
        reply = self.host.reply(verb, text)
        if reply in (CLOSE, RESET):
            self.close()
        elif reply != SILENCE:
            self.transport.send(reply.replace("\n", "\r\n").encode("latin-1") + b"\r\n", self.host.piece)
            if reply.startswith("421"):
                self.close()
        return reply[:1]

    def close(self) -> None:
        self.closed = True
        self.transport.hang_up()


class Wire:
    """The client's transport."""

    def __init__(self, net: Net, protocol: Any) -> None:
        self.net, self.protocol = net, protocol
        self.server: ServerSide | None = None
        self.connected = True
        self.aborted = False
        self.written: list[bytes] = []
        self.producer: Any = None
        self.held: list[bytes] | None = None
        """What came while the client wanted nothing."""
        self.order: list[Callable[[], None]] = []

    # the client's side
    def setTcpNoDelay(self, on: bool) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.connected:
            self.written.append(data)
            self.net.callLater(0, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self.server is not None and not self.server.closed and not self.aborted:
            self.server.receive(data)

    def loseConnection(self) -> None:
        self.net.callLater(0, self._lose)

    def abortConnection(self) -> None:
        self.aborted = True
        self.net.callLater(0, self._lose)

    def pauseProducing(self) -> None:
        self.held = []

    def resumeProducing(self) -> None:
        held, self.held = self.held, None
        for data in held or []:
            self.net.callLater(0, self._deliver, data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        if not streaming:
            self._pull()

    def _pull(self) -> None:
        if self.producer is not None and self.connected:
            self.producer.resumeProducing()
            over = self.written[-1].endswith(b".\r\n")
            self.net.callLater(0 if over else self.net.pull_every, self._pull)

    def unregisterProducer(self) -> None:
        self.producer = None

    # the server's side
    def send(self, data: bytes, piece: int) -> None:
        step = piece or len(data)
        for start in range(0, len(data), step):
            self.net.callLater(0, self._deliver, data[start : start + step])

    def _deliver(self, data: bytes) -> None:
        if self.held is not None:
            self.held.append(data)
        elif self.connected:
            self.protocol.dataReceived(data)

    def hang_up(self) -> None:
        self.net.callLater(0, self._lose)

    def _lose(self) -> None:
        if self.connected:
            self.connected = False
            if self.server is not None:
                self.server.closed = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(ConnectionDone()))


class Net(Clock):
    """Also the reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = 1_000_000.0
        self.hosts: dict[Any, Host] = {}
        self.wires: list[Wire] = []
        self.asked: list[Any] = []
        self.bound: list[Any] = []
        self.cannot_bind: set[str] = set()
        self.pull_every = 0
        """Seconds between the blocks of a message that are taken."""

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> None:
        self.bound.append(bindAddress)
        if bindAddress and bindAddress[0] in self.cannot_bind:
            problem = ConnectBindError(99, "Cannot assign requested address")
            self.callLater(0, factory.clientConnectionFailed, None, Failure(problem))
            return
        self._connect((host, port), factory, timeout)

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30) -> None:
        self._connect(address, factory, timeout)

    def _connect(self, key: Any, factory: Any, timeout: float) -> None:
        self.asked.append(key)
        host = self.hosts.get(key)
        if host is None:
            problem = ConnectionRefusedError(111)
            problem.osError = 111
            self.callLater(0, factory.clientConnectionFailed, None, Failure(problem))
        elif "TIMEOUT" in host.replies:
            self.callLater(timeout, factory.clientConnectionFailed, None, Failure(TimeoutError()))
        else:
            self.callLater(0, self._connected, host, factory)

    def _connected(self, host: Host, factory: Any) -> None:
        protocol = factory.buildProtocol(None)
        wire = Wire(self, protocol)
        self.wires.append(wire)
        protocol.makeConnection(wire)
        wire.server = ServerSide(host, self, wire)
        host.sessions.append(wire.server)

    def run(self, coroutine: Coroutine[Any, Any, T], limit: float = 10_000) -> T:
        """Let time pass until the coroutine is done."""
        done = Deferred.fromCoroutine(coroutine)
        end = self.seconds() + limit
        self.settle()
        while not done.called:
            assert self.getDelayedCalls() and self.seconds() < end, "nothing will ever happen"
            self.advance(max(0.0, min(call.getTime() for call in self.getDelayedCalls()) - self.seconds()))
            self.settle()
        found: list[T] = []
        done.addCallback(found.append)
        done.addErrback(lambda failure: failure.raiseException())
        return found[0]

    def settle(self) -> None:
        """All that happens without waiting."""
        for _ in range(100_000):
            if not any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                return
            self.advance(0)
        raise AssertionError("no end")


class Names:
    """IResolver from dicts; a DNSError as a value is raised."""

    disabled = False

    def __init__(self) -> None:
        self.mxs: dict[str, Any] = {}
        self.hosts: dict[str, Any] = {}

    async def mx(self, domain: str) -> list[MX]:
        found = self.mxs.get(domain, [])
        if isinstance(found, DNSError):
            raise found
        return [MX(*each) for each in found]

    async def addresses(self, host: str) -> list[str]:
        if re.fullmatch(r"[0-9.]+|[0-9a-f:]+:[0-9a-f:]*", host):
            return [host]
        found = self.hosts.get(host, not_found(host))
        if isinstance(found, DNSError):
            raise found
        return list(found)


def not_found(host: str, kind: str = "A", words: str = "Host not found", temporary: bool = False) -> DNSError:
    text = f"Host or domain name not found. Name service error for name={host} type={kind}: {words}"
    return DNSError(text, temporary=temporary)


class Message(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)
        self.times_closed = 0

    def seek(self, position: int, whence: int = 0) -> Any:
        return super().seek(position, whence)

    def close(self) -> None:
        self.times_closed += 1


class World:
    """A transport with all around it."""

    def __init__(self, lmtp: bool = False, own: tuple[str, ...] = (), flags: str = "", **values: Any) -> None:
        self.net = Net()
        self.names = Names()
        self.log = MemoryLog()
        self.content = Message(b"Subject: x\n\nbody\n")
        self.told: list[tuple[set[str], str, list[str]]] = []
        """What the postmaster has heard."""
        values = {"myhostname": "gw.test", "smtp_randomize_addresses": "no", "inet_protocols": "ipv4", **values}
        settings = Settings(values)
        tables = Tables(clock=self.net, log=self.log)
        self.transport = SMTPTransport(
            settings, "smtp", self.names, _Source(self), self.log, self.net, tables, own, lmtp=lmtp, flags=flags,  # type: ignore[arg-type]
            checks=OutgoingChecks.of(settings, tables, "lmtp_" if lmtp else "smtp_", "smtp", self.log),
            generic=Generic.from_settings(settings, tables, own, log=self.log),
            logins=Logins.of(settings, tables, lambda: "nonce", lmtp=lmtp, own_addresses=own),
            postmaster=Postmaster.of(settings, self._tell, self.log, "smtp"),
        )

    async def _tell(self, errors: AbstractSet[str], peer: str, lines: Sequence[str]) -> None:
        if peer.startswith("trouble"):
            raise OSError("no room")
        self.told.append((set(errors), peer, list(lines)))

    async def open(self, id: str) -> Message:
        self.content.seek(0)
        return self.content

    def content_of(self, data: bytes) -> None:
        self.content = Message(data)

    def host(self, address: str, port: int = 25, **replies: Any) -> Host:
        host = self.net.hosts[address, port] = Host(**replies)
        return host

    def request(self, nexthop: str, *addresses: str, **values: Any) -> Request:
        envelope = Envelope(values.pop("sender", "from@gw.test"), [Recipient(each) for each in addresses], **values)
        envelope.arrival = envelope.arrival or self.net.seconds()
        envelope.size = self.content.size
        entry = Entry("QID", envelope, [RecipientState() for _ in addresses])
        return Request(entry, "smtp", nexthop, list(range(len(addresses))), list(addresses))

    def send(self, nexthop: str, *addresses: str, **values: Any) -> list[Any]:
        request = self.request(nexthop, *(addresses or ("to@x.test",)), **values)
        return list(self.net.run(self.transport.deliver(request)))


class _Source:
    def __init__(self, world: World) -> None:
        self._world = world

    async def content(self, id: str) -> Message:
        return await self._world.open(id)
