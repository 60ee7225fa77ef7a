"""Processes that deliver to mailboxes, kept while there is work for the same identity: this end of transports.worker.

What is asked for waits in a line for its identity.  A worker that is free takes all that waits, as one batch: so the
more there is to do, the less each delivery costs.  One worker does for an identity, unless somebody has waited for
PATIENCE: then it is held up by a slow disk or a lock, and gets company.  No two of them have to do with one mbox at a
time: to meet at its lock would cost them a second.

A worker is started by the spawner, takes on one identity for good, and ends when it has had nothing to do for a
second: root's rights are changed for a run of deliveries to one user that are there to be made, for nothing else.  One
of root's that has read a file ends at once, as it may have laid down its rights.  One that takes longer than a task may
is killed; one whose message cannot be read on sees its input end, and takes back what it has written.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from transports.process import Command, Identity, Runner

IDLE_TIME = 1.0
"""Seconds that a worker waits for more."""
PATIENCE = 0.05
"""Seconds that a task waits for a worker that is busy."""
MOST = 20
"""Workers of one identity."""
BATCH = 64
"""Tasks in one batch."""
SMALL = 131072
"""Bytes of a message that may be one of a batch."""
_NUMBER = struct.Struct("!I")
_BLOCK = 65536
_AGAIN = ("mbox", "maildir")
"""Tasks after which root's process is what it was."""

Answered = Callable[[dict[str, Any], bytes], None]
"""Called with a task's answer and what it has read."""
Failed = Callable[[str, str], None]
"""Called with what the process was about to do ("" if it had begun), and why there is no answer."""


class Order:
    """A task that waits or is being done."""

    def __init__(self, command: Command, since: float, answered: Answered, failed: Failed) -> None:
        self.command = command
        self.since = since
        self.answered = answered
        self.failed = failed
        self.mbox = command.spec["path"] if command.task == "mbox" else None
        self.changes_rights = command.identity.uid == 0 and command.task not in _AGAIN
        self._blocks = iter(command.stdin)
        self._taken: list[bytes] = []
        self._size = 0

    def is_small(self) -> bool:
        """Whether the whole message is in memory now.  Raises whatever the message's store raises."""
        while self._size <= SMALL:
            block = next(self._blocks, None)
            if block is None:
                return True
            self._taken.append(block)
            self._size += len(block)
        return False

    def frames(self) -> Iterator[bytes]:
        """The message in chunks."""
        while (block := self._taken.pop(0) if self._taken else next(self._blocks, None)) is not None:
            for at in range(0, len(block), _BLOCK):
                chunk = block[at : at + _BLOCK]
                yield _NUMBER.pack(len(chunk)) + chunk
        yield _NUMBER.pack(0)


class Workers:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: dict[Identity, deque[Order]] = {}
        self._crews: dict[Identity, list[Worker]] = {}
        self._timers: dict[str, Any] = {}

    def run(self, command: Command, answered: Answered, failed: Failed) -> None:
        """Have a task done."""
        order = Order(command, self._runner.reactor.seconds(), answered, failed)
        self._waiting.setdefault(command.identity, deque()).append(order)
        self._later("dispatch", 0, self.dispatch)  # what else comes in this turn goes along

    def _later(self, name: str, pause: float, call: Callable[[], None]) -> None:
        def now() -> None:
            del self._timers[name]
            call()

        if name not in self._timers:
            self._timers[name] = self._runner.reactor.callLater(pause, now)

    def dispatch(self) -> None:
        """Hand out what waits to whoever is free."""
        for identity, waiting in list(self._waiting.items()):
            while waiting and self._is_anybody_free(identity, waiting[0]) and (batch := self._batch(waiting)):
                try:
                    worker = self._free_worker(batch[0].command)
                except OSError as error:
                    for order in batch:
                        order.failed("start a process", str(error))
                else:
                    worker.run(batch)
            if not waiting:
                self._waiting.pop(identity, None)
        if self._waiting:
            self._later("patience", PATIENCE, self.dispatch)

    def _is_anybody_free(self, identity: Identity, first: Order) -> bool:
        """Or may come."""
        crew = self._crews.get(identity, [])
        if not all(worker.orders for worker in crew) or not crew:
            return True
        return len(crew) < MOST and self._runner.reactor.seconds() - first.since >= PATIENCE

    def _batch(self, waiting: deque[Order]) -> list[Order]:
        """The next ones that may be done together, taken out of the line."""
        busy = {order.mbox for crew in self._crews.values() for worker in crew for order in worker.orders.values()}
        batch: list[Order] = []
        passed: list[Order] = []
        while waiting and len(batch) < BATCH:
            order = waiting.popleft()
            if order.mbox is not None and order.mbox in busy:
                passed.append(order)
                continue
            try:
                alone = order.changes_rights or not order.is_small()
            except Exception as error:  # whatever the message's store raises
                order.failed("", f"cannot read the message: {error}")
                continue
            if alone and batch:
                waiting.appendleft(order)
                break
            batch.append(order)
            if alone:
                break
        waiting.extendleft(reversed(passed))
        return batch

    def _free_worker(self, command: Command) -> Worker:
        """Raises OSError."""
        for worker in self._crews.get(command.identity, []):
            if not worker.orders:
                return worker
        worker = self._start(command)
        self._crews.setdefault(command.identity, []).append(worker)
        return worker

    def _start(self, command: Command) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = Worker(self, self._runner, ours, command.identity)
        order = {"task": "serve", "base": command.base, "directory": command.directory, "chroot": "", "spec": {}}
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        worker.number = self._runner.launch(command.identity, order, [theirs.detach(), output], worker)
        self._runner.reactor.addReader(worker)
        return worker

    def is_free(self, worker: Worker) -> None:
        """It has nothing to do."""
        if worker.changed:
            worker.close()
            self.forget(worker)
        else:
            worker.idle_since = self._runner.reactor.seconds()
            self._later("idle", IDLE_TIME, self._end_idle)

    def forget(self, worker: Worker) -> None:
        crew = self._crews.get(worker.identity, [])
        if worker in crew:
            crew.remove(worker)
        if not crew:
            self._crews.pop(worker.identity, None)

    def close(self) -> None:
        """End those that have nothing to do; nothing more is begun."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        waiting, self._waiting = self._waiting, {}
        for line in waiting.values():
            for order in line:
                order.failed("", "the program starter has ended")
        self._end(lambda worker: True)

    def _end_idle(self) -> None:
        now = self._runner.reactor.seconds()
        self._end(lambda worker: now - worker.idle_since >= IDLE_TIME)
        if any(not worker.orders for crew in self._crews.values() for worker in crew):
            self._later("idle", IDLE_TIME, self._end_idle)

    def _end(self, whom: Callable[[Worker], bool]) -> None:
        for crew in list(self._crews.values()):
            for worker in list(crew):
                if not worker.orders and whom(worker):
                    worker.close()
                    self.forget(worker)


@implementer(IReadWriteDescriptor)
class Worker:
    """One process.  ``number``: as the spawner knows it; ``orders``: what it is doing, by number in the batch."""

    number = 0
    changed = False
    """Whether its task may have laid down its rights for good."""
    idle_since = 0.0

    def __init__(self, workers: Workers, runner: Runner, channel: socket.socket, identity: Identity) -> None:
        self.identity = identity
        self.orders: dict[int, Order] = {}
        self._workers = workers
        self._runner = runner
        self._channel: socket.socket | None = channel
        self._timer: Any = None
        self._frames: Iterator[bytes] = iter(())
        self._unsent = memoryview(b"")
        self._writing = False
        self._trouble = ""
        self._received = bytearray()

    def run(self, batch: Sequence[Order]) -> None:
        self.orders = dict(enumerate(batch))
        self.changed = batch[0].changes_rights
        self._frames = _frames(batch)
        limits = [order.command.time_limit for order in batch if order.command.time_limit is not None]
        if limits:
            self._timer = self._runner.reactor.callLater(max(limits), self._time_is_over)
        self.doWrite()

    def _time_is_over(self) -> None:
        self._timer = None
        self._runner.kill(self.number)
        self._give_up("", "it took too long")

    def doWrite(self) -> None:
        """The process takes more of the messages."""
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
        """Answers, or its end."""
        if self._channel is None:
            return
        try:
            data = self._channel.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # what became of it, the spawner will say
            self.close()
            if not self.orders:
                self._workers.forget(self)
            return
        self._received += data
        while (answers := _answers(self._received)) is not None:
            if self._trouble:
                self._give_up("", self._trouble)
                return
            self._take(answers)

    def _take(self, answers: Sequence[tuple[int, dict[str, Any], bytes]]) -> None:
        done = [(self.orders.pop(number), answer, data) for number, answer, data in answers]
        if not self.orders:
            self._stop_timer()
            self._workers.is_free(self)
        for order, answer, data in done:
            order.answered(answer, data)
        self._workers.dispatch()

    def ended(self, status: int, report: str) -> None:
        """The spawner has reaped it."""
        told = json.loads(report) if report else {}
        stage = told.get("stage", "")
        self._give_up("" if stage == "serve" else stage, told.get("text") or _how(status))

    def give_up(self, why: str) -> None:
        """The spawner has ended."""
        self._give_up("", why)

    def _give_up(self, stage: str, why: str) -> None:
        self._stop_timer()
        self.close()
        orders, self.orders = self.orders, {}
        self._workers.forget(self)
        for order in orders.values():
            order.failed(stage, why)
        self._workers.dispatch()

    def _stop_timer(self) -> None:
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
        """So it seems: see for yourself.  The reactor may mean somebody who had the same descriptor a moment ago."""
        if self._channel is not None:
            self._runner.reactor.addReader(self)
            self._writing = False
            self.doWrite()
            self.doRead()

    def logPrefix(self) -> str:
        return "mailbox writer"


def _frames(batch: Sequence[Order]) -> Iterator[bytes]:
    """What is sent: the tasks, and their messages."""
    text = json.dumps([[order.command.task, order.command.spec] for order in batch]).encode("ascii")
    yield _NUMBER.pack(len(text)) + text
    for order in batch:
        yield from order.frames()


def _answers(data: bytearray) -> list[tuple[int, dict[str, Any], bytes]] | None:
    """The answers that stand first (number, answer, what was read), taken out; None: they are not all there yet."""
    text, at = _part(data, 0)
    if text is None:
        return None
    answers = []
    for number, answer in json.loads(text):
        read, at = _part(data, at)
        if read is None:
            return None
        answers.append((number, answer, read))
    del data[:at]
    return answers


def _part(data: bytearray, at: int) -> tuple[bytes | None, int]:
    """A length and that many bytes; and where they end."""
    begin = at + _NUMBER.size
    if len(data) < begin:
        return None, at
    end = begin + int(_NUMBER.unpack_from(data, at)[0])
    return (bytes(data[begin:end]), end) if len(data) >= end else (None, at)


def _how(status: int) -> str:
    return f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "it ended before it was done"
