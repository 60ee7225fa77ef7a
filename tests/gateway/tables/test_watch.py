"""Changed files are taken up, half-written ones never."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.interfaces import TableError
from gateway.log import MemoryLog
from gateway.tables import watch
from gateway.tables.base import Environment
from gateway.tables.watch import CHECK_EVERY, Watched


class Watching:
    """A watched file whose content is its value; "bad" cannot be parsed."""

    def __init__(self, path: Path, in_thread: Any = None) -> None:
        self.path = path
        self.clock = Clock()
        self.log = MemoryLog()
        self.wall = 0.0
        self.parsed = 0
        self.while_parsing: Callable[[], None] = lambda: None
        self.environment = Environment(self.clock, self.log, lambda: self.wall, lambda values: values[0], in_thread)
        self.watched = Watched("hash:x", path, self.parse, self.environment)

    def parse(self, path: Path) -> str:
        self.parsed += 1
        text = path.read_text()
        self.while_parsing()
        if text == "bad":
            raise ValueError("cannot be parsed")
        return text

    def later(self, seconds: float = 1.0) -> str:
        self.clock.advance(seconds)
        return self.watched.get()

    def settle(self) -> None:
        self.wall = os.stat(self.path).st_ctime + 10


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    path = tmp_path / "x"
    path.write_text("one")
    return Watching(path)


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_an_unchanged_file_is_read_once(watching: Watching) -> None:
    assert [watching.later() for _ in range(5)] == ["one"] * 5
    assert watching.parsed == 1


def test_looks_at_the_file_a_few_times_a_second_at_most(watching: Watching) -> None:
    replace(watching.path, "two")
    assert watching.later(CHECK_EVERY - 0.01) == "one"
    assert watching.later(0.02) == "two"


def test_a_renamed_file_is_taken_at_once(watching: Watching) -> None:
    replace(watching.path, "two")
    assert watching.later() == "two"


def test_a_file_being_written_is_left_alone_until_it_rests(watching: Watching) -> None:
    watching.path.write_text("one and a ha")
    watching.wall = os.stat(watching.path).st_ctime + 0.2
    assert watching.later() == "one"
    watching.path.write_text("one and a half")
    watching.settle()
    assert watching.later() == "one and a half"


def test_a_file_that_changes_while_it_is_read_is_not_taken(watching: Watching) -> None:
    watching.while_parsing = lambda: replace(watching.path, "three")
    replace(watching.path, "two")
    assert watching.later() == "one"
    assert "changed while it was read" in watching.log.text
    watching.while_parsing = lambda: None
    watching.settle()
    assert watching.later() == "three"


def test_a_bad_file_leaves_the_old_value_and_is_reported_once(watching: Watching) -> None:
    replace(watching.path, "bad")
    assert [watching.later() for _ in range(3)] == ["one"] * 3
    assert watching.log.text == "postmap: warning: hash:x: cannot be parsed: going on with what was read before"
    assert watching.parsed == 2
    assert [finding.what for finding in watching.watched.findings()] == ["hash:x: cannot be parsed"]
    replace(watching.path, "good")
    watching.settle()
    assert watching.later() == "good"
    assert watching.watched.findings() == []


def test_a_lost_file_leaves_the_old_value(watching: Watching) -> None:
    watching.path.unlink()
    assert watching.later() == "one"
    assert "No such file or directory" in watching.log.text
    watching.path.write_text("again")
    watching.settle()
    assert watching.later() == "again"


def test_a_missing_file_is_an_error_until_it_appears(tmp_path: Path) -> None:
    watching = Watching(tmp_path / "x")
    with pytest.raises(TableError) as raised:
        watching.watched.get()
    assert str(raised.value) == f"hash:x is unavailable. open {tmp_path}/x: No such file or directory"
    assert watching.watched.findings()[0].severity == "error"
    watching.path.write_text("here")
    assert watching.later() == "here"


def test_big_files_are_read_in_a_thread_while_the_old_value_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BIG", 5)
    calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def in_thread(call: Callable[[], Any]) -> Deferred[Any]:
        calls.append((call, Deferred()))
        return calls[-1][1]

    path = tmp_path / "x"
    path.write_text("a big one")
    watching = Watching(path, in_thread)
    assert not calls
    replace(path, "another big one")
    assert [watching.later() for _ in range(3)] == ["a big one"] * 3
    (call, done), = calls
    done.callback(call())
    assert watching.later() == "another big one"
