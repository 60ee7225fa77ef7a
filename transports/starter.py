"""The gateway's end of a process that starts others (transports.jobs): hands orders over, with descriptors, and tells
each job of its end.  Whatever comes while the socket is full waits.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from transports.jobs import LIMIT


class Job(Protocol):
    """Something that was started."""

    def ended(self, status: int, report: str) -> None:
        """It has been reaped."""

    def give_up(self, why: str) -> None:
        """Nothing more will be heard of it."""


@implementer(IReadWriteDescriptor)
class Starter:
    """``lost``: called when the other end has gone; ``child``: with the job and the process that a kill is about, if
    the other end leaves it to somebody with more rights (transports.launcher)."""

    def __init__(
        self, reactor: Any, control: socket.socket, lost: Callable[[], None],
        child: Callable[[int, int], None] = lambda number, pid: None,
    ) -> None:
        control.setblocking(False)
        self._reactor = reactor
        self._control: socket.socket | None = control
        self._lost = lost
        self._child = child
        self._jobs: dict[int, Job] = {}
        self._last = 0
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        reactor.addReader(self)

    @property
    def is_busy(self) -> bool:
        return bool(self._jobs)

    def launch(self, order: dict[str, Any], descriptors: list[int], job: Job) -> int:
        """The descriptors are closed here once the other end has them.  The number of the job."""
        self._last += 1
        self._jobs[self._last] = job
        self._send({"job": self._last, **order}, descriptors)
        return self._last

    def kill(self, number: int, **more: int) -> None:
        self._send({"kill": number, **more}, [])

    def close(self) -> None:
        """The other end sees that it is not wanted any more."""
        if self._control is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._control.close()
            self._control = None
        for _, descriptors in self._unsent:
            _close(descriptors)
        self._unsent.clear()

    def give_up(self, why: str) -> None:
        """Close, and tell all jobs."""
        self.close()
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.give_up(why)

    def fail(self, status: int, report: str) -> None:
        """Close; the jobs have what has become of the other end."""
        self.close()
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.ended(status, report)

    def _send(self, order: dict[str, Any], descriptors: list[int]) -> None:
        packet = json.dumps(order).encode("ascii")
        if len(packet) > LIMIT:
            file = os.memfd_create("order")
            descriptors.append(file)
            with open(os.dup(file), "wb") as stream:
                stream.write(packet)
            packet = json.dumps({"job": order["job"], "in_file": True}).encode("ascii")
        self._unsent.append((packet, descriptors))
        if len(self._unsent) == 1:
            self.doWrite()

    def doWrite(self) -> None:
        """The socket takes packets again."""
        while self._unsent and self._control is not None:
            packet, descriptors = self._unsent[0]
            try:
                if descriptors:
                    socket.send_fds(self._control, [packet], descriptors)
                else:
                    self._control.send(packet)
            except BlockingIOError:
                self._reactor.addWriter(self)
                return
            except OSError:
                self._gone()
                return
            self._unsent.popleft()
            _close(descriptors)
        if self._control is not None:
            self._reactor.removeWriter(self)
        else:
            self.close()  # what came in the meantime

    def doRead(self) -> None:
        """Jobs have ended."""
        while self._control is not None:
            try:
                packet = self._control.recv(LIMIT * 2)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._gone()
                return
            answer = json.loads(packet)
            if "child" in answer:
                self._child(answer["job"], answer["child"])
            else:
                job = self._jobs.pop(answer["job"], None)
                if job is not None:
                    job.ended(answer["status"], answer["report"])

    def _gone(self) -> None:
        self.close()
        self._lost()

    def fileno(self) -> int:
        return self._control.fileno() if self._control is not None else -1

    def connectionLost(self, reason: Failure) -> None:
        """So it seems: see for yourself.  The reactor may mean somebody who had the same descriptor a moment ago."""
        if self._control is not None:
            self._reactor.addReader(self)
            self.doWrite()
            self.doRead()

    def logPrefix(self) -> str:
        return "program starter"


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
