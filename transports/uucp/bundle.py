"""Letters for one neighbour that share a job: while one job is being queued, those for the next gather."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from gateway.interfaces import Result
from transports.uucp.letters import Letter

MOST = 200
"""Letters in a job."""


class Bundle:
    """``queue``: makes a job of letters.  ``wait``: seconds for more of them to come; ``size``: no job becomes larger
    (bytes), unless one letter is."""

    def __init__(
        self, queue: Callable[[Sequence[Letter]], Awaitable[Result]], wait: float, size: int, clock: Any
    ) -> None:
        self._queue = queue
        self._wait = wait
        self._size = size
        self._clock = clock
        self._waiting: deque[tuple[Letter, Deferred[Result]]] = deque()
        self._running = False

    async def add(self, letter: Letter) -> Result:
        turn: Deferred[Result] = Deferred()
        self._waiting.append((letter, turn))
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._work())
        return await turn

    async def _work(self) -> None:
        try:
            while self._waiting:
                if self._wait:
                    await deferLater(self._clock, self._wait)
                await self._next()
        finally:
            self._running = False

    async def _next(self) -> None:
        taken: list[tuple[Letter, Deferred[Result]]] = []
        size = 0
        while self._waiting and len(taken) < MOST:
            size += self._waiting[0][0].content.size
            if taken and size > self._size:
                break
            taken.append(self._waiting.popleft())
        try:
            result = await self._queue([letter for letter, _ in taken])
        except Exception as error:
            for _, turn in taken:
                turn.errback(error)
            return
        for _, turn in taken:
            turn.callback(replace(result, details=dict(result.details)))
