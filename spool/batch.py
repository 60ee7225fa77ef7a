"""Making things durable together: what is asked for while the disk is busy goes in one batch, in one hop to a thread.

A Job is a change in steps: ``write`` (files that nobody sees yet), ``start`` and ``sync`` (their data to the disk),
``place`` (names: rename, unlink; gives the folders in which names changed), ``close``.  run() takes a batch through
each step before the next begins, so that the disk has the data of all before anyone waits for it, and syncs each folder
once.  A job that fails is undone and the others go on.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from spool.files import Files
from spool.interfaces import SpoolError

MOST = 64
"""Jobs in one batch."""

SLOW = 0.003
"""Seconds a job from which on the disk counts as slow."""


class Job:
    """A change of the spool.  ``result`` is what its Deferred gives in the end."""

    result: Any = None

    def write(self, files: Files) -> None:
        """Put data into files."""

    def start(self, files: Files) -> None:
        """Have that data on its way to the disk.  Left out for a job that is alone."""

    def sync(self, files: Files) -> None:
        """Bring that data to the disk."""

    def place(self, files: Files) -> Iterable[str]:
        """Change names; the folders concerned."""
        return ()

    def undo(self, files: Files) -> None:
        """A step has failed: take back what was done.  Must not raise."""

    def close(self, files: Files) -> None:
        """At the very end, whatever happened.  Must not raise."""


def run(files: Files, jobs: Sequence[Job]) -> list[SpoolError | None]:
    """Carry out a batch.  The list has what went wrong with each job."""
    errors: list[SpoolError | None] = [None] * len(jobs)
    folders: dict[str, list[int]] = {}

    def fail(index: int, error: OSError | SpoolError) -> None:
        if errors[index] is None:
            errors[index] = error if isinstance(error, SpoolError) else spool_error(error)
            jobs[index].undo(files)

    for step in ("write", "start", "sync", "place") if len(jobs) > 1 else ("write", "sync", "place"):
        for index, job in enumerate(jobs):
            if errors[index] is None:
                try:
                    for folder in getattr(job, step)(files) or ():
                        folders.setdefault(folder, []).append(index)
                except (OSError, SpoolError) as error:
                    fail(index, error)
    for folder, concerned in folders.items():
        try:
            files.fsync_dir(folder)
        except OSError as error:
            for index in concerned:
                fail(index, error)
    for job in jobs:
        job.close(files)
    return errors


def spool_error(error: OSError) -> SpoolError:
    """The same as a SpoolError; a full disk or quota is told apart."""
    text = error.strerror or str(error)
    if error.filename:
        text = f"{error.filename}: {text}"
    return SpoolError(text, no_room=error.errno in (errno.ENOSPC, errno.EDQUOT))


class Threads(Protocol):
    """spool.threads.WorkerThreads, or a ThreadPool of Twisted's."""

    def callInThread(self, function: Any, *arguments: Any) -> Any: ...


class Group:
    """Takes jobs and runs them in batches, each ``apart`` seconds from the last one's beginning at least.

    Two batches at a time would take the interpreter from each other at every step and cost more than they gain, unless
    it is the disk that everybody waits for: then there are up to ``workers``, whose syncs the disk does together.

    ``reactor``: seconds, callLater, callFromThread.  All methods are for the reactor's thread.
    """

    def __init__(
        self, files: Files, threads: Threads, reactor: Any, workers: int = 3, apart: float = 0.0
    ) -> None:
        self._files = files
        self._threads = threads
        self._reactor = reactor
        self._workers = workers
        self._running = 0
        self._pace = 0.0
        """Seconds that a job has taken lately."""
        self._watchers: list[Deferred[None]] = []
        self._waiting: deque[tuple[Job, Deferred[Any]]] = deque()
        self._apart = apart
        self._not_before = 0.0
        self._called = False

    def submit(self, job: Job) -> Deferred[Any]:
        """Fires with ``job.result`` once the job is durable, or fails with SpoolError."""
        done: Deferred[Any] = Deferred()
        self._waiting.append((job, done))
        self._call()
        return done

    def _call(self) -> None:
        if self._waiting and self._may_start and not self._called:
            # What else comes in this turn of the reactor goes along.
            self._called = True
            pause = max(self._not_before - self._reactor.seconds(), 0.0) if self._apart else 0.0
            self._reactor.callLater(pause, self._start)

    @property
    def _may_start(self) -> bool:
        return self._running < (self._workers if self._pace > SLOW else 1)

    def drained(self) -> Deferred[None]:
        """Fires when nothing is waiting or being done."""
        done: Deferred[None] = Deferred()
        self._watchers.append(done)
        self._tell()
        return done

    def _tell(self) -> None:
        if not self._waiting and not self._running:
            watchers, self._watchers = self._watchers, []
            for done in watchers:
                done.callback(None)

    def _start(self) -> None:
        self._called = False
        if self._apart:
            self._not_before = self._reactor.seconds() + self._apart
        while self._waiting and self._may_start:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            self._running += 1
            self._threads.callInThread(self._work, batch, self._reactor.seconds())

    def _work(self, batch: list[tuple[Job, Deferred[Any]]], started: float) -> None:
        errors: list[Any]
        try:
            errors = list(run(self._files, [job for job, _ in batch]))
        except Exception as error:
            # A mistake of ours: nobody may wait for ever because of it.
            errors = [SpoolError(f"internal error: {error!r}")] * len(batch)
        self._reactor.callFromThread(self._ended, batch, errors, started)

    def _ended(
        self, batch: list[tuple[Job, Deferred[Any]]], errors: list[SpoolError | None], started: float
    ) -> None:
        self._running -= 1
        self._pace += ((self._reactor.seconds() - started) / len(batch) - self._pace) / 8
        if self._apart and len(self._waiting) < MOST:
            self._call()
        else:
            self._start()
        for (job, done), error in zip(batch, errors, strict=True):
            if error is None:
                done.callback(job.result)
            else:
                done.errback(error)
        self._tell()


def in_thread(threads: Threads, reactor: Any, function: Any, *arguments: Any) -> Deferred[Any]:
    """The result of a function that is called in a thread.  Its OSErrors come as SpoolErrors."""
    done: Deferred[Any] = Deferred()

    def work() -> None:
        try:
            result = function(*arguments)
        except Exception as error:
            reactor.callFromThread(done.errback, spool_error(error) if isinstance(error, OSError) else error)
        else:
            reactor.callFromThread(done.callback, result)

    threads.callInThread(work)
    return done
