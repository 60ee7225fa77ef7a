"""Trying patterns that may take long, without the reactor waiting: in a process, with a time limit.

    matcher = Matcher(reactor)
    found = await matcher.find(rules, key, slow)   # (index of the rule, its groups); None; raises TooLong

Questions wait their turn; one that would wait too long is refused, so that hostile keys hold up others a bounded time
only.  The process is started when it is needed, ends with a question that takes too long, and is started again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from gateway.interfaces import TableError

SECONDS = 1.0
"""For one key and all rules of a table."""
PATIENCE = 10.0
"""Seconds that a question may wait for its turn, and the process may take to start and to take in a table."""
IDLE = 60.0
PROGRAM = Path(__file__).with_name("match_process.py")


class TooLong(TableError):
    """``rule``: the index of the one that was being tried; -1 if it is not known."""

    def __init__(self, text: str, rule: int = -1) -> None:
        super().__init__(text)
        self.rule = rule


class _Talk(LineOnlyReceiver):
    """One line asked for at a time."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 26

    def __init__(self) -> None:
        self.waiting: Deferred[dict[str, Any]] | None = None
        self.trying = -1
        self.lost = False

    def ask(self, message: dict[str, Any]) -> Deferred[dict[str, Any]]:
        self.waiting = Deferred()
        self.trying = -1
        self.tell(message)
        return self.waiting

    def tell(self, message: dict[str, Any]) -> None:
        self.transport.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]

    def lineReceived(self, line: bytes) -> None:
        message = json.loads(line)
        if "at" in message:
            self.trying = message["at"]
        elif self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(message)

    def connectionLost(self, reason: Failure = Failure(CancelledError())) -> None:  # noqa: B008
        self.lost = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.errback(TooLong(f"no answer within {SECONDS:g} s", self.trying))


class Matcher:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._turn = DeferredLock()
        self._talk: _Talk | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._known: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        """The tables that the process knows.  Their numbers are never used again."""
        self._count = 0
        self._idle: Any = None

    async def find(
        self, table: Any, rules: Sequence[Any], key: str, slow: Collection[int]
    ) -> tuple[int, list[str | None]] | None:
        """``table``: stands for these rules, and is not changed; ``rules``: gateway.tables.rules.Rule with patterns.
        Raises TableError."""
        try:
            await self._turn.acquire().addTimeout(PATIENCE, self._reactor)
        except TimeoutError:
            raise TooLong("other keys take too long") from None
        try:
            return await self._find(table, rules, key, slow)
        finally:
            self._turn.release()

    async def _find(
        self, table: Any, rules: Sequence[Any], key: str, slow: Collection[int]
    ) -> tuple[int, list[str | None]] | None:
        try:
            if self._talk is None or self._talk.lost:
                self._start()
            talk = self._talk
            assert talk is not None
            if table not in self._known:
                self._count += 1
                await talk.ask({"table": self._count, "rules": [
                    [rule.test.pattern, rule.test.flags, rule.negated, rule.end, at in slow]
                    for at, rule in enumerate(rules)
                ]}).addTimeout(PATIENCE, self._reactor)  # fmt: skip
                self._known[table] = self._count
            question = {"ask": self._known[table], "key": key, "seconds": SECONDS}
            answer = await talk.ask(question).addTimeout(PATIENCE, self._reactor)
        except TimeoutError:
            self._end()
            raise TooLong("the process for patterns does not answer") from None
        except TooLong:
            self._end()
            raise
        except OSError as error:
            raise TableError(f"the process for patterns cannot be started: {error.strerror}") from None
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._reactor.callLater(IDLE, self._rest)
        return None if answer["rule"] < 0 else (answer["rule"], answer["groups"])

    def stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._end()

    def _rest(self) -> None:
        self._idle = None
        self._end()

    def _start(self) -> None:
        self._end()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            # Popen uses vfork: a large parent costs nothing.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PROGRAM)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
            self._talk = _Talk()
            talk = self._talk
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: talk))

    def _end(self) -> None:
        self._known.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._talk is not None and not self._talk.lost:
            self._talk.waiting = None
            self._talk.transport.abortConnection()  # type: ignore[union-attr]
        self._talk = None
