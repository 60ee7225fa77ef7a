"""Open sessions between deliveries: CONNECTION_CACHE_README, in one process.

A session that is done with a message waits a moment (smtp_connection_cache_time_limit) for the next one for the same
next hop, if that is likely to come: others are being delivered there right now, one was a moment ago, or
smtp_connection_cache_destinations names it.  It is found by next hop if it leads to one of the best hosts, and by
address in any case, by who wants it on the same terms.  smtp_connection_reuse_time_limit and _count_limit end it, and
one within TLS ends at once if smtp_tls_connection_reuse says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from transports.smtp.channel import Peer
from transports.smtp.options import Options
from transports.smtp.session import Session
from transports.smtp.tls_policy import Policy

Key = TypeVar("Key")

MOST_KNOWN = 1000


class Terms(NamedTuple):
    """What a session was opened with, and what it may be used for."""

    policy: Policy
    sender: str = ""
    """Whose login it has; "" = everybody's."""
    hop: str = ""
    """The next hop that it was checked or logged in for; "" = good for any that has this host."""


class Pool:
    def __init__(self, options: Options, reactor: Any) -> None:
        self._options, self._reactor = options, reactor
        self._by_hop: dict[tuple[str, Terms], list[Session]] = {}
        self._by_address: dict[tuple[str, int, Terms], list[Session]] = {}
        self._kept: dict[Session, tuple[str, Terms]] = {}
        self._busy: dict[str, int] = {}
        self._last: dict[str, float] = {}
        """When the last delivery to a next hop began."""

    def begin(self, hop: str) -> None:
        """A delivery to a next hop begins."""
        self._busy[hop] = self._busy.get(hop, 0) + 1

    def end(self, hop: str) -> None:
        left = self._busy[hop] - 1
        if left:
            self._busy[hop] = left
        else:
            del self._busy[hop]
        self._last.pop(hop, None)
        self._last[hop] = self._reactor.seconds()
        if len(self._last) > MOST_KNOWN:
            del self._last[next(iter(self._last))]

    def take_hop(self, hop: str, terms: Terms) -> Session | None:
        return self._take(self._by_hop.get((hop, terms))) if self._kept else None

    def take_address(self, peer: Peer, terms: Terms) -> Session | None:
        return self._take(self._by_address.get((peer.address, peer.port, terms))) if self._kept else None

    def _take(self, sessions: list[Session] | None) -> Session | None:
        """The one used last: the others may end."""
        if not sessions:
            return None
        session = sessions[-1]
        self.forget(session)
        return session

    def keep(self, session: Session, hop: str, terms: Terms, request_hop: str) -> None:
        """Keep a usable session for the next delivery, or say good-bye.  ``hop``: one of those in ``request_hop``."""
        if not self._worth_keeping(session, hop, request_hop):
            session.quit()
            return
        peer = session.peer
        self._kept[session] = hop, terms
        if peer.best:
            self._by_hop.setdefault((hop, terms), []).append(session)
        self._by_address.setdefault((peer.address, peer.port, terms), []).append(session)
        session.on_idle_end = self.forget
        session.idle(self._options.cache_time)

    def _worth_keeping(self, session: Session, hop: str, request_hop: str) -> bool:
        options, now = self._options, self._reactor.seconds()
        if options.cache_time <= 0 or (session.secure is not None and not session.secure.policy.reuse):
            return False
        if options.reuse_count and session.uses >= options.reuse_count:
            return False
        if options.reuse_time and now - session.began >= options.reuse_time:
            return False
        if hop in options.cache_destinations or session.peer.domain in options.cache_destinations:
            return True
        if not options.cache_on_demand:
            return False
        others = self._busy.get(request_hop, 0) > 1
        return others or now - self._last.get(request_hop, float("-inf")) < options.cache_time

    def forget(self, session: Session) -> None:
        """It is in use again, or gone."""
        kept = self._kept.pop(session, None)
        if kept is None:
            return
        session.on_idle_end = None
        peer = session.peer
        _remove(self._by_hop, kept, session)
        _remove(self._by_address, (peer.address, peer.port, kept[1]), session)

    def close(self) -> None:
        for session in list(self._kept):
            session.quit()


def _remove(index: dict[Key, list[Session]], key: Key, session: Session) -> None:
    sessions = index.get(key, [])
    if session in sessions:
        sessions.remove(session)
        if not sessions:
            del index[key]
