"""A value made from a file, and made anew when the file changes.

get() gives the value; a few times a second at most it looks (one stat) whether the file is still the one that was read.
What is half-written is never served:

* a file is read whole, and taken only if it did not change meanwhile;
* one that was written in place is taken only when it has been left alone for a second; a renamed one at once;
* when the new file is missing, unreadable or cannot be parsed, the old value stays, and the log says so once.

There may be a choice of files, such as a text and its index: ``choose`` says which one counts now.

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
    ``loaded`` is told of each value that is taken, and whether it took another one's place.
    ``choose`` gives the path, and whether the file there is never half-written and quickly opened."""

    def __init__(
        self,
        name: str,
        path: Path,
        parse: Callable[[Path], T],
        environment: Environment,
        loaded: Callable[[T, bool], None] | None = None,
        choose: Callable[[], tuple[Path, bool]] | None = None,
    ) -> None:
        self.name, self.path = name, path
        self._choose = choose or (lambda: (path, False))
        self._parse = parse
        self._environment = environment
        self._loaded = loaded
        self._value: T | None = None
        self._signature: Signature | None = None
        self._signed: Path | None = None
        """The file that ``_signature`` is of."""
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
        path, whole = self._choose()
        try:
            found = os.stat(path)
        except OSError as error:
            self._fail(None, f"open {path}: {error.strerror}")
            return
        signature = _signature(found)
        if signature == self._signature or signature == self._refused:
            return
        renamed = whole or (path == self._signed and signature[:2] != self._signature[:2] if self._signature else True)
        if not renamed and self._environment.wall() - max(found.st_mtime, found.st_ctime) < SETTLED:
            return
        big = found.st_size >= BIG and not whole
        if self._value is not None and big and self._environment.in_thread is not None:
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

    def _read(self) -> tuple[Path, Signature | None, T | None, str]:
        """(path, what was read, its value, or why there is none)."""
        before: Signature | None = None
        path, _ = self._choose()
        try:
            before = _signature(os.stat(path))
            value = self._parse(path)
            after = _signature(os.stat(path))
        except OSError as error:
            return path, before, None, f"open {path}: {error.strerror}"
        except ValueError as error:
            return path, before, None, str(error)
        if after != before:
            return path, None, None, f"{path} changed while it was read"
        return path, before, value, ""

    def _take(self, path: Path, signature: Signature | None, value: T | None, problem: str) -> None:
        if value is None:
            self._fail(signature, problem)
            return
        renewed = self._value is not None
        self._value, self._signature, self._refused, self._problem = value, signature, None, ""
        self._signed = path
        if self._loaded is not None:
            self._loaded(value, renewed)

    def _fail(self, signature: Signature | None, problem: str) -> None:
        self._refused = signature
        if problem != self._problem and self._value is not None:
            self._environment.log.warning(PROGRAM, f"{self.name}: {problem}: going on with what was read before")
        self._problem = problem


def _signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
