"""Turns: of the deliveries of one bundle (see gateway.interfaces.Request) one at a time may run a program, or hand its
mail to another service; or a user would have more of these at once than local_destination_concurrency_limit says.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from twisted.internet.defer import Deferred


class Turns:
    def __init__(self) -> None:
        self._waiting: dict[int, deque[Deferred[None]]] = {}
        """For each bundle in which somebody has the turn, who is next."""

    def of(self, bundle: int) -> Turn:
        """``async with turns.of(bundle): …``"""
        return Turn(self._waiting, bundle)


class Turn:
    def __init__(self, waiting: dict[int, deque[Deferred[None]]], bundle: int) -> None:
        self._waiting = waiting
        self._bundle = bundle

    async def __aenter__(self) -> None:
        if not self._bundle:
            return
        line = self._waiting.get(self._bundle)
        if line is None:
            self._waiting[self._bundle] = deque()
        else:
            mine: Deferred[None] = Deferred()
            line.append(mine)
            await mine

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._bundle:
            return
        line = self._waiting[self._bundle]
        if line:
            line.popleft().callback(None)
        else:
            del self._waiting[self._bundle]
