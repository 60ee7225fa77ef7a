"""A command that has made a table's index ends when the gateway has the change."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands import newaliases, postmap, taking_up
from gateway.config import Settings
from gateway.control import SOCKET
from gateway.tables.watch import CHECK_EVERY

ALL = CHECK_EVERY
WRITTEN = 1_000_000.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Settings]:
    """The settings of a gateway that answers."""
    (tmp_path / SOCKET).parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / SOCKET))
        server.listen()
        yield Settings({"queue_directory": str(tmp_path)})


def paused(settings: Settings, since: float, *names: Path) -> list[float]:
    """How long it waits, ``since`` seconds after the files have changed."""
    pauses: list[float] = []
    for name in names:
        name.touch()
    changed = max((os.stat(name).st_ctime for name in names), default=WRITTEN)
    taking_up.wait([*names, Path("/no/such/file")], settings, lambda: changed + since, pauses.append)
    return pauses


def test_how_long_it_takes(running: Settings, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert paused(running, 0.05, one, two) == [pytest.approx(ALL - 0.05, abs=0.01)]
    assert paused(running, ALL + 0.01, one) == []
    assert paused(running, 0.0) == []
    # A file from the future.
    assert paused(running, -3600.0, one) == [pytest.approx(ALL)]


def test_nobody_waits_for_a_gateway_that_does_not_run(tmp_path: Path) -> None:
    assert paused(Settings({"queue_directory": str(tmp_path)}), 0.0, tmp_path / "one") == []


def test_who_waits(running: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(taking_up, "wait", lambda paths, settings: seen.append([path.name for path in paths]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.cf").write_text(f"compatibility_level = 3.6\nalias_database = hash:{tmp_path}/aliases\n")
    (tmp_path / "aliases").write_text("root: jane\n")
    (tmp_path / "map").write_text("key value\n")
    assert newaliases.main([], tmp_path) == 0
    assert postmap.main(["hash:map"], tmp_path) == 0
    assert postmap.main(["-q", "key", "hash:map"], tmp_path) == 0
    assert postmap.main(["-d", "key", "hash:map"], tmp_path) == 0
    assert seen == [["aliases.lmdb"], ["map.lmdb"], ["map.lmdb"]]
