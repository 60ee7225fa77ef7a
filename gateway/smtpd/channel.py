"""One connection: bytes in and out, with limits on time and memory; the conversation above it only awaits.

The conversation is a coroutine that asks for a line, or for some bytes, and gets them when they are there; it is run
from here, so that waiting for the client, which it does most, needs no Deferred.  While it is
busy with a command nothing is read beyond one buffer full (FACTS: pipelined commands wait their turn); while the
client does not read its replies nothing more is asked for; and after BUDGET commands it is others' turn.

Deadlines: waiting for a whole command line ends after ``timeout``, for message content after as long without a byte.
All connections of a server share one ticking clock (``tick``), which costs nothing a command.  A peer that does not let
go of a connection that we have closed is cut off after GRACE seconds.

Gone is raised in the conversation when the client is: "lost connection" or "timeout".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.sending import send
from gateway.smtpd.framer import Framer
from gateway.smtpd.limits import Room

LOST, TIMEOUT, STOPPED = "lost connection", "timeout", "server stop"

HIGH_WATER = 128 * 1024
BUDGET = 50
MOST_WAITING = 20
"""Replies that are held back for company."""
GRACE = 5.0


NOTHING, LINE, BYTES = 0, 1, 2
"""What a conversation waits for from its client."""


class Gone(Exception):
    """The client is not there any more; ``reason`` as the log has it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Client:
    """To await it lets the conversation rest until the channel goes on with it."""

    def __await__(self) -> Generator[None, None, None]:
        return iter(_ONCE)  # type: ignore[return-value]  # cheaper than a generator, and as good


_ONCE = (None,)
_CLIENT = _Client()


@implementer(IPushProducer, IHandshakeListener)
class Channel(Protocol):
    """``opened`` and ``closed`` are called with the channel; ``opened`` starts the conversation."""

    def __init__(
        self,
        clock: IReactorTime,
        opened: Callable[[Channel], None],
        closed: Callable[[Channel], None],
        *,
        timeout: float,
        line_limit: int,
    ) -> None:
        self.framer = Framer(line_limit)
        self.timeout = timeout
        self.deadline = math.inf
        """When waiting for the client ends (clock seconds)."""
        self._request_until = math.inf
        self._data_rate = 1
        self.lost = False
        self.closing = False
        self.farewell = ""
        """The server stops: what the client is told instead of being listened to."""
        self.room: Room | None = None
        """Where it is counted."""
        self._out: list[bytes] = []
        self._clock = clock
        self._opened = opened
        self._closed = closed
        self._conversation: Coroutine[Any, None, None] | None = None
        self._wanted = NOTHING
        self._line = b""
        """The one that was wanted."""
        self._gone = ""
        """Why it will not come."""
        self._room_wanted: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None
        self._writable = True
        self._reading = True
        self._budget = BUDGET
        self._registered = False

    # --- for the conversation ----------------------------------------------------------------------------------

    def converse(self, conversation: Coroutine[Any, None, None]) -> None:
        """Run it, now and whenever what it waits for is there."""
        self._conversation = conversation
        self._go_on()

    def _go_on(self, result: object = None) -> None:
        """``result``: of the Deferred that was waited for, if it was one; the conversation takes it from there."""
        conversation: Any = self._conversation
        try:
            if isinstance(result, Failure):
                waited = result.throwExceptionIntoGenerator(conversation)
            else:
                waited = conversation.send(None)
        except StopIteration:
            self._conversation = None
            return
        if waited is not None:
            waited.addBoth(self._go_on)

    async def read_line(self) -> bytes:
        """The next command."""
        if self.farewell:
            raise Gone(STOPPED)
        if self._budget <= 0:
            await self.next_turn()
        if not self._writable:
            await self._room()
        self._budget -= 1
        line = self.framer.line()
        if line is not None:
            return line
        self._wait(LINE)
        await _CLIENT
        if self._gone:
            raise Gone(self._gone)
        return self._line

    async def read_some(self, most: int = 1 << 30) -> bytes:
        """Some bytes of message content; at least one."""
        if not len(self.framer):
            self._wait(BYTES)
            await _CLIENT
            if self._gone:
                raise Gone(self._gone)
        return self.framer.take(most)

    def limit_request(self, seconds: float, data_rate: int) -> None:
        """smtpd_per_request_deadline: all of the message has this much time, and more for each byte that comes, by
        ``data_rate`` bytes a second."""
        self._request_until = self._clock.seconds() + seconds
        self._data_rate = data_rate

    def end_request(self) -> None:
        self._request_until = math.inf

    async def next_turn(self) -> None:
        """Let others have a turn."""
        self.flush()
        turn: Deferred[None] = Deferred()
        self._clock.callLater(0, turn.callback, None)
        await turn
        self._budget = BUDGET

    def write(self, data: bytes) -> None:
        """Send when the client is waited for, so that the replies to a group of commands go out together."""
        self._out.append(data)
        if len(self._out) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            if not self.lost and not self.closing and self.transport is not None:
                send(self.transport, data)

    def close(self) -> None:
        """Send what is left and hang up; by force if the client does not take it."""
        if self.closing or self.lost or self.transport is None:
            return
        self.flush()
        self.closing = True
        self.deadline = self._clock.seconds() + GRACE
        self._unregister()
        self._resume()
        self.transport.loseConnection()

    def dismiss(self, reply: str) -> None:
        """The server stops: a client that is not in the middle of something is sent away now, any other one as soon
        as it asks for more."""
        self.farewell = reply
        if self._wanted == LINE:
            self._give_up(STOPPED)

    async def start_tls(self, context: Any, timeout: float, ahead: bytes = b"") -> None:
        """Handshake as the server.  What the client has sent in clear is forgotten; ``ahead`` is what it has sent of
        the handshake.  Raises Gone."""
        transport: Any = self.transport
        self.flush()
        self.framer.clear()
        self._handshake = Deferred()
        self.deadline = self._clock.seconds() + timeout
        self._resume()
        transport.startTLS(context)
        if ahead:
            transport.protocol.dataReceived(ahead)
        try:
            await self._handshake
        finally:
            self._handshake = None
            self.deadline = math.inf

    # --- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, wanted: int) -> None:
        if self.lost or self.closing:
            raise Gone(LOST)
        self.flush()
        self.deadline = min(self._clock.seconds() + self.timeout, self._request_until)
        if not self._reading:
            self._resume()
        self._wanted = wanted

    def _end_wait(self) -> None:
        self._wanted = NOTHING
        self.deadline = math.inf
        self._go_on()

    async def _room(self) -> None:
        """Until the client has read most of what was sent."""
        if self.lost:
            raise Gone(LOST)
        self.deadline = self._clock.seconds() + self.timeout
        self._room_wanted = Deferred()
        try:
            await self._room_wanted
        finally:
            self._room_wanted = None
            self.deadline = math.inf

    def tick(self, now: float) -> None:
        """Look at the deadline."""
        if now < self.deadline:
            return
        self.deadline = math.inf
        if self.closing:
            self.abort()
        else:
            self._give_up(TIMEOUT)

    def _give_up(self, reason: str) -> None:
        if self._wanted:
            self._gone = reason
            self._end_wait()
            return
        for wanted in (self._room_wanted, self._handshake):
            if wanted is not None and not wanted.called:
                wanted.errback(Failure(Gone(reason)))
                return

    def abort(self) -> None:
        if self.transport is not None and not self.lost:
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    # --- IProtocol, IPushProducer, IHandshakeListener: named by Twisted -----------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self.connectionMade()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._registered = True
        self._opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self.closing:
            return
        self._budget = BUDGET - 1
        self._request_until += len(data) / self._data_rate
        framer = self.framer
        framer.feed(data)
        if self._wanted == LINE:
            line = framer.line()
            if line is not None:
                self._line = line
                self._end_wait()
        elif self._wanted == BYTES:
            self._end_wait()
        if self._reading and len(framer) > HIGH_WATER and not self.closing:
            self._reading = False
            pause = getattr(self.transport, "pauseProducing", None)
            if pause is not None:
                pause()

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            resume = getattr(self.transport, "resumeProducing", None)
            if resume is not None:
                resume()

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            transport: Any = self.transport
            transport.unregisterProducer()

    def handshakeCompleted(self) -> None:
        if self._handshake is not None and not self._handshake.called:
            self._handshake.callback(None)

    def pauseProducing(self) -> None:
        self._writable = False

    def resumeProducing(self) -> None:
        self._writable = True
        if self._room_wanted is not None and not self._room_wanted.called:
            self._room_wanted.callback(None)

    def stopProducing(self) -> None:
        self._writable = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._registered = False
        self.deadline = math.inf
        self._give_up(LOST)
        self._closed(self)
