"""A value made from a file, and made anew when the file changes.

get() gives the value; a few times a second at most it looks (one stat) whether the file is still the one that was read.
What is half-written is never served:

* a file is read whole, and taken only if it did not change meanwhile;
* one that was written in place is taken only when it has been left alone for a second; a renamed one at once;
* when the new file is missing, unreadable or cannot be parsed, the old value stays, and the log says so once.

Big files are read anew in a thread while the old value serves; the first reading is done at once, by whoever opens.
Without a first value get() raises TableError, and goes on looking for the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from gateway.config.findings import ERROR, Finding
from gateway.interfaces import TableError
from gateway.tables.base import PROGRAM, Environment

T = TypeVar("T")

CHECK_EVERY = 0.2
SETTLED = 1.0
BIG = 1_000_000
"""Bytes: to parse less takes a few milliseconds, which is no more than to tell a thread about it is worth."""

Signature = tuple[int, int, int, int]


class Watched(Generic[T]):
    """``parse`` makes the value of a path; it may raise OSError or ValueError, and may run in a thread.
    ``loaded`` is told of each value that is taken."""

    def __init__(
        self,
        name: str,
        path: Path,
        parse: Callable[[Path], T],
        environment: Environment,
        loaded: Callable[[T, bool], None] | None = None,
    ) -> None:
        self.name, self.path = name, path
        self._parse = parse
        self._environment = environment
        self._loaded = loaded
        self._value: T | None = None
        self._signature: Signature | None = None
        self._refused: Signature | None = None
        self._problem = ""
        self._reading = False
        self._next_check = environment.clock.seconds() + CHECK_EVERY
        self._read_now()

    @property
    def problem(self) -> str:
        """Why there is no value, or no newer one; "" = all is well."""
        return self._problem

    def get(self) -> T:
        """The value.  Raises TableError while there is none."""
        now = self._environment.clock.seconds()
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY
            self._check()
        if self._value is None:
            raise TableError(f"{self.name} is unavailable. {self._problem}")
        return self._value

    def findings(self) -> list[Finding]:
        if not self._problem:
            return []
        return [Finding(ERROR, str(self.path), 0, f"{self.name}: {self._problem}", "make the file, or mend it")]

    def _check(self) -> None:
        if self._reading:
            return
        try:
            found = os.stat(self.path)
        except OSError as error:
            self._fail(None, f"open {self.path}: {error.strerror}")
            return
        signature = _signature(found)
        if signature == self._signature or signature == self._refused:
            return
        in_place = self._signature is not None and signature[:2] == self._signature[:2]
        if in_place and self._environment.wall() - max(found.st_mtime, found.st_ctime) < SETTLED:
            return
        if self._value is not None and found.st_size >= BIG and self._environment.in_thread is not None:
            self._read_in_thread()
        else:
            self._read_now()

    def _read_now(self) -> None:
        self._take(*self._read())

    def _read_in_thread(self) -> None:
        from twisted.internet.defer import Deferred

        async def renew() -> None:
            assert self._environment.in_thread is not None
            try:
                self._take(*await self._environment.in_thread(self._read))
            finally:
                self._reading = False

        self._reading = True
        Deferred.fromCoroutine(renew()).addErrback(lambda failure: self._fail(None, failure.getErrorMessage()))

    def _read(self) -> tuple[Signature | None, T | None, str]:
        """(what was read, its value, or why there is none)."""
        before: Signature | None = None
        try:
            before = _signature(os.stat(self.path))
            value = self._parse(self.path)
            after = _signature(os.stat(self.path))
        except OSError as error:
            return before, None, f"open {self.path}: {error.strerror}"
        except ValueError as error:
            return before, None, str(error)
        if after != before:
            return None, None, f"{self.path} changed while it was read"
        return before, value, ""

    def _take(self, signature: Signature | None, value: T | None, problem: str) -> None:
        if value is None:
            self._fail(signature, problem)
            return
        renewed = self._value is not None
        self._value, self._signature, self._refused, self._problem = value, signature, None, ""
        if self._loaded is not None:
            self._loaded(value, renewed)

    def _fail(self, signature: Signature | None, problem: str) -> None:
        self._refused = signature
        if problem != self._problem and self._value is not None:
            self._environment.log.warning(PROGRAM, f"{self.name}: {problem}: going on with what was read before")
        self._problem = problem


def _signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
