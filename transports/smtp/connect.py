"""Connections to addresses: never to names, so that nothing here looks one up or blocks.

``connect`` gives a Session whose greeting and hello are done, or the Verdict why not.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from gateway.interfaces import Log
from transports.smtp.channel import Peer
from transports.smtp.opening import Hello
from transports.smtp.options import Options
from transports.smtp.reply_filter import ReplyFilter
from transports.smtp.session import Session
from transports.smtp.system_errors import error_text
from transports.smtp.transcript import Transcript
from transports.smtp.verdict import Verdict

NO_CONNECTION, NOT_BOUND = "4.4.1", "4.4.0"
WITHOUT_LIMIT = 600.0
"""For smtp_connect_timeout = 0: longer than the system itself tries."""


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, session: Session, failed: Deferred[BaseException]) -> None:
        self._session, self._failed = session, failed

    def buildProtocol(self, addr: Any) -> Session:
        return self._session

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._failed.callback(reason.value or Exception("failed"))


class Connector:
    """Makes sessions for one service.  ``recorded``: what is said in them is kept."""

    def __init__(
        self, options: Options, reactor: Any, log: Log, program: str, reply_filter: ReplyFilter | None = None,
        *, recorded: bool = False,
    ) -> None:
        self._options, self._reactor, self._log, self._program = options, reactor, log, program
        self._reply_filter = reply_filter
        self._recorded = recorded

    async def connect(self, peer: Peer, hello: Hello) -> tuple[Session, Verdict | None]:
        """``session.ready`` and the verdict None = ready for mail."""
        own = self._options.bind6 if ":" in peer.address else self._options.bind4
        session, problem = await self._try(peer, hello, own if peer.port else "")
        if own and isinstance(problem, ConnectBindError):
            self._log.warning(self._program, f"smtp_connect_addr: bind {own}: {error_text(problem)}")
            if self._options.bind_enforced:
                return session, Verdict(NOT_BOUND, "server configuration error", site=True)
            session, problem = await self._try(peer, hello, "")
        if isinstance(problem, BaseException):
            problem = Verdict(NO_CONNECTION, f"connect to {peer.relay}: {error_text(problem)}", site=True)
        return session, problem

    async def _try(self, peer: Peer, hello: Hello, own: str) -> tuple[Session, Verdict | BaseException | None]:
        options = self._options
        session = Session(options, peer, hello, self._reactor, self._log, self._program, self._reply_filter)
        if self._recorded:
            session.transcript = Transcript()
        outcome: Deferred[Verdict | BaseException | None] = Deferred()
        failed: Deferred[BaseException] = Deferred()
        failed.addCallback(outcome.callback)
        session.opened.addCallback(outcome.callback)
        factory = _Factory(session, failed)
        patience = options.times.connect or WITHOUT_LIMIT
        if peer.port:
            bind = (own, 0) if own else None
            self._reactor.connectTCP(peer.address, peer.port, factory, timeout=patience, bindAddress=bind)
        else:
            path = os.path.join(options.directory, peer.address)
            self._reactor.connectUNIX(path, factory, timeout=patience)
        return session, await outcome
