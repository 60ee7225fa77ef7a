"""When to try again, when to give up, when to warn: pure functions of times.

qmgr(8), postconf(5) minimal_backoff_time, maximal_backoff_time, maximal_queue_lifetime, bounce_queue_lifetime,
delay_warning_time.  All times are seconds; moments are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryTimes:
    minimal_backoff: float
    maximal_backoff: float
    lifetime: float
    bounce_lifetime: float
    """For messages with the null sender."""
    delay_warning: float
    """0 = never warn."""


def next_attempt(times: RetryTimes, age: float, now: float) -> float:
    """The moment of the next attempt: as long after this one as the message is old, within the limits.  So the
    intervals double."""
    return now + min(max(age, times.minimal_backoff), times.maximal_backoff)


def is_expired(times: RetryTimes, age: float, *, null_sender: bool) -> bool:
    return age >= (times.bounce_lifetime if null_sender else times.lifetime)


def warning_is_due(times: RetryTimes, age: float, *, warned: bool) -> bool:
    return times.delay_warning > 0 and not warned and age >= times.delay_warning
