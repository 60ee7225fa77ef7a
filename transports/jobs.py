"""The loop of a process that starts others: transports.spawner and transports.launcher.

Descriptor 0 is one end of a SOCK_SEQPACKET pair.  A packet from the gateway is one JSON object:

    {"job": N, …}                with descriptors: standard input, output
    {"job": N, "in_file": true}  the same, the object being in a further descriptor (a long argument list)
    {"kill": N, …}               see the two

and the answer to every job is one packet ``{"job": N, "status": WAIT STATUS, "report": TEXT}`` when its process has
ended.  The report says why what was wanted could not be done, ``{"stage": …, "errno": …, "text": …}`` (so a program
that cannot be started is told from one that exits 1), or is "".  Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import Any

LIMIT = 100_000
"""Bytes of a packet; longer orders travel in a file."""
NOT_STARTED = 127
"""Exit status of a child that could not become what it was to be; the report says why."""

Order = dict[str, Any]


class Loop:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.numbers: dict[int, int] = {}
        """pid → number of the job."""
        self.pids: dict[int, int] = {}
        self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def start(self, order: Order, descriptors: list[int]) -> int:
        """The pid of a process that does it.  Raises Failed."""
        raise NotImplementedError

    def kill(self, order: Order) -> None:
        raise NotImplementedError

    def report_of(self, pid: int) -> str:
        """Asked for once it has ended."""
        return ""

    def run(self) -> None:
        """Until the gateway closes its end."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wakeup:
                    os.read(self._wakeup, 4096)
                    self._reap()
                elif not self._take():
                    return

    def _take(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, LIMIT + 1000, 3)
        except ConnectionError:
            return False
        if not packet:
            return False
        order = json.loads(packet)
        try:
            if "kill" in order:
                self.kill(order)
            else:
                self._start(order, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, order: Order, descriptors: list[int]) -> None:
        number = order["job"]
        try:
            if order.get("in_file"):
                order = json.loads(_contents(descriptors[-1]))
            pid = self.start(order, descriptors)
        except Failed as error:
            self.answer({"job": number, "status": NOT_STARTED << 8, "report": str(error)})
        else:
            self.numbers[pid] = number
            self.pids[number] = pid

    def _reap(self) -> None:
        while self.numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self.numbers:
                number = self.numbers.pop(pid)
                del self.pids[number]
                self.answer({"job": number, "status": status, "report": self.report_of(pid)})

    def answer(self, value: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(value).encode())
        except ConnectionError:
            pass  # the next read sees the end


class Failed(Exception):
    """Not started; the text is the report."""

    def __init__(self, stage: str, error: BaseException) -> None:
        number = error.errno if isinstance(error, OSError) else 0
        text = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        super().__init__(json.dumps({"stage": stage, "errno": number, "text": text}))


def kill_group(pid: int) -> None:
    """The process's group; before its setsid took effect, the process itself."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _contents(descriptor: int) -> bytes:
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()
