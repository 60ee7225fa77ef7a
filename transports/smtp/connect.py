"""Connections to addresses: never to names, so that nothing here looks one up or blocks.

``connect`` gives a Session whose greeting and hello are done, or the Verdict why not.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from gateway.interfaces import Log
from transports.smtp.channel import Peer
from transports.smtp.opening import Hello
from transports.smtp.options import Options
from transports.smtp.session import Session
from transports.smtp.system_errors import error_text
from transports.smtp.verdict import Verdict

WITHOUT_LIMIT = 600.0
"""For smtp_connect_timeout = 0: longer than the system itself tries."""


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, session: Session, failed: Deferred[Verdict]) -> None:
        self._session, self._failed = session, failed

    def buildProtocol(self, addr: Any) -> Session:
        return self._session

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        peer = self._session.peer
        words = error_text(reason.value or Exception("failed"))
        self._failed.callback(Verdict("4.4.1", f"connect to {peer.relay}: {words}", site=True))


class Connector:
    """Makes sessions for one service."""

    def __init__(self, options: Options, reactor: Any, log: Log, program: str) -> None:
        self._options, self._reactor, self._log, self._program = options, reactor, log, program

    async def connect(self, peer: Peer, hello: Hello) -> tuple[Session, Verdict | None]:
        """``session.ready`` and the verdict None = ready for mail."""
        session = Session(self._options, peer, hello, self._reactor, self._log, self._program)
        outcome: Deferred[Verdict | None] = Deferred()
        failed: Deferred[Verdict] = Deferred()
        failed.addCallback(outcome.callback)
        session.opened.addCallback(outcome.callback)
        factory = _Factory(session, failed)
        patience = self._options.times.connect or WITHOUT_LIMIT
        if peer.port:
            own = self._options.bind6 if ":" in peer.address else self._options.bind4
            bind = (own, 0) if own else None
            self._reactor.connectTCP(peer.address, peer.port, factory, timeout=patience, bindAddress=bind)
        else:
            path = os.path.join(self._options.directory, peer.address)
            self._reactor.connectUNIX(path, factory, timeout=patience)
        return session, await outcome

