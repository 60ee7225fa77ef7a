"""One destination: a next hop of a transport, the mail that waits for it, and how many deliveries it bears.

The concurrency window follows SCHEDULER_README: it starts at ``initial_destination_concurrency``, grows by positive
feedback while deliveries succeed and the window is in use, shrinks by negative feedback when the next hop as a whole
fails, and after ``concurrency_failed_cohort_limit`` windows full of failures the destination counts as dead: what waits
for it is deferred, and it gets a new chance after a while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class Feedback:
    """A value of …_concurrency_positive_feedback or …_negative_feedback: NUMBER, NUMBER/concurrency or
    NUMBER/sqrt_concurrency (SCHEDULER_README)."""

    factor: float
    exponent: float

    @classmethod
    def parse(cls, text: str) -> Feedback:
        """Raises ValueError for anything else."""
        number, _, divisor = (part.strip() for part in text.partition("/"))
        exponents = {"": 0.0, "concurrency": 1.0, "sqrt_concurrency": 0.5}
        if divisor not in exponents:
            raise ValueError(f'"{text}" is not NUMBER, NUMBER/concurrency or NUMBER/sqrt_concurrency')
        return cls(float(number), exponents[divisor])

    def at(self, window: float) -> float:
        return self.factor / float(max(window, 1.0)) ** self.exponent


@dataclass(frozen=True, slots=True)
class Limits:
    """The scheduling parameters of one transport; see postconf(5) transport_destination_… ."""

    initial_concurrency: int
    concurrency: int
    """Most deliveries to one destination at once; 0 = no limit."""
    recipients: int
    """Most recipients in one delivery; 0 = no limit."""
    failed_cohorts: int
    positive: Feedback
    negative: Feedback
    rate_delay: float = 0.0
    """Pause after each delivery to a destination (seconds); then there is one at a time."""
    together: int = 1
    """Most messages for one destination that are handed over as one delivery, a bundle, to a transport that saves work
    by it (see gateway.interfaces.Request)."""


@dataclass(slots=True)
class Destination(Generic[Work]):
    """Mutable state of one (transport, next hop)."""

    key: str
    """Under which its transport's queue knows it."""
    limits: Limits
    waiting: deque[Work] = field(default_factory=deque)
    busy: int = 0
    window: float = 0.0
    dead_until: float = 0.0
    """While dead: when it gets a new chance (clock seconds)."""
    dead_dsn: str = ""
    dead_reason: str = ""
    not_before: float = 0.0
    """rate_delay: when the next delivery may start."""
    in_turn: bool = False
    """Stands in its transport's line of destinations that may start a delivery."""
    _success: float = 0.0
    _failure: float = 0.0
    _failed_cohorts: float = 0.0

    def __post_init__(self) -> None:
        self.window = self._initial()

    def _initial(self) -> float:
        if self.limits.rate_delay > 0:
            return 1.0
        initial, most = self.limits.initial_concurrency, self.limits.concurrency
        return float(min(initial, most) if most else initial)

    def is_dead(self, now: float) -> bool:
        if self.dead_until and now >= self.dead_until:
            self.revive()
        return self.dead_until > 0

    def may_start(self, now: float) -> bool:
        return self.busy < int(self.window) and now >= self.not_before

    def revive(self) -> None:
        """Give it a new chance, with a fresh window."""
        self.dead_until = 0.0
        self.dead_dsn = self.dead_reason = ""
        self.window = self._initial()
        self._success = self._failure = self._failed_cohorts = 0.0

    def succeeded(self) -> None:
        """A delivery came through to the next hop, whatever it said of recipients."""
        self._failed_cohorts = 0.0
        limit = self.limits.concurrency
        if self.limits.rate_delay > 0 or (limit and self.window >= limit):
            return
        if self.window >= self.busy + self.limits.initial_concurrency:
            return  # the window is not in use: nothing is known about a larger one
        self._success += self.limits.positive.at(self.window)
        whole = int(self._success + 1e-6)
        if whole:
            self._success -= whole
            self._failure = 0.0
            self.window += whole
            if limit:
                self.window = min(self.window, float(limit))

    def failed(self, dsn: str, reason: str, now: float, retry_after: float) -> bool:
        """The next hop as a whole failed.  True if this made the destination dead, until now + retry_after."""
        if self.dead_until:
            return False
        self._failed_cohorts += 1.0 / max(self.window, 1.0)
        limit = self.limits.failed_cohorts
        if limit and self._failed_cohorts >= limit - 1e-6:
            self.dead_until = now + retry_after
            self.dead_dsn, self.dead_reason = dsn, reason
            return True
        self._failure += self.limits.negative.at(self.window)
        whole = int(self._failure + 1e-6)
        if whole:
            self._failure -= whole
            self._success = 0.0
            self.window = max(1.0, self.window - whole)
        return False
