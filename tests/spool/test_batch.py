"""How many batches run at a time; a batch's way to the disk."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from spool.batch import Group, Job, run
from spool.files import Files
from spool.jobs import Commit
from tests.spool.faulty import FaultyFiles
from tests.spool.test_contract import Reactor


class Disk(Reactor):
    """Threads whose work takes its time; ``running``: batches that are under way."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds_a_job = seconds
        self.running = 0
        self.most = 0

    def callInThread(self, function: Any, *arguments: Any) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.callLater(self.seconds_a_job * len(arguments[0]), self._done, function, arguments)

    def _done(self, function: Any, arguments: Any) -> None:
        self.running -= 1
        function(*arguments)


def store(disk: Disk, jobs: int) -> int:
    """Submit one job every fifth of a millisecond; how many batches ran at a time."""
    group = Group(Files(), disk, disk)
    done: list[Any] = []
    for _ in range(jobs):
        group.submit(Job()).addCallback(done.append)
        disk.advance(0.0002)
    drained = group.drained()
    for _ in range(20_000):
        disk.advance(0.001)
    assert len(done) == jobs and drained.called
    return disk.most


def test_one_batch_at_a_time_is_enough_for_a_fast_disk() -> None:
    assert store(Disk(0.0001), 300) == 1


def test_a_slow_disk_gets_several_batches_at_a_time() -> None:
    assert store(Disk(0.008), 300) == 3


def commits(folder: Path, count: int) -> list[Job]:
    return [Commit(str(folder / f"tmp{number}"), str(folder / f"new{number}"), [b"x"]) for number in range(count)]


def test_all_data_is_on_its_way_before_anyone_waits_for_the_disk(tmp_path: Path) -> None:
    files = FaultyFiles()
    assert run(files, commits(tmp_path, 2)) == [None, None]
    assert " ".join(files.operations) == (
        "create write create write start_sync start_sync fdatasync fdatasync rename rename fsync_dir close close"
    )
    alone = FaultyFiles()
    assert run(alone, commits(tmp_path, 1)) == [None]
    assert "start_sync" not in alone.operations


def test_who_cannot_be_started_is_undone_and_the_others_go_on(tmp_path: Path) -> None:
    files = FaultyFiles(fail_at=4, error=errno.EIO)
    first, second = run(files, commits(tmp_path, 2))
    assert first is not None and second is None
    assert [path.name for path in tmp_path.iterdir()] == ["new1"]
