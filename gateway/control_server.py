"""The server of gateway.control, on Twisted."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from gateway.control import LONGEST, Handler, Refused

_MOST_WAITING = 100
"""Requests of one connection that may wait for their turn; together no longer than one may be."""


@implementer(IPushProducer)
class ControlProtocol(LineOnlyReceiver):
    """One connection.  Requests are carried out one after the other; a client that does not read holds up its own
    answer only."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST
    factory: ControlFactory
    transport: Any

    def __init__(self) -> None:
        self._uid = -1
        self._requests: deque[bytes] = deque()
        self._size = 0
        """Bytes of those that wait."""
        self._busy = False
        self._open = False
        self._paused: Deferred[None] | None = None

    def connectionMade(self) -> None:
        self._uid = self.factory.uid_of(self.transport)
        if self.factory.connections[self._uid] >= self.factory.most:
            self._say({"error": "too many connections"})
            self.transport.loseConnection()
            return
        self.factory.connections[self._uid] += 1
        self._open = True
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Any = None) -> None:
        if self._open:
            self._open = False
            self.factory.connections[self._uid] -= 1
            self.factory.connections += Counter()  # forgets who has none
        self._requests.clear()
        self.resumeProducing()

    def lineReceived(self, line: bytes) -> None:
        self._size += len(line)
        if len(self._requests) >= _MOST_WAITING or self._size > LONGEST:
            self.transport.abortConnection()
            return
        self._requests.append(line)
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._work()).addErrback(self._failed)

    async def _work(self) -> None:
        try:
            while self._requests:
                line = self._requests.popleft()
                self._size -= len(line)
                await self._request(line)
        finally:
            self._busy = False

    async def _request(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            handler = self.factory.handlers[request["do"]]
            arguments = dict(request.get("with") or {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._say({"error": "unknown request"})
            return
        try:
            result = await handler(self._uid, arguments)
            if hasattr(result, "__aiter__"):
                async for item in result:
                    if self._paused is not None:
                        await self._paused
                    if not self._open:
                        return
                    self._say({"item": item})
                result = None
            self._say({"done": result})
        except Refused as error:
            self._say({"error": str(error)})
        except Exception as error:
            self.factory.trouble(f"control request {request['do']}: {type(error).__name__}: {error}")
            self._say({"error": f"internal error: {type(error).__name__}"})

    def _failed(self, failure: Any) -> None:
        self.factory.trouble(f"control connection: {failure.getErrorMessage()}")
        self.transport.abortConnection()

    def _say(self, answer: dict[str, Any]) -> None:
        self.transport.write(json.dumps(answer).encode("ascii") + b"\n")

    # --- the transport's wishes -------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()


class ControlFactory(Factory):
    """Made by gateway.control.control_factory()."""

    noisy = False

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        trouble: Callable[[str], None],
        uid_of: Callable[[Any], int],
        most: int,
    ) -> None:
        self.handlers = handlers
        self.trouble = trouble
        self.uid_of = uid_of
        self.most = most
        self.connections: Counter[int] = Counter()
        """By user: nobody can keep others out."""

    def buildProtocol(self, address: Any) -> Any:
        protocol = ControlProtocol()
        protocol.factory = self
        return protocol
