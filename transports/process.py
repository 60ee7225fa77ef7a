"""The only place that starts programs.

    runner = Runner(reactor) outcome = await runner.run(Command(argv=["/usr/bin/uux", …], identity=Identity(10, 10),
    stdin=blocks, time_limit=1000.0))

A program is started by a small process of its own (transports.spawner), so that it costs the same however large the
gateway is; it gets an argument list, an environment built from nothing, descriptors 0, 1, 2, a session of its own,
exactly the rights of its identity, umask 077, and a working directory.  ``stdin`` is an iterable of blocks, taken one
by one as the program reads them.  Of its output (1 and 2 together) ``output_limit`` bytes are kept; the rest is read
and dropped.  When ``time_limit`` is over, or reading ``stdin``'s source fails, the whole process group is killed.

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
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor, IReadWriteDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from transports import spawner
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


@implementer(IReadWriteDescriptor)
class Runner:
    """Starts programs.  ``reactor``: IReactorFDSet and IReactorTime.  The spawner is started with the first of them,
    and again if it has ended."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: dict[int, Job] = {}
        self._workers = Workers(self)
        self._last = 0
        self._unsent: deque[tuple[bytes, list[int]]] = deque()

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
        """End the spawner; programs that still run are killed and reported as given up."""
        self._workers.close()
        if self._control is not None:
            self._lost()

    def kill(self, number: int) -> None:
        self._send({"kill": number}, [])

    # --- starting ------------------------------------------------------------------------------------------------

    def launch(self, identity: Identity, order: dict[str, Any], descriptors: list[int], job: Job) -> int:
        """Have the spawner start what ``order`` says; the descriptors are closed here once it has them.  The number of
        the job, which will be told of its end."""
        self._ensure_spawner()
        self._last += 1
        self._jobs[self._last] = job
        self._send({"job": self._last, "uid": identity.uid, "gid": identity.gid, **order}, descriptors)
        return self._last

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
        order = {
            "task": "command", "base": command.base, "directory": command.directory, "chroot": command.chroot,
            "argv": command.argv, "env": command.environment, "shell": command.shell,
        }
        stdin, feed = os.pipe2(os.O_CLOEXEC)
        try:
            output, writer = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(stdin)
            os.close(feed)
            raise
        os.set_blocking(feed, False)
        os.set_blocking(output, False)
        job = _Job(self, command, feed, output)
        job.number = self.launch(command.identity, order, [stdin, writer], job)
        job.begin()
        return job.done

    def _ensure_spawner(self) -> None:
        if self._control is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
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
        self._control = ours
        self.reactor.addReader(self)

    def _send(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Hand an order over; the descriptors are closed here once it has gone."""
        packet = json.dumps(order).encode("ascii")
        if len(packet) > spawner.LIMIT:
            file = os.memfd_create("order")
            descriptors.append(file)
            with open(os.dup(file), "wb") as stream:
                stream.write(packet)
            packet = json.dumps({"job": order["job"], "in_file": True}).encode("ascii")
        self._unsent.append((packet, descriptors))
        if len(self._unsent) == 1:
            self.doWrite()

    def doWrite(self) -> None:
        """The control socket takes packets again."""
        while self._unsent and self._control is not None:
            packet, descriptors = self._unsent[0]
            try:
                if descriptors:
                    socket.send_fds(self._control, [packet], descriptors)
                else:
                    self._control.send(packet)
            except BlockingIOError:
                self.reactor.addWriter(self)
                return
            except OSError:
                self._lost()
                return
            self._unsent.popleft()
            _close(descriptors)
        if self._control is not None:
            self.reactor.removeWriter(self)

    # --- answers -----------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._control.fileno() if self._control is not None else -1

    def doRead(self) -> None:
        """The spawner says that jobs have ended."""
        while self._control is not None:
            try:
                packet = self._control.recv(spawner.LIMIT * 2)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            answer = json.loads(packet)
            job = self._jobs.pop(answer["job"], None)
            if job is not None:
                job.ended(answer["status"], answer["report"])

    def connectionLost(self, reason: Failure) -> None:
        self._lost()

    def logPrefix(self) -> str:
        return "program starter"

    def _lost(self) -> None:
        if self._control is not None:
            self.reactor.removeReader(self)
            self.reactor.removeWriter(self)
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.poll()
        for _, descriptors in self._unsent:
            _close(descriptors)
        self._unsent.clear()
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.give_up("the program starter has ended")


class Job(Protocol):
    """Something that the spawner has started."""

    def ended(self, status: int, report: str) -> None:
        """It has been reaped."""

    def give_up(self, why: str) -> None:
        """Nothing more will be heard of it."""


class _Job:
    """A program that runs."""

    number = 0

    def __init__(self, runner: Runner, command: Command, feed: int, output: int) -> None:
        self.done: Deferred[Outcome] = Deferred()
        self._runner = runner
        self._feeder = _Feeder(self, runner.reactor, feed, iter(command.stdin))
        self._output = _Output(self, runner.reactor, output, command.output_limit)
        self._limit = command.time_limit
        self._timer: Any = None
        self._outcome: Outcome | None = None
        self._trouble: Outcome | None = None

    def begin(self) -> None:
        reactor = self._runner.reactor
        reactor.addReader(self._output)
        if self._limit is not None:
            self._timer = reactor.callLater(self._limit, self._time_is_over)
        self._feeder.doWrite()

    def _time_is_over(self) -> None:
        self._timer = None
        self._kill(Outcome(Ending.TIMED_OUT))

    def abandon(self, why: str) -> None:
        """Its input cannot be read."""
        self._kill(Outcome(Ending.GIVEN_UP, text=why))

    def _kill(self, why: Outcome) -> None:
        self._trouble = self._trouble or why
        self._runner.kill(self.number)

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
            self._timer = self._runner.reactor.callLater(GRACE, self._enough)

    def give_up(self, why: str) -> None:
        self._outcome = Outcome(Ending.GIVEN_UP, text=why)
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
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            if self._registered:
                self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1
            self._blocks = iter(())

    def connectionLost(self, reason: Failure) -> None:
        self.close()

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
        self.close()

    def logPrefix(self) -> str:
        return "program output"


def _check(command: Command) -> None:
    words = [*command.argv, *command.environment, *command.environment.values(), command.directory, command.shell]
    if any("\0" in word for word in words):
        raise ValueError("an argument holds a NUL byte")
    if not (command.argv and command.argv[0]):
        raise ValueError("the command is empty")


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
