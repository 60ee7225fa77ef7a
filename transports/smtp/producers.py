"""What writes a message into a session while there is room: block by block when it is asked for more, or as fast as
checks let it through.

Both end with ``body_sent`` of the session, or ``body_failed``: a message that cannot be read or checked any further
must not be ended with a dot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer


class Sending(Protocol):
    """A session, as its producer sees it."""

    transport: Any

    def send_block(self, block: bytes) -> None: ...

    def body_sent(self) -> None: ...

    def body_failed(self) -> None: ...


@implementer(IPullProducer)
class Producer:
    def __init__(self, session: Sending, blocks: Iterator[bytes]) -> None:
        self._session, self._blocks = session, blocks
        self._over = False

    def begin(self) -> None:
        """The transport asks by itself."""

    def resumeProducing(self) -> None:
        if self._over:
            return
        try:
            block = next(self._blocks, None)
        except Exception:  # the content's store, whatever it is
            self._over = True
            self._session.body_failed()
            return
        if block is None:
            self._finish()
            self._session.body_sent()
        else:
            self._session.send_block(block)

    def stopProducing(self) -> None:
        if not self._over:
            self._finish()

    def _finish(self) -> None:
        self._over = True
        self._session.transport.unregisterProducer()


@implementer(IPushProducer)
class CheckedProducer:
    def __init__(self, session: Sending, blocks: AsyncIterator[bytes]) -> None:
        self._session, self._blocks = session, blocks
        self._over = False
        self._room: Deferred[None] | None = None
        """Fires when the transport has room again; None: it has."""

    def begin(self) -> None:
        Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        try:
            async for block in self._blocks:
                if not self._over and block:
                    self._session.send_block(block)
                if self._room is not None:
                    await self._room
                if self._over:
                    return
        except Exception:  # of the content's store or of a table; said already
            if not self._over:
                self._over = True
                self._session.body_failed()
            return
        if not self._over:
            self._finish()
            self._session.body_sent()

    def pauseProducing(self) -> None:
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        if not self._over:
            self._finish()
        self.resumeProducing()

    def _finish(self) -> None:
        self._over = True
        self._session.transport.unregisterProducer()
