"""Two clocks that a step of the system's time does not mix up.

Twisted runs its timers by the time of day: when that is set back an hour, each timer is an hour late; when it is set
forward, all of them go off at once.  After make_steady(reactor) ``reactor.seconds()`` runs evenly, whatever is done to
the time of day.  It starts as seconds since the epoch, and is what everything goes by that measures or waits:
timeouts, pauses, caches, rates.

``time_of_day`` is for what the world outside sees: arrival and date of a message, names of files, when a deferred
message is due.  The clock of a test that has no time of day of its own is asked for its seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def _steady() -> float:
    """Runs on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make_steady(
    reactor: Any, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _steady
) -> None:
    """Before anything is timed; a second time it does nothing."""
    if hasattr(reactor, "time_of_day"):
        return
    offset = wall() - steady()
    reactor.seconds = lambda: steady() + offset
    reactor.time_of_day = wall


def time_of_day(clock: Any) -> float:
    """Seconds since the epoch, as the system has them now."""
    return float(getattr(clock, "time_of_day", clock.seconds)())
