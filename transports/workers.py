"""Processes that deliver to mailboxes, kept while there is work for the same identity: this end of transports.worker.

A worker is started by the spawner like a program, takes on one identity for good, and does one task at a time.  When
it has done one it waits a while for the next of the same identity; one of root's that has read a file ends, as it may
have laid down its rights.  One that takes longer than a task may is killed; one whose message cannot be read on sees
its input end, and takes back what it has written.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from transports.process import Command, Identity, Runner

IDLE_TIME = 10.0
"""Seconds that a worker waits for more."""
MOST_IDLE = 10
"""Workers of one identity that may wait."""
_NUMBER = struct.Struct("!I")
_BLOCK = 65536
_AGAIN = ("mbox", "maildir")
"""Tasks after which root's process is what it was."""

Answered = Callable[[dict[str, Any], bytes], None]
"""Called with a task's answer and what it has read."""
Failed = Callable[[str, str], None]
"""Called with what the process was about to do ("" if it had begun), and why there is no answer."""


class Workers:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._idle: dict[Identity, list[Worker]] = {}
        self._sweep: Any = None

    def run(self, command: Command, answered: Answered, failed: Failed) -> None:
        """Have a task done.  Raises OSError if no process can be had."""
        idle = self._idle.get(command.identity)
        worker = idle.pop() if idle else self._start(command)
        worker.run(command, answered, failed)

    def _start(self, command: Command) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = Worker(self, self._runner, ours, command.identity)
        order = {"task": "serve", "base": command.base, "directory": command.directory, "chroot": "", "spec": {}}
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        worker.number = self._runner.launch(command.identity, order, [theirs.detach(), output], worker)
        self._runner.reactor.addReader(worker)
        return worker

    def put_back(self, worker: Worker) -> None:
        """It has nothing to do."""
        idle = self._idle.setdefault(worker.identity, [])
        if worker.changed or len(idle) >= MOST_IDLE:
            worker.close()
            return
        reactor = self._runner.reactor
        worker.idle_since = reactor.seconds()
        idle.append(worker)
        if self._sweep is None:
            self._sweep = reactor.callLater(IDLE_TIME, self._end_idle)

    def forget(self, worker: Worker) -> None:
        idle = self._idle.get(worker.identity, [])
        if worker in idle:
            idle.remove(worker)

    def close(self) -> None:
        """End those that wait."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        idle, self._idle = self._idle, {}
        for workers in idle.values():
            for worker in workers:
                worker.close()

    def _end_idle(self) -> None:
        self._sweep = None
        reactor = self._runner.reactor
        for identity, workers in list(self._idle.items()):
            for worker in [each for each in workers if reactor.seconds() - each.idle_since >= IDLE_TIME]:
                worker.close()
                workers.remove(worker)
            if not workers:
                del self._idle[identity]
        if self._idle:
            self._sweep = reactor.callLater(IDLE_TIME, self._end_idle)


@implementer(IReadWriteDescriptor)
class Worker:
    """One process.  ``number``: as the spawner knows it."""

    number = 0
    changed = False
    """Whether its task may have laid down its rights for good."""
    idle_since = 0.0

    def __init__(self, workers: Workers, runner: Runner, channel: socket.socket, identity: Identity) -> None:
        self.identity = identity
        self._workers = workers
        self._runner = runner
        self._channel: socket.socket | None = channel
        self._answered: Answered | None = None
        self._failed: Failed | None = None
        self._timer: Any = None
        self._frames: Iterator[bytes] = iter(())
        self._unsent = memoryview(b"")
        self._writing = False
        self._trouble = ""
        self._received = bytearray()

    def run(self, command: Command, answered: Answered, failed: Failed) -> None:
        self._answered, self._failed = answered, failed
        self.changed = self.identity.uid == 0 and command.task not in _AGAIN
        self._frames = frames(command)
        if command.time_limit is not None:
            self._timer = self._runner.reactor.callLater(command.time_limit, self._time_is_over)
        self.doWrite()

    def _time_is_over(self) -> None:
        self._timer = None
        self._runner.kill(self.number)
        self._give_up("", "it took too long")

    def doWrite(self) -> None:
        """The process takes more of the message."""
        while self._channel is not None and (self._unsent or self._more()):
            try:
                self._unsent = self._unsent[self._channel.send(self._unsent) :]
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._runner.reactor.addWriter(self)
                return
            except OSError:
                break  # it has ended; the spawner will say how
        self._stop_writing()

    def _more(self) -> bool:
        """Take the next frames, about a block; False: that was all."""
        gathered = bytearray()
        try:
            for frame in self._frames:
                gathered += frame
                if len(gathered) >= _BLOCK:
                    break
        except Exception as error:  # whatever the message's store raises
            self._trouble = f"cannot read the message: {error}"
            self._end_input()
            return False
        self._unsent = memoryview(gathered)
        return bool(gathered)

    def _end_input(self) -> None:
        """It will take back what it has written, and say so."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)

    def _stop_writing(self) -> None:
        self._frames, self._unsent = iter(()), memoryview(b"")
        if self._writing:
            self._writing = False
            self._runner.reactor.removeWriter(self)

    def doRead(self) -> None:
        """Its answer, or its end."""
        assert self._channel is not None
        try:
            data = self._channel.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # what became of it, the spawner will say
            self._workers.forget(self)
            self.close()
            return
        self._received += data
        parts = _parts(self._received)
        if parts is None:
            return
        self._received.clear()
        if self._trouble:
            self._give_up("", self._trouble)
            return
        told = self._answered
        self._done()
        self._workers.put_back(self)
        if told is not None:
            told(json.loads(parts[0]), parts[1])

    def ended(self, status: int, report: str) -> None:
        """The spawner has reaped it."""
        told = json.loads(report) if report else {}
        stage = told.get("stage", "")
        self._give_up("" if stage == "serve" else stage, told.get("text") or _how(status))

    def give_up(self, why: str) -> None:
        """The spawner has ended."""
        self._give_up("", why)

    def _give_up(self, stage: str, why: str) -> None:
        self._workers.forget(self)
        self.close()
        told = self._failed
        self._done()
        if told is not None:
            told(stage, why)

    def _done(self) -> None:
        self._answered = self._failed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """End it, if it is idle; it sees the end of its input."""
        self._stop_writing()
        if self._channel is not None:
            self._runner.reactor.removeReader(self)
            self._channel.close()
            self._channel = None

    def fileno(self) -> int:
        return self._channel.fileno() if self._channel is not None else -1

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def logPrefix(self) -> str:
        return "mailbox writer"


def frames(command: Command) -> Iterator[bytes]:
    """What is sent: the task, and the message in chunks."""
    order = json.dumps([command.task, command.spec]).encode("ascii")
    yield _NUMBER.pack(len(order)) + order
    for block in command.stdin:
        for at in range(0, len(block), _BLOCK):
            chunk = block[at : at + _BLOCK]
            yield _NUMBER.pack(len(chunk)) + chunk
    yield _NUMBER.pack(0)


def _parts(data: bytearray) -> list[bytes] | None:
    """Answer, and what was read; None: it is not all there yet."""
    parts = []
    at = 0
    for _ in range(2):
        if len(data) < at + _NUMBER.size:
            return None
        begin = at + _NUMBER.size
        at = begin + int(_NUMBER.unpack_from(data, at)[0])
        if len(data) < at:
            return None
        parts.append(bytes(data[begin:at]))
    return parts


def _how(status: int) -> str:
    return f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "it ended before it was done"

