"""What each role does with the parts: receiver, scheduler, executor, or all in one process.

A role is composed while it still has root's rights, started with the listening sockets it was given (by name:
"inet:ADDRESS@SERVICE", "control", "scheduler", "executor", "pickup"), and ends with ``retire``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from gateway import following
from gateway.administration import Administration
from gateway.capacity import capacity, complaint, raise_limit
from gateway.config import Configuration
from gateway.interfaces import Envelope
from gateway.link import LinkClient, LinkError, LinkServer
from gateway.log import MailLog
from gateway.parts import EXECUTED, Parts
from gateway.pickup import Pokes
from gateway.privileges import mail_owner
from gateway.scheduler.scheduler import HEARTBEAT, Scheduler
from gateway.smtpd.limits import Room
from gateway.smtpd.server import SmtpdFactory
from gateway.smtpd.service import FLUSHED, NOT_ELIGIBLE, UNABLE
from gateway.tables.databases.served import LOOK_UP, Served, elsewhere
from gateway.unix_port import UnixPort
from spool import format
from transports.executor import DELIVER, FORWARD, PASS, Executor, ForwardDoor, RemoteForwarder

ACCEPT_AT_ONCE = 8
"""Connections a turn: the sockets are shared, so that no receiver takes all; and those that are turned away have to be
closed before there are more, or descriptors run out."""
GIVE_WAY = 0.05
"""Seconds in which another process may take a connection before one that is full turns the client away."""
RETIRE_GRACE = 3600.0  # for SMTP sessions that a retiring receiver still has
PARTING = 5.0  # seconds in which a scheduler that retires, too, may still ask the executor for deliveries

STATUS_PATIENCE = 2.0  # seconds that a receiver has to say how busy it is

QUEUED, FLUSH_SITE, LOAD, SLOW = "queued", "flush-site", "load", "slow"
VERIFY, COUNTED, COUNTED_HERE = "verify", "counted", "counted-here"
PATIENCE_WITH_COUNTS = 1.0  # seconds that receivers have to say how often they have seen a client
SCHEDULER_SOCKET, EXECUTOR_SOCKET = "private/scheduler", "private/executor"

Request = Callable[[str], None]


class Role:
    """``master``: the link to the master, once there is one."""

    master: Any = None

    def __init__(self, configuration: Configuration, reactor: Any, log: MailLog) -> None:
        self.configuration = configuration
        self.reactor = reactor
        self.log = log
        self._ports: list[Any] = []

    def notes(self) -> dict[str, Callable[[Any], None]]:
        """What the master may tell this role."""
        return {}

    def start(self, descriptors: Mapping[str, int]) -> None:
        raise NotImplementedError

    def retire(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._retire())

    async def _retire(self) -> None:
        raise NotImplementedError

    def dismiss(self) -> None:
        """Send away whoever is connected and waits for nothing."""

    def listen(
        self, descriptor: int, family: int, factory: Factory[Any], is_full: Callable[[], bool] = lambda: False
    ) -> None:
        """Take connections from a socket that is bound already; when this process is full, after others had the time to
        take them."""
        if family == socket.AF_UNIX:
            unix = UnixPort(descriptor, factory, self.reactor)
            unix.startListening()
            self._ports.append(unix)
            return
        port = self.reactor.adoptStreamPort(descriptor, family, factory)
        port.doRead = Politeness(self.reactor, port, is_full).accept
        os.close(descriptor)
        self._ports.append(port)

    async def stop_listening(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopListening()

    def connect(self, path: str, client: LinkClient) -> None:
        self.reactor.connectUNIX(os.path.join(self.configuration.settings.text("queue_directory"), path), client)


class Politeness:
    """How a port that several processes share takes connections."""

    def __init__(self, reactor: Any, port: Any, is_full: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._port = port
        self._accept = port.doRead
        self._is_full = is_full
        self._has_waited = False

    def accept(self) -> None:
        if self._is_full() and not self._has_waited:
            self._has_waited = True
            self._port.stopReading()
            self._reactor.callLater(GIVE_WAY, self._go_on)
            return
        self._has_waited = False
        self._port.numberAccepts = ACCEPT_AT_ONCE  # it grows by itself
        self._accept()

    def _go_on(self) -> None:
        if self._port.connected:
            self._port.startReading()


class Receiver(Role):
    """The SMTP servers."""

    def __init__(self, configuration: Configuration, reactor: Any, log: MailLog) -> None:
        super().__init__(configuration, reactor, log)
        self.scheduler = LinkClient(
            reactor, calls={LOAD: self._load, COUNTED_HERE: self._counted}, notes={SLOW: self._slow_down}
        )
        self._relief: Any = None
        self.parts = Parts(
            configuration, reactor, log, notify=self._notify, flush_site=self._flush_site, verify=self._verify,
            receivers=len(os.sched_getaffinity(0)), together=self._together,
            elsewhere=elsewhere(self.scheduler.call, LinkError, reactor),
        )
        self.room = make_room(log)
        self.factories = self.parts.smtpd_factories(self.room)

    async def _load(self, ignored: object) -> dict[str, Any]:
        return load(self.room, self.factories)

    def _slow_down(self, pause: float) -> None:
        """Each new message waits.  Not for ever: the scheduler says it again, or has gone."""
        self.room.pause = pause
        if self._relief is not None and self._relief.active():
            self._relief.cancel()
        if pause:
            self._relief = self.reactor.callLater(2.5 * HEARTBEAT, self._slow_down, 0.0)

    def _notify(self, queue_id: str, envelope: Envelope, stored: bytes) -> None:
        self.scheduler.note_bytes(QUEUED, b"%b %b" % (queue_id.encode(), stored))

    async def _flush_site(self, site: str) -> str:
        return str(await self.scheduler.call(FLUSH_SITE, site))

    async def _verify(self, address: str) -> Sequence[str]:
        status, text = await self.scheduler.call(VERIFY, address)
        return str(status), str(text)

    async def _together(self, service: str, network: str, what: str) -> int:
        return int(await self.scheduler.call(COUNTED, [service, network, what]))

    async def _counted(self, value: Any) -> int:
        return self.parts.client_limits.counted(*value)

    def start(self, descriptors: Mapping[str, int]) -> None:
        self.parts.start()
        self.connect(SCHEDULER_SOCKET, self.scheduler)
        listen_for_smtp(self, descriptors, self.factories, self.room)

    async def _retire(self) -> None:
        await self.stop_listening()
        await drained(self.factories)
        await self.parts.stop()
        self.scheduler.close()

    def dismiss(self) -> None:
        for factory in self.factories.values():
            factory.dismiss()


class SchedulerRole(Role):
    """The queue, and everything that needs no rights: SMTP client, pickup, notices, administration."""

    def __init__(self, configuration: Configuration, reactor: Any, log: MailLog) -> None:
        super().__init__(configuration, reactor, log)
        raise_limit()
        self.executor = LinkClient(reactor, calls={FORWARD: self._forward, PASS: self._pass})
        self.parts = Parts(
            configuration, reactor, log, notify=self._notify, flush_site=self._flush_site, executor=self.executor
        )
        self.scheduler = self.parts.scheduler()
        self.served = Served(self.parts.tables, configuration)
        self._door = ForwardDoor(self.parts.forwarder)
        own = {one.name for one in configuration.services if one.command.rpartition("/")[2] not in EXECUTED}
        self._services = Executor({name: one for name, one in self.parts.transports.items() if name in own})
        self._in_flow_delay = self.parts.settings.seconds("in_flow_delay")
        self.scheduler.on_crowd = self._slow_down
        self.administration = administration(self.parts, self.scheduler, self._request, self._loads)

    def notes(self) -> dict[str, Callable[[Any], None]]:
        return {"freed": self._others_freed}

    async def _loads(self) -> list[dict[str, Any]]:
        """Of all receivers that answer in time."""
        asked = [link.call(LOAD, None).addTimeout(STATUS_PATIENCE, self.reactor) for link in self.receivers.links]
        return [value for answered, value in await DeferredList(asked, consumeErrors=True) if answered]

    def _slow_down(self, crowded: bool) -> None:
        for link in self.receivers.links:
            link.note(SLOW, self._in_flow_delay if crowded else 0.0)

    def _others_freed(self, freed: list[tuple[str, str | None]]) -> None:
        for queue_id, where in freed:
            self.parts.spool.given_back(queue_id, where)
        self.scheduler.poke()

    def _notify(self, queue_id: str, envelope: Envelope, stored: bytes) -> None:
        self.scheduler.announce(queue_id, envelope)

    async def _counted(self, value: Any) -> int:
        """What all receivers count of a client."""
        asked = [
            link.call(COUNTED_HERE, value).addTimeout(PATIENCE_WITH_COUNTS, self.reactor)
            for link in self.receivers.links
        ]
        return sum(count for answered, count in await DeferredList(asked, consumeErrors=True) if answered)

    async def _verify(self, address: str) -> Sequence[str]:
        return await self.parts.verifier.query(address)

    async def _flush_site(self, site: str) -> str:
        return await etrn(self.administration, site)

    async def _forward(self, value: Any) -> Any:
        return await self._door.forward(value)

    async def _pass(self, value: Any) -> Any:
        return await self._services.deliver(value)

    def _request(self, what: str) -> None:
        self.master.note("request", what)

    def _queued(self, value: bytes) -> None:
        queue_id, _, envelope = value.partition(b" ")
        self.scheduler.announce(queue_id.decode(), format.decode(envelope))

    def start(self, descriptors: Mapping[str, int]) -> None:
        self.parts.start()
        allowed = frozenset({0, os.geteuid()})
        with open(descriptors["held"]) as file:
            self.parts.spool.others_hold(json.load(file))
        self.receivers = LinkServer(
            self.reactor, allowed,
            calls={
                FLUSH_SITE: self._flush_site, VERIFY: self._verify, COUNTED: self._counted,
                LOOK_UP: self.served.answer,
            },
            notes={QUEUED: self._queued},
        )
        self.listen(descriptors["scheduler"], socket.AF_UNIX, self.receivers)
        self.listen(descriptors["control"], socket.AF_UNIX, self.administration.factory())
        self.connect(EXECUTOR_SOCKET, self.executor)
        self.pokes = Pokes(self.reactor, socket.socket(fileno=descriptors["pickup"]), self.parts.pickup.poke)
        self.parts.pickup.start()
        self.scheduler.start()
        self.parts.keepers.start()

    async def _retire(self) -> None:
        self.parts.keepers.pause()
        await self.stop_listening()
        self.receivers.close()
        self.pokes.stop()
        await self.parts.pickup.stop()
        kept = await self.scheduler.hand_over(lambda *freed: self.master.note("freed", [freed]))
        self.master.note("holds", kept)
        await self.scheduler.stop()
        self.executor.close()
        await self.parts.stop()


class ExecutorRole(Role):
    """Programs and mailboxes.  It runs as root, and takes nothing but a queue ID, recipients and a service's name."""

    def __init__(self, configuration: Configuration, reactor: Any, log: MailLog) -> None:
        super().__init__(configuration, reactor, log)
        raise_limit()
        owner = mail_owner(configuration.settings.text("mail_owner"))
        calls = {DELIVER: self._deliver, following.QUESTION: self._asked_of_jobs}
        self.server = LinkServer(reactor, frozenset({0, owner.uid}), calls=calls)
        self.parts = Parts(
            configuration, reactor, log, notify=lambda queue_id, envelope, stored: None, flush_site=_nowhere,
            forwarder=RemoteForwarder(self), is_executor=True, scheduler_link=self,
        )
        self._busy = 0
        self._idle: Deferred[None] | None = None
        own = {one.name for one in configuration.services if one.command.rpartition("/")[2] in EXECUTED}
        self._executor = Executor({name: one for name, one in self.parts.transports.items() if name in own})

    async def call(self, name: str, value: Any) -> Any:
        """Ask the scheduler that is connected now (see RemoteForwarder, and RemoteTransport)."""
        link = next(iter(self.server.links), None)
        if link is None:
            raise ConnectionError("the scheduler is away")
        return await link.call(name, value)

    async def _asked_of_jobs(self, value: Any) -> Any:
        return await following.answer(self.parts, value)

    async def _deliver(self, value: Any) -> Any:
        self._busy += 1
        try:
            return await self._executor.deliver(value)
        finally:
            self._busy -= 1
            if not self._busy and self._idle is not None:
                self._idle.callback(None)

    def start(self, descriptors: Mapping[str, int]) -> None:
        self.parts.start()
        self.listen(descriptors["executor"], socket.AF_UNIX, self.server)

    async def _retire(self) -> None:
        await self.stop_listening()
        await self.server.when_alone(PARTING)
        if self._busy:
            self._idle = Deferred()
            await self._idle
            await deferLater(self.reactor, 0)  # when the answer to the last call has been given
        await self.server.close()
        await self.parts.stop()


async def _nowhere(site: str) -> str:
    return UNABLE


class Single(Role):
    """Everything in one process: what twistd runs for anybody but root.  ``start`` takes clients, ``work`` the queue.
    A reload makes a new one, to which this one hands the queue over; the sessions that it has go on to their end."""

    heir: Single | None = None
    _working = False

    def __init__(self, configuration: Configuration, reactor: Any, log: MailLog, request: Request) -> None:
        super().__init__(configuration, reactor, log)
        self.parts = Parts(
            configuration, reactor, log, notify=self._notify, flush_site=self._flush_site, verify=self._verify
        )
        self.room = make_room(log, deliveries=True)
        self.factories = self.parts.smtpd_factories(self.room)
        self.scheduler = self.parts.scheduler()
        self._in_flow_delay = self.parts.settings.seconds("in_flow_delay")
        self.scheduler.on_crowd = self._slow_down
        self.administration = administration(self.parts, self.scheduler, request, self._loads)

    async def _loads(self) -> list[dict[str, Any]]:
        return [load(self.room, self.factories)]

    def _slow_down(self, crowded: bool) -> None:
        self.room.pause = self._in_flow_delay if crowded else 0.0

    def _in_charge(self) -> Single:
        return self if self.heir is None else self.heir._in_charge()

    def _notify(self, queue_id: str, envelope: Envelope, stored: bytes) -> None:
        """Who does not work yet finds the message in the spool."""
        one = self._in_charge()
        if one._working:
            one.scheduler.announce(queue_id, envelope)

    async def _verify(self, address: str) -> Sequence[str]:
        return await self._in_charge().parts.verifier.query(address)

    async def _flush_site(self, site: str) -> str:
        return await etrn(self._in_charge().administration, site)

    def start(self, descriptors: Mapping[str, int]) -> None:
        self.parts.start()
        self.listen(descriptors["control"], socket.AF_UNIX, self.administration.factory())
        self.pokes = Pokes(self.reactor, socket.socket(fileno=descriptors["pickup"]), self.parts.pickup.poke)
        listen_for_smtp(self, descriptors, self.factories, self.room)

    def work(self) -> None:
        self._working = True
        self.parts.pickup.start()
        self.scheduler.start()
        self.parts.keepers.start()

    def hand_over(self) -> Deferred[None]:
        """Let go of the sockets and the queue; fires when another one may take that.  What is being delivered ends in
        this one, and is told to the heir."""
        return Deferred.fromCoroutine(self._hand_over())

    async def _hand_over(self) -> None:
        self.parts.keepers.pause()
        await self.stop_listening()
        self.pokes.stop()
        if self._working:
            await self.parts.pickup.stop()
            kept = await self.scheduler.hand_over(self._freed)
            if self.heir is not None:
                self.heir.parts.spool.others_hold([*kept, *self.parts.spool.others])

    def _freed(self, queue_id: str, where: str) -> None:
        if self.heir is not None:
            self.heir.given_back(queue_id, where)

    async def end_deliveries(self) -> None:
        """Start nothing more, and wait for what is running."""
        await self.parts.pickup.stop()
        await self.scheduler.stop()

    def given_back(self, queue_id: str, where: str) -> None:
        self.parts.spool.given_back(queue_id, where)
        self.scheduler.poke()
        if self.heir is not None:
            self.heir.given_back(queue_id, where)

    def retire(self, grace: float = RETIRE_GRACE) -> Deferred[None]:
        """``grace``: seconds that the sessions have."""
        return Deferred.fromCoroutine(self._end(grace))

    async def _end(self, grace: float) -> None:
        await self.scheduler.stop()
        await drained(self.factories, grace)
        await self.parts.stop()

    def dismiss(self) -> None:
        for factory in self.factories.values():
            factory.dismiss()


ROLES: dict[str, Callable[[Configuration, Any, MailLog], Role]] = {
    "receiver": Receiver, "scheduler": SchedulerRole, "executor": ExecutorRole,
}


def administration(
    parts: Parts, scheduler: Scheduler, request: Request, receivers: Callable[[], Awaitable[list[dict[str, Any]]]]
) -> Administration:
    return Administration(
        parts.settings, parts.spool, scheduler, parts.pickup, parts.tables, parts.log, in_thread=parts.in_thread,
        request=request, jobs=parts.keepers, receivers=receivers, admit=parts.neighbours.admit,
    )


def load(room: Room, factories: Mapping[str, SmtpdFactory]) -> dict[str, Any]:
    """What the SMTP servers of this process have to do, and how much of it they can do."""
    counts = [factory.status() for factory in factories.values()]
    return {
        "pid": os.getpid(), "clients": room.clients, "most_clients": room.most_clients, "messages": room.messages,
        "most_messages": room.most_messages, "pause": room.pause,
        "accepted": sum(one["accepted"] for one in counts), "refused": sum(one["refused"] for one in counts),
    }


async def etrn(administration: Administration, site: str) -> str:
    """What smtpd's ETRN asks for; RFC 1985."""
    return FLUSHED if await administration.flush_site(site) else NOT_ELIGIBLE


def make_room(log: MailLog, *, deliveries: bool = False) -> Room:
    descriptors = raise_limit()
    clients, messages = capacity(descriptors, deliveries=deliveries)
    if told := complaint(descriptors, clients):
        log.warning("smtpd", told)
    return Room(clients, messages)


async def drained(factories: Mapping[str, SmtpdFactory], grace: float = RETIRE_GRACE) -> None:
    for factory in factories.values():
        await factory.drain(grace)


def listen_for_smtp(
    role: Role, descriptors: Mapping[str, int], factories: Mapping[str, Factory[Any]], room: Room
) -> None:
    for name, descriptor in descriptors.items():
        kind, _, rest = name.partition(":")
        if kind == "inet":
            with socket.socket(fileno=os.dup(descriptor)) as bound:
                family = bound.family
            role.listen(descriptor, family, factories[rest.partition("@")[2]], room.is_full)
