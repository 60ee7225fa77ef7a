"""Connections to databases: a few, shared by all tables of a process, each in a thread, with time limits.

    databases = Databases(reactor)             # None: no reactor, so block (commands)
    pool = databases.pool(key, hosts, limits)  # one a database, whatever tables name it
    answer = await pool.run(lambda connection: connection.query("SELECT …"))

A host that could not be reached is left aside for retry_interval while another one answers; when none does, each is
tried again after a second.  A connection that was lost while it was idle is replaced and the question put once more.
Whatever fails is a TableError, so that mail is deferred.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple, Protocol, TypeVar

from gateway.interfaces import TableError

T = TypeVar("T")

BACKOFF = 1.0
MAX_THREADS = 20
PATIENCE = 3
"""Times the time limit of a question: so long may one wait for its turn."""


class Lost(Exception):
    """The connection is broken."""


class Refused(Exception):
    """The database does not like the question; the connection is fine."""


class Connection(Protocol):
    def close(self) -> None: ...


class Host(NamedTuple):
    name: str
    """For messages."""
    connect: Callable[[], Any]
    """In a thread.  Raises Lost."""


@dataclass(slots=True, frozen=True)
class Limits:
    """Seconds, and the number of connections."""

    timeout: float = 10.0
    connections: int = 2
    idle: float = 60.0
    retry: float = 60.0


class Databases:
    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._pools: dict[Hashable, Pool] = {}
        self._threads: Any = None

    def pool(self, key: Hashable, hosts: Sequence[Host], limits: Limits) -> Pool:
        """``key``: all that makes a difference to the connections."""
        found = self._pools.get((key, limits))
        if found is None:
            found = self._pools[key, limits] = Pool(hosts, limits, self)
        return found

    def in_thread(self, call: Callable[[], T]) -> Awaitable[T]:
        from twisted.internet.threads import deferToThreadPool

        if self._threads is None:
            from twisted.python.threadpool import ThreadPool

            self._threads = ThreadPool(0, MAX_THREADS, "databases")
            self._threads.start()
        found: Awaitable[T] = deferToThreadPool(self.reactor, self._threads, call)
        return found

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        if self._threads is not None:
            self._threads.stop()
            self._threads = None


class Pool:
    def __init__(self, hosts: Sequence[Host], limits: Limits, databases: Databases) -> None:
        self._hosts = list(hosts)
        self._limits = limits
        self._databases = databases
        self._idle: list[tuple[float, Any]] = []
        self._failed: dict[str, float] = {}
        self._lock = Lock()
        self._closed = False
        self._turn: Any = None
        self._sweep: Any = None

    async def run(self, call: Callable[[Any], T]) -> T:
        """What ``call`` gives for a connection.  Raises TableError."""
        try:
            if self._databases.reactor is None:
                return self._work(call)
            return await self._run(call)
        except (Lost, Refused) as problem:
            raise TableError(str(problem)) from None

    async def _run(self, call: Callable[[Any], T]) -> T:
        from twisted.internet.defer import DeferredSemaphore, TimeoutError

        if self._turn is None:
            self._turn = DeferredSemaphore(self._limits.connections)
        wait = PATIENCE * self._limits.timeout
        try:
            await self._turn.acquire().addTimeout(wait, self._databases.reactor)
        except TimeoutError:
            raise TableError(f"no free connection within {wait:g} s ({self._limits.connections} in use)") from None
        try:
            return await self._databases.in_thread(lambda: self._work(call))
        finally:
            self._turn.release()
            if self._sweep is None and not self._closed:
                self._sweep = self._databases.reactor.callLater(self._limits.idle, self._close_idle)

    def close(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _work(self, call: Callable[[Any], T]) -> T:
        connection = self._take()
        if connection is not None:
            try:
                return self._ask(connection, call)
            except Lost:
                pass
        return self._ask(self._connect(), call)

    def _ask(self, connection: Any, call: Callable[[Any], T]) -> T:
        keep = False
        try:
            answer = call(connection)
            keep = True
            return answer
        except Refused:
            keep = True
            raise
        finally:
            if keep and not self._closed:
                with self._lock:
                    self._idle.append((time.monotonic(), connection))
            else:
                connection.close()

    def _take(self) -> Any:
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < self._limits.idle:
                    return connection
                connection.close()
        return None

    def _connect(self) -> Any:
        now = time.monotonic()
        alive = [host for host in self._hosts if now - self._failed.get(host.name, -1e9) >= self._limits.retry]
        rested = [host for host in self._hosts if now - self._failed.get(host.name, -1e9) >= BACKOFF]
        problem = "could not be reached a moment ago"
        for host in [*alive, *(host for host in rested if host not in alive)]:
            try:
                connection = host.connect()
            except Lost as failed:
                self._failed[host.name] = time.monotonic()
                problem = f"connect to {host.name}: {failed}"
                continue
            self._failed.pop(host.name, None)
            return connection
        raise Lost(problem)

    def _close_idle(self) -> None:
        self._sweep = None
        now = time.monotonic()
        with self._lock:
            old = [connection for since, connection in self._idle if now - since >= self._limits.idle]
            self._idle = [(since, kept) for since, kept in self._idle if kept not in old]
            left = bool(self._idle)
        for connection in old:
            connection.close()
        if left:
            self._sweep = self._databases.reactor.callLater(self._limits.idle, self._close_idle)
