"""A process that delivers to mailboxes, one message after the other, for one identity.

It is a child of the spawner that has taken on the identity for good and then waits on descriptor 0, a stream socket,
for work: starting a process for each message would cost several times what the delivery does.  All numbers are 32 bits.

    in      length, JSON [task, spec]; then the message: chunks of length, bytes; a chunk of no bytes ends it
    out     length, JSON answer; length, bytes that the task has read

A message whose end does not come (the gateway went away, or could not read it) is not kept, and the process ends with
the socket.  transports.workers is the other side; standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from transports import mailbox

Task = Callable[[dict[str, Any], mailbox.Source, mailbox.Sink], dict[str, Any]]

TASKS: dict[str, Task] = {
    "mbox": mailbox.append_mbox,
    "maildir": mailbox.deliver_maildir,
    "read": mailbox.read_file,
}
"""What a child can do without another program."""

_NUMBER = struct.Struct("!I")
_BUFFER = 65536


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

    def number(self) -> int:
        return int(_NUMBER.unpack(self.take(4))[0])

    def message(self) -> Iterator[bytes]:
        """The chunks of a message.  Raises mailbox.Refused if it is cut short."""
        try:
            while count := self.number():
                yield self.take(count)
        except Gone:
            raise mailbox.Refused("4.3.0", "the message was cut short") from None


def serve() -> None:
    """Do tasks until the socket is closed."""
    channel = socket.socket(fileno=0)
    stream = Stream(channel)
    try:
        while True:
            task, order = json.loads(stream.take(stream.number()))
            message = stream.message()
            read: list[bytes] = []
            answer = json.dumps(TASKS[task](order, message, read.append)).encode("ascii")
            for _ in message:  # what a task that failed has left
                pass
            data = b"".join(read)
            channel.sendall(b"".join((_NUMBER.pack(len(answer)), answer, _NUMBER.pack(len(data)), data)))
    except (Gone, mailbox.Refused, BrokenPipeError, ConnectionResetError):
        pass
