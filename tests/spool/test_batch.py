"""How many batches run at a time."""

from __future__ import annotations

from typing import Any

from spool.batch import Group, Job
from spool.files import Files
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
