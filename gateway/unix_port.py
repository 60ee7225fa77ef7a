"""Takes connections from a UNIX socket that somebody else has bound, and leaves its name in the file system alone.

Twisted's own port changes the mode of that name when it starts, and removes it when it stops; but here the name belongs
to the master, and the next role listens behind it while the one before still ends its work.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

ACCEPT_AT_ONCE = 8
PAUSE = 0.5  # seconds without new connections when there are no descriptors left


@implementer(IReadDescriptor)
class UnixPort:
    """``descriptor``: a listening socket, which is closed at the end."""

    def __init__(self, descriptor: int, factory: Factory[Any], reactor: Any) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._factory = factory
        self._reactor = reactor

    def startListening(self) -> None:
        self._factory.doStart()
        self._reactor.addReader(self)

    def stopListening(self) -> None:
        self._reactor.removeReader(self)
        self.connectionLost(None)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return type(self._factory).__name__

    def doRead(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:
                self._reactor.removeReader(self)
                self._reactor.callLater(PAUSE, self._go_on)
                return
            with connection:
                connection.setblocking(False)
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self._factory)

    def _go_on(self) -> None:
        if self._socket.fileno() >= 0:
            self._reactor.addReader(self)

    def connectionLost(self, reason: Failure | None) -> None:
        """Called by the reactor at its end, too."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            self._factory.doStop()
