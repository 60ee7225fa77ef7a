"""Processes that start programs, one for each identity, kept while there is work: this end of transports.launcher.

Like a worker (transports.workers) a launcher takes on one identity for good, and ends when it has had nothing to do
for a second.  It belongs to that identity's programs as far as the kernel is concerned: they may stop it, or end it.
One that ends takes its programs' results with it, and their mail is tried again; one that does not answer when a
program is to be ended is ended itself.  As it may be stopped when it has just answered, it is asked again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transports.starter import Job, Starter

if TYPE_CHECKING:
    from transports.process import Command, Identity, Runner

IDLE_TIME = 1.0
"""Seconds that a launcher waits for more."""
PATIENCE = 10.0
"""Seconds that one has to answer."""


class Launchers:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._launchers: dict[tuple[Identity, str, str], Launcher] = {}
        self._sweep: Any = None

    def of(self, command: Command) -> Launcher:
        """The one for this command's identity.  Raises OSError."""
        key = command.identity, command.base, command.chroot
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = self._launchers[key] = Launcher(self._runner, command, lambda: self._forget(key))
        launcher.idle_since = None
        if self._sweep is None:
            self._sweep = self._runner.reactor.callLater(IDLE_TIME, self._end_idle)
        return launcher

    def _forget(self, key: tuple[Identity, str, str]) -> None:
        self._launchers.pop(key, None)

    def _end_idle(self) -> None:
        self._sweep = None
        now = self._runner.reactor.seconds()
        for launcher in list(self._launchers.values()):
            if launcher.starter.is_busy:
                launcher.idle_since = None
            elif launcher.idle_since is None:
                launcher.idle_since = now
            elif now - launcher.idle_since >= IDLE_TIME / 2:
                launcher.close()
        if self._launchers:
            self._sweep = self._runner.reactor.callLater(IDLE_TIME / 2, self._end_idle)

    def close(self, why: str) -> None:
        """End them; their programs are killed and reported as given up."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for launcher in list(self._launchers.values()):
            launcher.give_up(why)


class Launcher:
    """One process; for the spawner it is a job."""

    idle_since: float | None = None

    def __init__(self, runner: Runner, command: Command, forget: Callable[[], None]) -> None:
        self._runner = runner
        self._forget = forget
        self._timers: dict[int, Any] = {}
        """For each program that is to end: by when it has to answer, or when it is asked again."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.starter = Starter(runner.reactor, ours, self._lost, self._child)
        order = {"task": "launch", "base": command.base, "chroot": command.chroot}
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._number = runner.launch(command.identity, order, [theirs.detach(), output], self)

    def launch(self, command: Command, descriptors: list[int], job: Job) -> int:
        order = {
            "argv": command.argv, "env": command.environment, "directory": command.directory, "shell": command.shell,
        }
        return self.starter.launch(order, descriptors, job)

    def kill(self, number: int) -> None:
        """End a program of its."""
        self._time(number, lambda: self._runner.kill(self._number))
        self.starter.kill(number)

    def _child(self, number: int, pid: int) -> None:
        self._stop_timer(number)
        if pid:
            self._runner.kill(self._number, child=pid)
            self._time(number, lambda: self.kill(number))

    def _time(self, number: int, call: Callable[[], None]) -> None:
        def over() -> None:
            del self._timers[number]
            call()

        self._stop_timer(number)
        self._timers[number] = self._runner.reactor.callLater(PATIENCE, over)

    def _stop_timer(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _lost(self) -> None:
        """It has ended, or is about to; the spawner will say how."""
        self._forget()

    def ended(self, status: int, report: str) -> None:
        """The spawner has reaped it: it could not become what it was to be, or somebody has ended it."""
        self._end()
        if report:
            self.starter.fail(status, report)
        else:
            self.starter.give_up("the program starter has ended")

    def give_up(self, why: str) -> None:
        """The spawner has ended."""
        self._end()
        self.starter.give_up(why)

    def close(self) -> None:
        """It has nothing to do."""
        self._end()
        self.starter.close()

    def _end(self) -> None:
        for number in list(self._timers):
            self._stop_timer(number)
        self._forget()
