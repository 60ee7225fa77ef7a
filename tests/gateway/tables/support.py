"""What the tests of tables have in common."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.task import Clock

from gateway.config import Settings
from gateway.log import MemoryLog
from gateway.tables import Tables
from gateway.tables.base import Table

T = TypeVar("T")


def now(awaitable: Awaitable[T]) -> T:
    """The result of a coroutine that must not wait for anything."""
    coroutine: Any = awaitable
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("it waits for something")


class Bench:
    """Tables with a clock and a log to look at, and settings that live in a folder."""

    def __init__(self, directory: Path | None = None, **values: str) -> None:
        self.clock = Clock()
        self.log = MemoryLog()
        self.wall = 4e9
        self.tables = Tables(clock=self.clock, log=self.log, wall=lambda: self.wall, choose=lambda values: values[-1])
        self.settings = Settings({"alias_maps": "", "alias_database": "", **values}, directory=directory)

    def open(self, spec: str) -> Table:
        return self.tables.open(spec, self.settings)

    def ask(self, spec: str, key: str) -> str | None:
        return now(self.tables.open(spec, self.settings).ask(key))

    @property
    def findings(self) -> list[str]:
        return [str(finding) for finding in self.tables.findings()]
