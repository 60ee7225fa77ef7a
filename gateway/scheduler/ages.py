"""How old messages are, whatever is done to the system's clock.

A message's arrival is a time of day.  When the clock is set forward by ten days, mail that came in a minute ago must
not be returned as ten days old: what the clock leapt forward is no part of the age of what had arrived before.  After
a step back the age starts at zero for what arrived "later than now"; so mail is kept too long rather than too short.
Leaps are known to the process that has seen them, until it ends.
"""

from __future__ import annotations

from typing import Any

from gateway.clock import time_of_day

LEAP = 60.0
"""Seconds of difference that count; less does no harm."""


class Ages:
    """``clock``: see gateway.clock."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._ahead = self._difference()
        self._leaps: list[tuple[float, float]] = []
        """The last moment before each leap forward, by the clock as it was, and its seconds."""

    def _difference(self) -> float:
        return time_of_day(self._clock) - float(self._clock.seconds())

    def leap(self) -> float:
        """By how much the clock was set forward (or back, below 0) since the last look; 0.0 for less than LEAP."""
        ahead = self._difference()
        leapt = ahead - self._ahead
        if abs(leapt) < LEAP:
            return 0.0
        before = float(self._clock.seconds()) + self._ahead
        self._ahead = ahead
        if leapt > 0:
            self._leaps.append((before, leapt))
        else:
            self._take_back(-leapt)
        return leapt

    def _take_back(self, seconds: float) -> None:
        """A clock that was wrong is set right again."""
        while self._leaps and seconds > 0:
            before, leapt = self._leaps.pop()
            if leapt - seconds >= LEAP:
                self._leaps.append((before, leapt - seconds))
            seconds -= leapt

    def age(self, arrival: float) -> float:
        """Seconds since a message arrived.  Leaps must have been looked for."""
        leapt = sum(seconds for before, seconds in self._leaps if arrival <= before) if self._leaps else 0.0
        return max(0.0, time_of_day(self._clock) - arrival - leapt)
