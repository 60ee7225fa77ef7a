"""The master role: binds the sockets as root, starts the other roles, and starts each again that dies.

    twistd (master, root) ── receiver × N   SMTP server and cleanup, as mail_owner, on shared listening sockets
                          ├─ scheduler      queue, DNS, SMTP client, as mail_owner
                          └─ executor       pipe, local, virtual, as root

It does nothing else, so that there is nothing in it to go wrong: no mail, no network input, no tables.  Each role is a
process of its own (gateway.role) with a Link to the master; when the master goes, the roles see it break, and end.

reload: the new configuration is checked by the caller; new roles are started with it, and when they are ready the old
ones are told to retire: they take no more work, end what they have begun, and go.  Only then comes the new scheduler,
for two must not hold the queue at once.  Each role is handed the configuration's text, so that one which is started
again does not take up what somebody is about to write into the files.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from gateway.config import Configuration
from gateway.config.configuration import from_texts
from gateway.interfaces import Log
from gateway.link import Link

LINK_DESCRIPTOR = 3
CONFIGURATION_DESCRIPTOR = 4
FIRST_SOCKET = 5

RELOADED = "reload finished -- the new configuration is in use"

RESTART_PAUSES = (0.1, 0.5, 2.0, 5.0, 10.0)
QUIET_AFTER = 30.0  # a role that lived so long starts with the shortest pause again


@dataclass(slots=True)
class Plan:
    """Which role to run how: ``sockets`` (or other open files) by the names under which gateway.role knows them."""

    role: str
    number: int
    sockets: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.role} {self.number}" if self.role == "receiver" else self.role


class RoleProcess(ProcessProtocol):
    """One running role.  ``ended`` fires when the process is gone."""

    def __init__(self, plan: Plan, configuration: Configuration, reactor: Any, log: Log,
                 on_request: Callable[[str], None], on_ready: Callable[[], None],
                 on_end: Callable[[RoleProcess, str], None]) -> None:
        self.plan = plan
        self.ended: Deferred[None] = Deferred()
        self.ready = False
        self.retired = False
        """It has been replaced; it may still have to be told."""
        self._on_ready = on_ready
        self.started = reactor.seconds()
        self._log = log
        self._on_end = on_end
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        link = Link(reactor, {}, {"request": on_request, "ready": self._is_ready})
        self.link = link
        factory = Factory.forProtocol(lambda: link)
        factory.noisy = False
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        ours.close()
        text = text_file(configuration)
        descriptors: dict[int, Any] = {1: 1, 2: 2, LINK_DESCRIPTOR: theirs.fileno(), CONFIGURATION_DESCRIPTOR: text}
        names = []
        for number, (name, one) in enumerate(plan.sockets.items(), FIRST_SOCKET):
            descriptors[number] = one.fileno()
            names.append(f"{name}={number}")
        null = os.open(os.devnull, os.O_RDONLY)
        descriptors[0] = null
        try:
            command = [sys.executable, "-m", "gateway.role", plan.role, str(configuration.directory), *names]
            self.process = reactor.spawnProcess(
                self, sys.executable, command, env=role_environment(), childFDs=descriptors
            )
        finally:
            os.close(null)
            os.close(text)
            theirs.close()

    def _is_ready(self, ignored: object) -> None:
        self.ready = True
        self._on_ready()

    def processEnded(self, reason: Failure) -> None:
        self._on_end(self, reason.getErrorMessage())
        self.ended.callback(None)

    def kill(self, signal: str) -> None:
        if self.process.pid:
            self.process.signalProcess(signal)


def text_file(configuration: Configuration) -> int:
    """A file without a name that holds a configuration's texts; see read_text_file."""
    descriptor = os.memfd_create("configuration")
    with open(descriptor, "w", closefd=False) as file:
        json.dump(configuration.texts, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_text_file(descriptor: int, directory: Path) -> Configuration:
    """The configuration that the master has handed over."""
    with open(descriptor) as file:
        main, master = json.load(file)
    return from_texts(main, master, directory)


def role_environment() -> dict[str, str]:
    """What a role needs of our environment, and nothing that a caller may have left there."""
    kept = ("PATH", "TZ", "LANG", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Master:
    """Keeps the planned roles running.  ``on_request`` takes "reload" and "stop" that come from a role (an
    administrator's command reaches the scheduler's control socket)."""

    def __init__(self, reactor: Any, log: Log, on_request: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._log = log
        self._on_request = on_request
        self._running: list[RoleProcess] = []
        self._plans: list[Plan] = []
        self._configuration: Configuration | None = None
        self._failures: dict[str, int] = {}
        self._pending: dict[str, IDelayedCall] = {}
        self._stopping = False
        self._outgoing: list[RoleProcess] = []
        """Replaced, and at work until the new ones are ready."""
        self._reloading = False
        self._awaited: RoleProcess | None = None
        """The replaced scheduler, which must end before there is another one."""

    def start(self, configuration: Configuration, plans: Sequence[Plan]) -> None:
        """Start the roles of a configuration; those of an earlier one retire."""
        old = [one for one in self._running if not one.retired]
        self._configuration = configuration
        self._plans = list(plans)
        for call in self._pending.values():
            call.cancel()
        self._pending.clear()
        for one in old:
            one.retired = True
            if one.plan.role == "scheduler":
                self._awaited = one
        self._outgoing += old
        self._reloading = bool(old)
        for plan in self._plans:
            if not (self._awaited and plan.role == "scheduler"):
                self._spawn(plan)

    def _look_whether_ready(self) -> None:
        """When all new roles can work, the old ones need not."""
        ready = {one.plan.title for one in self._running if one.ready and not one.retired}
        if ready >= {plan.title for plan in self._plans if plan.role != "scheduler"}:
            outgoing, self._outgoing = self._outgoing, []
            for one in outgoing:
                one.link.note("retire", None)
        if self._reloading and ready >= {plan.title for plan in self._plans}:
            self._reloading = False
            self._log.info("master", RELOADED)

    def _spawn(self, plan: Plan) -> None:
        self._pending.pop(plan.title, None)
        if self._stopping or self._configuration is None:
            return
        self._running.append(
            RoleProcess(
                plan, self._configuration, self._reactor, self._log, self._on_request, self._look_whether_ready,
                self._ended,
            )
        )

    def _ended(self, process: RoleProcess, how: str) -> None:
        self._running.remove(process)
        plan = process.plan
        if self._stopping:
            return
        if process.retired:
            if process is self._awaited:
                self._awaited = None
                for planned in self._plans:
                    if planned.role == "scheduler":
                        self._spawn(planned)
            return
        self._log.warning("master", f"process {plan.title} ended: {how}")
        lived = self._reactor.seconds() - process.started
        failures = 0 if lived > QUIET_AFTER else self._failures.get(plan.title, 0)
        self._failures[plan.title] = failures + 1
        pause = RESTART_PAUSES[min(failures, len(RESTART_PAUSES) - 1)]
        self._pending[plan.title] = self._reactor.callLater(pause, self._spawn, plan)

    def tell(self, role: str, name: str, value: Any) -> None:
        """A note to every running process of a role."""
        for one in self._running:
            if one.plan.role == role:
                one.link.note(name, value)

    def stop(self, grace: float) -> Deferred[Any]:
        """Ask all to end; after ``grace`` seconds they are killed.  Fires when all are gone."""
        self._stopping = True
        for call in self._pending.values():
            call.cancel()
        running = list(self._running)
        for one in running:
            one.link.note("stop", grace)
        killer = self._reactor.callLater(grace, self._kill_all)
        gone = DeferredList([one.ended for one in running])
        gone.addCallback(lambda ignored: killer.active() and killer.cancel())
        return gone

    def _kill_all(self) -> None:
        for one in self._running:
            self._log.warning("master", f"process {one.plan.title} did not end in time: killed")
            one.kill("KILL")
