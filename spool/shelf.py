"""What is waiting in a folder, in the order in which it is due, in bounded memory.

A folder may hold a million messages; a shelf keeps those that are due first.  Up to its *horizon* it knows everything,
beyond it only that there is more.  When all before the horizon is taken and time has come so far, the folder has to be
looked through again: that costs some microseconds a name, and brings the next twenty thousand.  A folder is also looked
through from time to time for what others have put there.
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf

from spool.names import Place


class Shelf:
    """``most``: how many messages are kept in mind.  ``interval``: seconds between looks for what others put there."""

    def __init__(self, folder: str, most: int, interval: float) -> None:
        self.folder = folder
        self.most = most
        self._interval = interval
        self._heap: list[tuple[float, str, int, Place]] = []
        self._numbers = count()
        self._horizon = -inf
        self._next_look = -inf
        self._failed_until = -inf
        self._scanning = False
        self._meanwhile: list[tuple[float, Place]] = []

    def put(self, due: float, place: Place) -> None:
        """A message has come into the folder."""
        if self._scanning:
            self._meanwhile.append((due, place))
        if due <= self._horizon:
            heapq.heappush(self._heap, (due, place.id, next(self._numbers), place))
            if len(self._heap) > 2 * self.most:
                self._heap = heapq.nsmallest(self.most, self._heap)
                self._horizon = self._heap[-1][0]

    def take(self, now: float) -> Place | None:
        """The message that is due first, if it is due."""
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[3]
        return None

    def has_due(self, now: float) -> bool:
        return bool(self._heap) and self._heap[0][0] <= now

    def next_due(self) -> float | None:
        """When the next one is due, as far as is known."""
        if self._heap:
            return self._heap[0][0]
        return self._horizon if -inf < self._horizon < inf else None

    def look_soon(self) -> None:
        """Something has come into the folder that the shelf does not know."""
        self._next_look = -inf

    def wants_scan(self, now: float, moment: float) -> bool:
        """Whether the folder has to be looked through before the shelf can be said to have nothing due.  ``now`` is
        the time by which messages are due, ``moment`` the time of a clock that nobody sets."""
        if moment < self._failed_until or self._scanning:
            return False
        return moment >= self._next_look or (now >= self._horizon and not self.has_due(now))

    def begin_scan(self) -> None:
        self._scanning = True
        self._meanwhile = []
        self._next_look = inf

    def end_scan(self, found: list[tuple[float, Place]], moment: float, cost: float, latest: float = inf) -> None:
        """The messages due first, up to ``most`` (fewer = these are all).  ``cost``: seconds that it took; looks that
        take long are made more rarely.  What is due later than ``latest`` is due now."""
        self._horizon = found[-1][0] if len(found) >= self.most else inf
        self._heap = [
            (due if due <= latest else -inf, place.id, next(self._numbers), place) for due, place in found
        ]
        heapq.heapify(self._heap)
        self._scanning = False
        for due, place in self._meanwhile:
            self.put(due, place)
        self._meanwhile = []
        asked_again = self._next_look == -inf
        self._next_look = -inf if asked_again else moment + max(self._interval, 100 * cost)

    def scan_failed(self, moment: float) -> None:
        self._scanning = False
        self._meanwhile = []
        self._failed_until = moment + self._interval
