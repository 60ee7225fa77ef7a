"""Asking servers questions over a few lasting connections: what tcp:, socketmap: and policy services have in common.

One question at a time goes over a connection; when all of a server's connections are busy, questions wait their turn.
A question that fails on a connection which had been idle is asked once more on a new one, as the server may have
closed it meanwhile.  Everything has a time limit; whatever goes wrong is a TableError, NoAnswer if the server could not
be reached or said nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from typing import Protocol as Interface

from twisted.internet import defer, error
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from gateway.config.ports import known_ports, tcp_port
from gateway.interfaces import DNSError, TableError
from gateway.sending import send
from gateway.tables.networks import parse_address

if TYPE_CHECKING:
    from gateway.config.settings import Settings

TIMEOUT = 100.0
"""Seconds for a question and its answer: tcp_table(5)."""
CONNECT_TIMEOUT = 30.0
IDLE = 10.0
"""A connection that is not used for so long is closed."""
MAX_CONNECTIONS = 4

LOST = "lost connection"


class NoAnswer(TableError):
    """``reason``: what was wrong, without the server's name: in the system's words, or LOST."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Place(NamedTuple):
    """Where a server is: a unix path, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def service_place(text: str, settings: Settings) -> Place:
    """What "inet:HOST:PORT" and "unix:PATH" (in queue_directory, if relative) mean.  Raises ValueError."""
    kind, _, name = text.partition(":")
    if kind == "inet" and name:
        host, _, port = name.rpartition(":")
        return Place(host=host or "localhost", port=tcp_port(port, known_ports(settings)))
    if kind in ("unix", "local") and name:
        return Place(os.path.join(settings.text("queue_directory"), name))
    raise ValueError(f"invalid transport name: {kind} in service: {text}")


class Network(Interface):
    """Where connections are made."""

    @property
    def reactor(self) -> Any: ...

    @property
    def resolver(self) -> Any:
        """An IResolver for host names; None = the system's, blocking."""
        ...


class Reach(NamedTuple):
    """A Network."""

    reactor: Any
    resolver: Any


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a question, a connection attempt and an idle connection may last; how many connections there may
    be; and after how many seconds and questions one is replaced (0 = never)."""

    timeout: float = TIMEOUT
    connect: float = CONNECT_TIMEOUT
    idle: float = IDLE
    connections: int = MAX_CONNECTIONS
    age: float = 0
    questions: int = 0


_AnyProtocol = TypeVar("_AnyProtocol", bound=Protocol)

Frame = Callable[[bytes], tuple[bytes, bytes] | None]
"""Cuts a whole reply off what has come: (reply, the rest), None = not yet; raises ValueError for what is none."""


class _Limit:
    """A time limit that is set for each question and seldom reached: the reactor's timer is left running when the
    limit is lifted, and set anew only when it goes off."""

    def __init__(self, clock: Any, seconds: float, action: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._action = action
        self._end = 0.0
        self._timer: Any = None

    def set(self) -> None:
        self._end = self._clock.seconds() + self._seconds
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._look)

    def lift(self) -> None:
        self._end = 0.0

    def stop(self) -> None:
        self._end = 0.0
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        left = self._end - self._clock.seconds()
        if self._end and left > 0:
            self._timer = self._clock.callLater(left, self._look)
        elif self._end:
            self._action()


class _Connection(Protocol):
    """One connection; the reply to the question in flight fires ``_waiting``.  ``drop``: called when it was idle for
    too long."""

    def __init__(self, frame: Frame, clock: Any, patience: Patience, drop: Callable[[_Connection], None]) -> None:
        self._frame = frame
        self._buffer = b""
        self._waiting: defer.Deferred[bytes] | None = None
        self._time = _Limit(clock, patience.timeout, self._too_late)
        self.rest = _Limit(clock, patience.idle, lambda: drop(self))
        self.lost = False
        self.born = 0.0
        self.asked = 0

    def ask(self, question: bytes) -> defer.Deferred[bytes]:
        assert self._waiting is None
        self.asked += 1
        self._waiting = defer.Deferred(lambda _: self._give_up())
        self._time.set()
        send(self.transport, question)
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        try:
            framed = self._frame(self._buffer)
        except ValueError as problem:
            self._fail(TableError(str(problem)))
            return
        if framed is None:
            return
        reply, self._buffer = framed
        if self._waiting is None or self._buffer:
            self._fail(TableError("the server said more than it was asked for"))
            return
        waiting, self._waiting = self._waiting, None
        self._time.lift()
        waiting.callback(reply)

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        self._end()
        self._fail(reason)

    def _too_late(self) -> None:
        self._fail(Failure(defer.TimeoutError()))

    def _give_up(self) -> None:
        """Nobody waits any longer."""
        self._waiting = None
        self.close()

    def close(self) -> None:
        if not self.lost:
            self._end()
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _end(self) -> None:
        self.lost = True
        self._time.stop()
        self.rest.stop()

    def _fail(self, problem: TableError | Failure) -> None:
        waiting, self._waiting = self._waiting, None
        self.close()
        if waiting is not None:
            waiting.errback(problem)


class Server:
    """A server and the connections to it."""

    def __init__(
        self, name: str, place: Place, network: Network, frame: Frame, patience: Patience = Patience()  # noqa: B008
    ) -> None:
        self.name = name
        self._place = place
        self._network = network
        self._frame = frame
        self._patience = patience
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._count = 0
        self._queue: deque[defer.Deferred[None]] = deque()

    async def ask(self, question: bytes) -> bytes:
        """The reply.  Raises TableError."""
        while not self._idle and self._count >= self._patience.connections:
            turn: defer.Deferred[None] = defer.Deferred()
            self._queue.append(turn)
            await turn
        try:
            return await self._ask(question)
        finally:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.called:
                turn.callback(None)
                return

    def close(self) -> None:
        while self._idle:
            self._drop(self._idle[-1])
        for connection in list(self._busy):
            connection.close()

    async def _ask(self, question: bytes) -> bytes:
        while True:
            connection = self._take_idle()
            fresh = connection is None
            if connection is None:
                connection = await self._connect()
            self._busy.add(connection)
            try:
                reply = await connection.ask(question)
            except defer.TimeoutError:
                raise NoAnswer(f"{self.name}: read timeout", os.strerror(errno.ETIMEDOUT)) from None
            except error.ConnectionClosed as problem:
                if fresh:
                    raise NoAnswer(f"{self.name}: {LOST}: {_reason(problem)}", LOST) from None
                continue
            except TableError as problem:
                raise TableError(f"{self.name}: {problem}") from None
            finally:
                self._busy.discard(connection)
                self._give_back(connection)
            return reply

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            connection.rest.lift()
            if self._is_worn(connection):
                connection.close()
            if not connection.lost:
                return connection
            self._count -= 1
        return None

    def _is_worn(self, connection: _Connection) -> bool:
        age, questions = self._patience.age, self._patience.questions
        return bool(
            (questions and connection.asked >= questions)
            or (age and self._network.reactor.seconds() - connection.born >= age)
        )

    def _give_back(self, connection: _Connection) -> None:
        if connection.lost:
            self._count -= 1
            return
        connection.rest.set()
        self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        self._idle.remove(connection)
        self._count -= 1
        connection.close()

    def _make(self) -> _Connection:
        return _Connection(self._frame, self._network.reactor, self._patience, self._drop)

    async def _connect(self) -> _Connection:
        self._count += 1
        try:
            connection = await connect_to(self.name, self._place, self._network, self._make, self._patience.connect)
        except BaseException:
            self._count -= 1
            raise
        connection.born = self._network.reactor.seconds()
        return connection


async def connect_to(
    name: str, place: Place, network: Network, make: Callable[[], _AnyProtocol], seconds: float
) -> _AnyProtocol:
    """A new connection, to the first of the place's addresses that takes one.  ``name``: for messages.  Raises
    NoAnswer."""
    problem: Exception | None = None
    for endpoint in await _endpoints(name, place, network, seconds):
        try:
            protocol: _AnyProtocol = await endpoint.connect(Factory.forProtocol(make))
        except (error.ConnectError, OSError) as failed:
            problem = failed
            continue
        return protocol
    raise NoAnswer(f"{name}: connect to {place}: {_reason(problem)}", _reason(problem))


async def _endpoints(name: str, place: Place, network: Network, seconds: float) -> list[Any]:
    reactor = network.reactor
    if place.path:
        return [UNIXClientEndpoint(reactor, place.path, seconds, checkPID=False)]
    return [
        (TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint)(reactor, address, place.port, seconds)
        for address in await _addresses(name, place, network)
    ]


async def _addresses(name: str, place: Place, network: Network) -> list[str]:
    host = place.host.removeprefix("[").removesuffix("]")
    if parse_address(host) is not None:
        return [host]
    if network.resolver is not None:
        try:
            return list(await network.resolver.native(host))
        except DNSError as problem:
            raise NoAnswer(f"{name}: {problem}", str(problem)) from None
    try:
        found = socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        text = f"host or service {host} not found: {problem}"
        raise NoAnswer(f"{name}: {text}", text) from None
    return [str(item[4][0]) for item in found]


def _reason(problem: Exception | None) -> str:
    """What the system calls it, such as "Connection refused"."""
    if isinstance(problem, error.ConnectError) and problem.osError is not None:
        return os.strerror(problem.osError)
    if isinstance(problem, error.TimeoutError):
        return os.strerror(errno.ETIMEDOUT)
    return str(problem) if problem is not None else "no address"
