"""Queue IDs: names of messages that are never given twice.

    4jYkqr37zQzCkPq2Xv1b
    ------              seconds since the epoch, base 52 (digits and consonants, in ASCII order)
          ----          microseconds, base 52
              z         where the time ends
               --------  45 random bits, base 51 (the same letters without "z")

This is Postfix's long form (postconf(5) enable_long_queue_ids), with random bits where Postfix has an inode number: so
the name is known before there is a file, and no second machine, process or restored backup comes to the same one.
Sorting IDs as text sorts them by time.  A process gives each microsecond once, also when its clock steps back; the
random part keeps processes apart, and a forked child draws anew.

valid() is the judge of IDs that come from outside (commands, file names): letters, digits and "_" only, so that an ID
can stand in a path, a log line or a header as it is.
"""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Callable

_BASE52 = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_BASE51 = _BASE52[:-1]
_PAIRS52 = [a + b for a in _BASE52 for b in _BASE52]
_PAIRS51 = [a + b for a in _BASE51 for b in _BASE51]
_VALUE52 = {character: value for value, character in enumerate(_BASE52)}

_OURS = re.compile(rf"([{_BASE52}]{{6}})([{_BASE52}]{{4}})z[{_BASE51}]{{8}}\Z")
_VALID = re.compile(r"[0-9A-Za-z_]{1,100}\Z")

_DRAW = 6 * 256
"""Random bytes fetched at once: enough for 256 IDs."""


class Generator:
    """Makes IDs.  ``clock`` gives seconds since the epoch, ``random`` that many random bytes."""

    def __init__(
        self, clock: Callable[[], float] = time.time, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock = clock
        self._random = random
        self._last = 0
        self._second = -1
        self._head = ""
        self._pool = b""
        self._used = 0
        _generators.add(self)

    def next(self) -> str:
        now = int(self._clock() * 1_000_000)
        if now <= self._last:
            now = self._last + 1
        self._last = now
        second, micro = divmod(now, 1_000_000)
        if second != self._second:
            self._second = second
            self._head = head(second)
        start = self._used
        if start >= len(self._pool):
            self._pool, start = self._random(_DRAW), 0
        self._used = start + 6
        tail = int.from_bytes(self._pool[start : start + 6], "big") & 0x1FFFFFFFFFFF
        tail, d = divmod(tail, 2601)
        tail, c = divmod(tail, 2601)
        a, b = divmod(tail, 2601)
        return (
            f"{self._head}{_PAIRS52[micro // 2704]}{_PAIRS52[micro % 2704]}z"
            f"{_PAIRS51[a]}{_PAIRS51[b]}{_PAIRS51[c]}{_PAIRS51[d]}"
        )

    def forget_pool(self) -> None:
        """Draw new random bytes for the next ID: a child must not use those of its parent."""
        self._pool = b""
        self._used = 0


_generators: weakref.WeakSet[Generator] = weakref.WeakSet()


def _after_fork() -> None:
    for generator in _generators:
        generator.forget_pool()


os.register_at_fork(after_in_child=_after_fork)


def head(second: int) -> str:
    """What IDs that are made in that second begin with.  Those made later sort behind it."""
    digits = []
    for _ in range(3):
        second, pair = divmod(second, 2704)
        digits.append(_PAIRS52[pair])
    return "".join(reversed(digits))


def valid(id: str) -> bool:
    """Whether this may be a queue ID at all."""
    return _VALID.match(id) is not None


def time_of(id: str) -> float:
    """When the ID was made, seconds since the epoch; 0.0 if it is not of this module's making."""
    match = _OURS.match(id)
    if match is None:
        return 0.0
    return _number(match.group(1)) + _number(match.group(2)) / 1_000_000


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 52 + _VALUE52[digit]
    return value
