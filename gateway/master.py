"""The master role: binds the sockets as root, starts the other roles, and starts each again that dies.

    twistd (master, root) ── receiver × N   SMTP server and cleanup, as mail_owner, on shared listening sockets
                          ├─ scheduler      queue, DNS, SMTP client, as mail_owner
                          └─ executor       pipe, local, virtual, as root

It does nothing else, so that there is nothing in it to go wrong: no mail, no network input, no tables.  Each role is a
process of its own (gateway.role) with a Link to the master; when the master goes, the roles see it break, and end.

reload: the new configuration is checked by the caller; new roles are started with it, and when they are ready the old
ones are told to retire: they take no more work, end what they have begun, and go.  The old scheduler lets go of the
queue but for the messages that it is delivering, and says which these are ("holds"); then the new one is started, which
leaves them alone until it hears that they are free ("freed").  Each role is handed the configuration's text, so that
one which is started again does not take up what somebody is about to write into the files.

restart: another master takes this one's place in the same process (gateway.succession).  The roles are its children
still; to it they are the old ones of a reload.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
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
RESTARTED = "restart finished -- the new processes are at work"

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

    def __init__(self, plan: Plan, reactor: Any, master: Master) -> None:
        self.plan = plan
        self.ended: Deferred[None] = Deferred()
        self.pid = 0
        self.ready = False
        self.retired = False
        """It has been replaced; it may still have to be told."""
        self.holds: set[str] | None = None
        """Of a scheduler that has let go of the queue: messages that it is still delivering."""
        self.started = reactor.seconds()
        self._reactor = reactor
        self._master = master
        self.link = Link(
            reactor, {},
            {"request": master.requested, "ready": self._is_ready, "holds": self._has_let_go, "freed": self._has_freed},
        )

    def spawn(self, configuration: Configuration, files: Mapping[str, Any]) -> None:
        """Start the process.  ``files``: what it gets besides the plan's sockets."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self._take_link(ours.fileno())
        ours.close()
        text = text_file(configuration.texts)
        descriptors: dict[int, Any] = {1: 1, 2: 2, LINK_DESCRIPTOR: theirs.fileno(), CONFIGURATION_DESCRIPTOR: text}
        names = []
        for number, (name, one) in enumerate({**self.plan.sockets, **files}.items(), FIRST_SOCKET):
            descriptors[number] = one if isinstance(one, int) else one.fileno()
            names.append(f"{name}={number}")
        null = os.open(os.devnull, os.O_RDONLY)
        descriptors[0] = null
        try:
            command = [sys.executable, "-m", "gateway.role", self.plan.role, str(configuration.directory), *names]
            process = self._reactor.spawnProcess(
                self, sys.executable, command, env=role_environment(), childFDs=descriptors
            )
            self.pid = process.pid
        finally:
            os.close(null)
            os.close(text)
            theirs.close()

    def inherit(self, kept: dict[str, Any]) -> None:
        """It runs already: a master before us in this process has started it, and described it (see describe)."""
        self.pid, self.ready, self.retired = kept["pid"], kept["ready"], True
        self.holds = None if kept["holds"] is None else set(kept["holds"])
        self._take_link(kept["link"])
        os.close(kept["link"])
        self.link.dataReceived(bytes.fromhex(kept["unread"]))
        registerReapProcessHandler(self.pid, self)

    def describe(self) -> dict[str, Any]:
        """For inherit().  The link's descriptor stays open beyond exec."""
        link = self.link.transport.fileno()  # type: ignore[union-attr]
        os.set_inheritable(link, True)
        return {
            "role": self.plan.role, "number": self.plan.number, "pid": self.pid, "ready": self.ready,
            "holds": None if self.holds is None else list(self.holds),
            "link": link, "unread": self.link.unread.hex(),
        }

    def _take_link(self, descriptor: int) -> None:
        factory = Factory.forProtocol(lambda: self.link)
        factory.noisy = False
        self._reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)

    def _is_ready(self, ignored: object) -> None:
        self.ready = True
        self._master.look_whether_ready()

    def _has_let_go(self, ids: list[str]) -> None:
        self.holds = set(ids)
        self._master.let_go()

    def _has_freed(self, freed: list[tuple[str, str | None]]) -> None:
        if self.holds is not None:
            self.holds.difference_update(queue_id for queue_id, _ in freed)
        self._master.tell_scheduler("freed", freed)

    def reapProcess(self) -> None:
        """Called by Twisted when a child has ended; which one is to be found out."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            unregisterReapProcessHandler(self.pid, self)
            self._gone(f"status {status}")

    def processEnded(self, reason: Failure | int) -> None:
        self._gone(reason.getErrorMessage() if isinstance(reason, Failure) else f"status {reason}")

    def _gone(self, how: str) -> None:
        self.pid = 0
        self._master.ended(self, how)
        self.ended.callback(None)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


def text_file(value: Any) -> int:
    """A file without a name that holds a configuration's texts (see read_text_file) or another JSON value."""
    descriptor = os.memfd_create("configuration")
    with open(descriptor, "w", closefd=False) as file:
        json.dump(value, file)
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
    """Keeps the planned roles running.  ``on_request`` takes "reload", "restart" and "stop" that come from a role (an
    administrator's command reaches the scheduler's control socket); ``inherited``: roles that run already, of a master
    whose place this one takes."""

    def __init__(
        self, reactor: Any, log: Log, on_request: Callable[[str], None], inherited: Sequence[dict[str, Any]] = ()
    ) -> None:
        self._reactor = reactor
        self._log = log
        self.requested = on_request
        self._running: list[RoleProcess] = []
        self._plans: list[Plan] = []
        self._configuration: Configuration | None = None
        self._failures: dict[str, int] = {}
        self._pending: dict[str, IDelayedCall] = {}
        self._stopping = False
        self._outgoing: list[RoleProcess] = []
        """Replaced, and at work until the new ones are ready."""
        self._finished: list[str] = [RESTARTED] if inherited else []
        """What to say when all new ones are ready."""
        for kept in inherited:
            one = RoleProcess(Plan(kept["role"], kept["number"]), reactor, self)
            self._running.append(one)
            self._outgoing.append(one)
            one.inherit(kept)

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
        self._outgoing += old
        if old and RELOADED not in self._finished:
            self._finished.append(RELOADED)
        for plan in self._plans:
            if plan.role == "scheduler":
                self.let_go()
            else:
                self._spawn(plan)

    def describe(self) -> list[dict[str, Any]]:
        """The roles that run, for another master in this process."""
        return [one.describe() for one in self._running]

    def look_whether_ready(self) -> None:
        """When all new roles can work, the old ones need not."""
        ready = {one.plan.title for one in self._running if one.ready and not one.retired}
        if ready >= {plan.title for plan in self._plans if plan.role != "scheduler"}:
            outgoing, self._outgoing = self._outgoing, []
            for one in outgoing:
                one.link.note("retire", None)
        if self._finished and ready >= {plan.title for plan in self._plans}:
            for what in self._finished:
                self._log.info("master", what)
            self._finished.clear()

    def let_go(self) -> None:
        """Start the scheduler, unless there is one or another one still has the queue."""
        schedulers = [one for one in self._running if one.plan.role == "scheduler"]
        if any(not one.retired or one.holds is None for one in schedulers):
            return
        for plan in self._plans:
            if plan.role == "scheduler" and plan.title not in self._pending:
                self._spawn(plan)

    def _spawn(self, plan: Plan) -> None:
        self._pending.pop(plan.title, None)
        if self._stopping or self._configuration is None:
            return
        process = RoleProcess(plan, self._reactor, self)
        if plan.role != "scheduler":
            self._running.append(process)
            process.spawn(self._configuration, {})
            return
        held = text_file([queue_id for one in self._running for queue_id in one.holds or ()])
        self._running.append(process)
        try:
            process.spawn(self._configuration, {"held": held})
        finally:
            os.close(held)

    def ended(self, process: RoleProcess, how: str) -> None:
        """A role's process is gone."""
        self._running.remove(process)
        plan = process.plan
        if self._stopping:
            return
        if process.retired:
            if process in self._outgoing:
                self._outgoing.remove(process)
            if process.holds:
                self.tell_scheduler("freed", [(queue_id, None) for queue_id in process.holds])
            self.let_go()
            return
        self._log.warning("master", f"process {plan.title} ended: {how}")
        lived = self._reactor.seconds() - process.started
        failures = 0 if lived > QUIET_AFTER else self._failures.get(plan.title, 0)
        self._failures[plan.title] = failures + 1
        pause = RESTART_PAUSES[min(failures, len(RESTART_PAUSES) - 1)]
        self._pending[plan.title] = self._reactor.callLater(pause, self._spawn, plan)

    def tell_scheduler(self, name: str, value: Any) -> None:
        """A note to the scheduler that is in charge."""
        for one in self._running:
            if one.plan.role == "scheduler" and not one.retired:
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
            one.kill()
