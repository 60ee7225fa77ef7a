"""A process that delivers to mailboxes for one identity, a batch of messages after the other.

It is a child of the spawner that has taken on the identity for good and then waits on descriptor 0, a stream socket,
for work: starting a process for each message would cost several times what the delivery does, and what is forced to
disk together costs little more than one message alone.  All numbers are 32 bits.

    in      length, JSON [[kind, spec], …]; then for each the message: chunks of length, bytes; no bytes end it
    out     length, JSON [[number in the batch, answer], …]; for each of these length, bytes that the task has read

All of a batch is answered before the next is taken, but what has to wait for a lock is answered after the rest.  A
batch of one is done while its message comes, however large it is; larger batches are taken in first.  A message whose
end does not come (the gateway went away, or could not read it) is not kept, and the process ends with the socket.

Nothing that users control runs in here, and a process that has changed its identity can be neither traced nor looked
into by others of that identity (the kernel clears its "dumpable" mark); they can stop or end it, which delays their own
mail.  It has no descriptors but the socket, the spawner's report, and /dev/null.

transports.workers is the other side; standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence

from transports import mailbox, maildir
from transports.tasks import Refused, Task
from transports.userfiles import read_file

_NUMBER = struct.Struct("!I")
_BUFFER = 262144


class Gone(Exception):
    """The gateway has closed the socket."""


class Stream:
    """The socket as a stream to be read in exact amounts."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._data = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Raises Gone."""
        while len(self._data) - self._at < count:
            more = self._channel.recv(_BUFFER)
            if not more:
                raise Gone
            self._data = self._data[self._at :] + more
            self._at = 0
        begin = self._at
        self._at += count
        return self._data[begin : self._at]

    def is_open(self) -> bool:
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def number(self) -> int:
        return int(_NUMBER.unpack(self.take(4))[0])

    def message(self) -> Iterator[bytes]:
        """The chunks of a message.  Raises Refused if it is cut short."""
        try:
            while count := self.number():
                yield self.take(count)
        except Gone:
            raise Refused("4.3.0", "the message was cut short") from None


def serve() -> None:
    """Do tasks until the socket is closed."""
    channel = socket.socket(fileno=0)
    stream = Stream(channel)
    try:
        while True:
            tasks = [Task(kind, spec) for kind, spec in json.loads(stream.take(stream.number()))]
            messages = [stream.message() for _ in tasks]
            if len(tasks) == 1:
                tasks[0].message = messages[0]
            else:
                for task, message in zip(tasks, messages, strict=True):
                    task.message = list(message)
            for done in do(tasks, stream.is_open):
                for _ in messages[0]:  # what a task that failed has left
                    pass
                channel.sendall(_answers(tasks, done))
    except (Gone, Refused, BrokenPipeError, ConnectionResetError):
        pass


def do(tasks: Sequence[Task], may_wait: Callable[[], bool] = lambda: True) -> Iterator[list[Task]]:
    """Do a batch; gives those that are done, what has to wait for a lock last.  That is left alone once ``may_wait``
    says no: nobody would hear of it."""
    boxes: dict[str, list[Task]] = {}
    told: set[int] = set()
    for task in tasks:
        if task.kind == "mbox":
            boxes.setdefault(json.dumps(task.spec), []).append(task)
        elif task.kind == "read":
            task.answer = read_file(task)
    if letters := [task for task in tasks if task.kind == "maildir"]:
        maildir.deliver(letters)
    waiting, attempt = list(boxes.values()), 0
    while True:
        attempt += 1
        waiting = [box for box in waiting if not mailbox.append(box, last=attempt >= box[0].spec["attempts"])]
        if done := [task for task in tasks if task.answer and id(task) not in told]:
            told.update(map(id, done))
            yield done
        if not waiting:
            return
        time.sleep(waiting[0][0].spec["delay"])
        if not may_wait():
            return


def _answers(tasks: Sequence[Task], done: Sequence[Task]) -> bytes:
    numbers = {id(task): number for number, task in enumerate(tasks)}
    text = json.dumps([[numbers[id(task)], task.answer] for task in done]).encode("ascii")
    parts = [_NUMBER.pack(len(text)), text]
    for task in done:
        parts += [_NUMBER.pack(sum(map(len, task.data))), *task.data]
    return b"".join(parts)
