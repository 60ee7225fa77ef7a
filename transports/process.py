"""The only place that starts programs.

    runner = Runner(reactor)
    outcome = await runner.run(Command(["/usr/bin/uux", …], Identity(10, 10), stdin=blocks, time_limit=1000.0))

A program is started by small processes of our own (transports.spawner, transports.launcher), so that it costs the same
however large the gateway is; it gets an argument list, an environment built from nothing, descriptors 0, 1, 2, a
session of its own, exactly the rights of its identity, umask 077, and a working directory.  ``stdin`` is an iterable of
blocks, taken one by one as the program reads them; or ``file`` is its standard input itself, which is not cut off
whatever happens to us.  Of its output (1 and 2 together) ``output_limit`` bytes are kept; the rest is read and dropped.
When ``time_limit`` is over, or reading ``stdin``'s source fails, the whole process group is killed.

``run`` never raises for what a program does: the Outcome says whether it exited, died by a signal, ran out of time,
could not be started (and why), must not be (without root rights there is only the gateway's own identity), or was
given up.  What an exit status means is transports.verdict's affair.

A program that ended is done with even if a child of its own keeps the output open: that is waited for a second.
"""

from __future__ import annotations

import enum
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from transports import spawner
from transports.launchers import Launcher, Launchers
from transports.starter import Job, Starter
from transports.workers import Workers

OUTPUT_LIMIT = 4096
"""Bytes of a program's output that go into the log and into notifications: what Postfix keeps."""
GRACE = 1.0
"""Seconds that output is awaited after the program has ended."""
_PIPE = 65536
_START = "import sys; sys.path.insert(0, sys.argv[1]); from transports.spawner import main; main()"


@dataclass(slots=True, frozen=True)
class Identity:
    """Whose rights a program gets; no other groups than ``gid``."""

    uid: int
    gid: int


@dataclass(slots=True)
class Command:
    """What to run.  ``argv[0]`` is a path, or a name that is looked for in the environment's PATH."""

    argv: list[str]
    identity: Identity
    environment: dict[str, str] = field(default_factory=dict)
    base: str = "/"
    """Working directory, entered before the identity is taken on."""
    directory: str = ""
    """Working directory, entered with the identity's rights; "" = stay at the base."""
    chroot: str = ""
    stdin: Iterable[bytes] = ()
    time_limit: float | None = None
    output_limit: int = OUTPUT_LIMIT
    shell: str = ""
    """A shell command to run instead when ``argv[0]`` is a bare name that is not in PATH."""
    task: str = ""
    """Something that needs no program, done as that identity: see transports.worker.do; argv is empty then."""
    spec: dict[str, Any] = field(default_factory=dict)
    """The task's arguments."""
    file: IO[bytes] | None = None
    """In the place of ``stdin``; read from where it stands."""


class Ending(enum.Enum):
    EXITED = "exited"
    SIGNALED = "signaled"
    TIMED_OUT = "timed out"
    NOT_STARTED = "not started"
    NOT_ALLOWED = "not allowed"
    GIVEN_UP = "given up"


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    ending: Ending
    code: int = 0
    """Exit status, or number of the signal."""
    output: bytes = b""
    text: str = ""
    """NOT_STARTED, NOT_ALLOWED, GIVEN_UP: why."""
    answer: dict[str, Any] = field(default_factory=dict)
    """A task's answer."""
    started: float = 0.0
    """Clock seconds at which it was handed to the spawner."""


class Runner:
    """Starts programs.  ``reactor``: IReactorFDSet and IReactorTime.  The spawner is started with the first of them,
    and again if it has ended."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._spawner: Starter | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._workers = Workers(self)
        self._launchers = Launchers(self)

    async def run(self, command: Command) -> Outcome:
        """Run it to its end.  Never raises OSError: what cannot be started is NOT_STARTED."""
        started = self.reactor.seconds()
        if os.geteuid() not in (0, command.identity.uid):
            text = f"acting as uid {command.identity.uid} takes root rights, and the gateway is uid {os.geteuid()}"
            return Outcome(Ending.NOT_ALLOWED, text=text, started=started)
        try:
            job = self._task(command) if command.task else self._start(command)
        except (OSError, ValueError) as error:
            return Outcome(Ending.NOT_STARTED, text=str(error), started=started)
        outcome = await job
        outcome.started = started
        return outcome

    def close(self) -> None:
        """End what starts programs; those that still run are killed and reported as given up."""
        self._workers.close()
        if self._spawner is not None:
            self._lost()

    def launch(self, identity: Identity, order: dict[str, Any], descriptors: list[int], job: Job) -> int:
        """Have the spawner start a process of ours for an identity; the number of the job, which will be told of its
        end.  Raises OSError."""
        spawner = self._ensure_spawner()
        return spawner.launch({"uid": identity.uid, "gid": identity.gid, **order}, descriptors, job)

    def kill(self, number: int, **more: int) -> None:
        """End such a process; ``child``: or a program that it has started."""
        if self._spawner is not None:
            self._spawner.kill(number, **more)

    def _task(self, command: Command) -> Deferred[Outcome]:
        done: Deferred[Outcome] = Deferred()

        def answered(answer: dict[str, Any], data: bytes) -> None:
            done.callback(Outcome(Ending.EXITED, output=data, answer=answer))

        def failed(stage: str, why: str) -> None:
            outcome = Outcome(Ending.NOT_STARTED, text=f"cannot {stage}: {why}") if stage else Outcome(
                Ending.GIVEN_UP, text=why)
            done.callback(outcome)

        self._workers.run(command, answered, failed)
        return done

    def _start(self, command: Command) -> Deferred[Outcome]:
        _check(command)
        launcher = self._launchers.of(command)
        if command.file is not None:
            stdin, feed = os.dup(command.file.fileno()), -1
        else:
            stdin, feed = os.pipe2(os.O_CLOEXEC)
        try:
            output, writer = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(stdin)
            if feed >= 0:
                os.close(feed)
            raise
        if feed >= 0:
            os.set_blocking(feed, False)
        os.set_blocking(output, False)
        job = _Job(launcher, self.reactor, command, feed, output)
        job.number = launcher.launch(command, [stdin, writer], job)
        job.begin()
        return job.done

    def _ensure_spawner(self) -> Starter:
        if self._spawner is not None:
            return self._spawner
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(spawner.__file__).resolve().parent.parent)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, root],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd="/", env={}, start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._spawner = Starter(self.reactor, ours, self._lost)
        return self._spawner

    def _lost(self) -> None:
        lost, self._spawner = self._spawner, None
        if self._process is not None:
            self._process.poll()
        why = "the program starter has ended"
        self._launchers.close(why)
        if lost is not None:
            lost.give_up(why)


class _Job:
    """A program that runs."""

    number = 0

    def __init__(self, launcher: Launcher, reactor: Any, command: Command, feed: int, output: int) -> None:
        self.done: Deferred[Outcome] = Deferred()
        self._launcher = launcher
        self._reactor = reactor
        self._feeder = _Feeder(self, reactor, feed, iter(command.stdin))
        self._output = _Output(self, reactor, output, command.output_limit)
        self._limit = command.time_limit
        self._timer: Any = None
        self._outcome: Outcome | None = None
        self._trouble: Outcome | None = None

    def begin(self) -> None:
        self._reactor.addReader(self._output)
        if self._limit is not None:
            self._timer = self._reactor.callLater(self._limit, self._time_is_over)
        self._feeder.doWrite()

    def _time_is_over(self) -> None:
        self._timer = None
        self._kill(Outcome(Ending.TIMED_OUT))

    def abandon(self, why: str) -> None:
        """Its input cannot be read."""
        self._kill(Outcome(Ending.GIVEN_UP, text=why))

    def _kill(self, why: Outcome) -> None:
        self._trouble = self._trouble or why
        self._launcher.kill(self.number)

    def ended(self, status: int, report: str) -> None:
        """The spawner has reaped it."""
        if report:
            told = json.loads(report)
            self._outcome = Outcome(Ending.NOT_STARTED, text=f"cannot {told['stage']}: {told['text']}")
        elif self._trouble is not None:
            self._outcome = self._trouble
        elif os.WIFSIGNALED(status):
            self._outcome = Outcome(Ending.SIGNALED, os.WTERMSIG(status))
        else:
            self._outcome = Outcome(Ending.EXITED, os.WEXITSTATUS(status))
        self._feeder.close()
        self._stop_timer()
        self._output.doRead()
        if self._output.open:
            self._timer = self._reactor.callLater(GRACE, self._enough)

    def give_up(self, why: str) -> None:
        self._outcome = self._trouble or Outcome(Ending.GIVEN_UP, text=why)
        self._feeder.close()
        self._output.close()

    def _enough(self) -> None:
        self._timer = None
        self._output.close()

    def output_over(self) -> None:
        if self._outcome is not None and not self.done.called:
            self._stop_timer()
            self._outcome.output = bytes(self._output.kept)
            self.done.callback(self._outcome)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@implementer(IWriteDescriptor)
class _Feeder:
    """Writes a program's input, a block at a time, as fast as it is read."""

    def __init__(self, job: _Job, reactor: Any, descriptor: int, blocks: Iterator[bytes]) -> None:
        self._job = job
        self._reactor = reactor
        self._descriptor = descriptor
        self._blocks = blocks
        self._rest = memoryview(b"")
        self._registered = False

    def fileno(self) -> int:
        return self._descriptor

    def doWrite(self) -> None:
        try:
            while self._descriptor >= 0:
                if not self._rest:
                    block = next(self._blocks, None)
                    if block is None:
                        self.close()
                        return
                    self._rest = memoryview(block)
                    continue
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
        except BlockingIOError:
            if not self._registered:
                self._registered = True
                self._reactor.addWriter(self)
        except BrokenPipeError:
            self.close()  # it has read enough; its exit status tells
        except Exception as error:  # whatever the message's store raises
            self._job.abandon(f"cannot read the message: {error}")
            self._pause()  # not closed before it has ended: it must not take this for the end of the message

    def _pause(self) -> None:
        if self._registered:
            self._reactor.removeWriter(self)
            self._registered = False

    def close(self) -> None:
        if self._descriptor >= 0:
            self._pause()
            os.close(self._descriptor)
            self._descriptor = -1
            self._blocks = iter(())

    def connectionLost(self, reason: Failure) -> None:
        """So it seems: see for yourself.  The reactor may mean somebody who had the same descriptor a moment ago."""
        self._registered = False
        self.doWrite()

    def logPrefix(self) -> str:
        return "program input"


@implementer(IReadDescriptor)
class _Output:
    """Keeps the beginning of a program's output and drops the rest."""

    def __init__(self, job: _Job, reactor: Any, descriptor: int, limit: int) -> None:
        self._job = job
        self._reactor = reactor
        self._descriptor = descriptor
        self._limit = limit
        self.kept = bytearray()

    @property
    def open(self) -> bool:
        return self._descriptor >= 0

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> None:
        if self._descriptor < 0:
            self._job.output_over()
            return
        try:
            while data := os.read(self._descriptor, _PIPE):
                self.kept += data[: self._limit - len(self.kept)]
                if len(data) == _PIPE:
                    return  # others want their turn too
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1
        self._job.output_over()

    def connectionLost(self, reason: Failure) -> None:
        """See _Feeder."""
        self.doRead()
        if self.open:
            self._reactor.addReader(self)

    def logPrefix(self) -> str:
        return "program output"


def _check(command: Command) -> None:
    words = [*command.argv, *command.environment, *command.environment.values(), command.directory, command.shell]
    if any("\0" in word for word in words):
        raise ValueError("an argument holds a NUL byte")
    if not (command.argv and command.argv[0]):
        raise ValueError("the command is empty")

