"""The line between two roles of the gateway: calls and notifications as JSON over a UNIX socket.

A frame is a 32-bit length and a JSON array: ``["call", number, name, value]``, ``["answer", number, value]``,
``["failed", number, text]``, ``["note", name, value]``.  Handlers are coroutine functions (calls) or plain functions
(notes) of one JSON value.  Notes are gathered for a reactor turn and leave in one write.  A handler that raises answers
"failed"; the connection lives on.  A note of bytes as they are, the quick kind, is a frame of "=", the name, a zero
byte, and the bytes.  When the connection breaks, every open call fails with LinkError: callers must be able to ask
again (what a role has accepted, it has made durable first).
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, ReconnectingClientFactory, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

CallHandler = Callable[[Any], Awaitable[Any]]
NoteHandler = Callable[[Any], None]

_encode = json.JSONEncoder(separators=(",", ":")).encode

LONGEST = 64 * 1024 * 1024  # of a frame: recipients of one message, at most


class LinkError(Exception):
    """The other role went away or could not do what it was asked for."""


class Link(Int32StringReceiver):
    """One end.  ``calls`` and ``notes`` by name; see the module."""

    MAX_LENGTH = LONGEST

    def __init__(
        self,
        clock: IReactorTime,
        calls: Mapping[str, CallHandler],
        notes: Mapping[str, NoteHandler],
        on_lost: Callable[[Link], None] | None = None,
    ) -> None:
        self._clock = clock
        self._calls = calls
        self._notes = notes
        self._on_lost = on_lost
        self._number = 0
        self._open: dict[int, Deferred[Any]] = {}
        self._outbox: list[bytes] = []
        self._lost = False

    def call(self, name: str, value: Any) -> Deferred[Any]:
        """Ask the other side; fires with its answer or fails with LinkError."""
        if self._lost:
            raise LinkError("the connection is gone")
        self._number += 1
        answer: Deferred[Any] = Deferred()
        self._open[self._number] = answer
        self._put(["call", self._number, name, value])
        return answer

    def note(self, name: str, value: Any) -> None:
        """Tell the other side something that it would find out by itself later."""
        if not self._lost:
            self._put(["note", name, value])

    def note_bytes(self, name: str, value: bytes) -> None:
        """The same for bytes, which are neither looked at nor changed."""
        if not self._lost:
            self._send(b"=%b\0%b" % (name.encode(), value))

    @property
    def unread(self) -> bytes:
        """The beginning of a frame whose end has not come yet."""
        return bytes(self._unprocessed)

    def close(self) -> None:
        """Part when all has been sent."""
        if self.transport is not None:
            self._flush()
            self.transport.loseConnection()

    def _put(self, frame: list[Any]) -> None:
        self._send(_encode(frame).encode())

    def _send(self, data: bytes) -> None:
        self._outbox += (struct.pack("!I", len(data)), data)
        if len(self._outbox) == 2:
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        parts, self._outbox = self._outbox, []
        if not self._lost and parts:
            assert self.transport is not None
            self.transport.write(b"".join(parts))

    def stringReceived(self, string: bytes) -> None:
        if string[:1] == b"=":
            name, _, value = string[1:].partition(b"\0")
            self._notes[name.decode()](value)
            return
        frame = json.loads(string)
        kind = frame[0]
        if kind == "note":
            self._notes[frame[1]](frame[2])
        elif kind == "call":
            Deferred.fromCoroutine(self._answer(*frame[1:])).addErrback(lambda ignored: None)
        else:
            waiting = self._open.pop(frame[1], None)
            if waiting is not None and kind == "answer":
                waiting.callback(frame[2])
            elif waiting is not None:
                waiting.errback(LinkError(frame[2]))

    async def _answer(self, number: int, name: str, value: Any) -> None:
        try:
            self._put(["answer", number, await self._calls[name](value)])
        except Exception as error:  # the caller's affair: it is told
            self._put(["failed", number, f"{type(error).__name__}: {error}"])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        if self._on_lost is not None:
            self._on_lost(self)  # first: who asks again at once is to wait for the next connection
        waiting, self._open = self._open, {}
        for answer in waiting.values():
            answer.errback(LinkError("the connection was lost"))


class LinkServer(Factory):
    """Accepts connections from other roles, of this very user or root only (SO_PEERCRED)."""

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        allowed: frozenset[int],
        calls: Mapping[str, CallHandler] = {},
        notes: Mapping[str, NoteHandler] = {},
    ) -> None:
        self._clock = clock
        self._allowed = allowed
        self._calls = calls
        self._notes = notes
        self.links: set[Link] = set()
        self._all_gone: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Link:
        link = _ServedLink(self._clock, self._calls, self._notes, self._gone)
        link.allowed = self._allowed
        self.links.add(link)
        return link

    def close(self) -> Deferred[None]:
        """Part with everybody: they connect to the next process that listens.  Fires when all are gone."""
        for link in list(self.links):
            link.close()
        return self.when_alone()

    def when_alone(self, patience: float | None = None) -> Deferred[None]:
        """Fires when all are gone, or that many seconds are over."""
        alone: Deferred[None] = Deferred()
        self._all_gone.append(alone)
        if patience is not None:
            late = self._clock.callLater(patience, self._enough, alone)
            alone.addCallback(lambda ignored: late.cancel() if late.active() else None)
        self._tell()
        return alone

    def _enough(self, alone: Deferred[None]) -> None:
        self._all_gone.remove(alone)
        alone.callback(None)

    def _gone(self, link: Link) -> None:
        self.links.discard(link)
        self._tell()

    def _tell(self) -> None:
        if not self.links:
            waiting, self._all_gone = self._all_gone, []
            for gone in waiting:
                gone.callback(None)


class _ServedLink(Link):
    allowed: frozenset[int]

    def connectionMade(self) -> None:
        transport: Any = self.transport
        credentials = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] not in self.allowed:
            transport.abortConnection()


class LinkClient(ReconnectingClientFactory):
    """Keeps a connection to another role, and asks over it.  Provides call() and note() like a Link."""

    noisy = False
    initialDelay = 0.05
    maxDelay = 1.0  # type: ignore[assignment]

    def __init__(
        self, clock: IReactorTime, calls: Mapping[str, CallHandler] = {}, notes: Mapping[str, NoteHandler] = {}
    ) -> None:
        self._time = clock
        self._calls = calls
        self._notes = notes
        self._link: Link | None = None
        self._waiting: list[Deferred[Link]] = []

    def buildProtocol(self, addr: Any) -> Link:
        self.resetDelay()
        link = _ConnectedLink(self._time, self._calls, self._notes, self._gone)
        link.client = self
        return link

    def _gone(self, link: Link) -> None:
        if self._link is link:
            self._link = None

    def connected(self, link: Link) -> None:
        self._link = link
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(link)

    async def call(self, name: str, value: Any) -> Any:
        """Waits for the connection if there is none just now."""
        link = self._link
        if link is None:
            ready: Deferred[Link] = Deferred()
            self._waiting.append(ready)
            link = await ready
        return await link.call(name, value)

    def note(self, name: str, value: Any) -> None:
        """Dropped without a connection: the other side looks for itself when it starts."""
        if self._link is not None:
            self._link.note(name, value)

    def note_bytes(self, name: str, value: bytes) -> None:
        if self._link is not None:
            self._link.note_bytes(name, value)

    def close(self) -> None:
        self.stopTrying()
        if self._link is not None and self._link.transport is not None:
            self._link.transport.loseConnection()


class _ConnectedLink(Link):
    client: LinkClient

    def connectionMade(self) -> None:
        self.client.connected(self)
