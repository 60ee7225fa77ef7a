"""What waits for one transport, and the order in which it goes.

Destinations take turns, one delivery each; within a destination messages take turns, one delivery's worth of recipients
each.  So neither a slow next hop nor a message with thousands of recipients holds anybody else up.  No more deliveries
run at once than the service has processes (maxproc in master.cf), and to one destination no more than its window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gateway.interfaces import DEFERRED, ITransport, Log, Request, Result
from gateway.scheduler.destination import Destination, Limits
from gateway.scheduler.message import Group

Done = Callable[[str, Group, Sequence[Result], float], None]
"""Called with program, group, its results (one a recipient), and when the delivery began."""


@dataclass(slots=True)
class Bundle:
    """Groups that are handed over together and count as one delivery.  ``number`` 0: it is only one."""

    groups: list[Group]
    number: int = 0
    running: int = 0


class TransportQueue:
    """The mail for one service of master.cf.

    ``done`` gets the results of every delivery; ``process_limit`` 0 = no limit; ``retry_time``: how long a dead
    destination is left alone (minimal_backoff_time).
    """

    def __init__(
        self,
        service: str,
        transport: ITransport,
        limits: Limits,
        *,
        process_limit: int,
        retry_time: float,
        clock: IReactorTime,
        log: Log,
        done: Done,
    ) -> None:
        self.service = service
        self.transport = transport
        self.limits = limits
        self.process_limit = process_limit
        self.busy = 0
        self._retry_time = retry_time
        self._clock = clock
        self._log = log
        self._done = done
        self._destinations: dict[str, Destination[Group]] = {}
        self._turns: deque[Destination[Group]] = deque()
        self._stopped = False
        self._starting = False
        self._numbers = count(1)

    def add(self, group: Group, *, forced: bool = False) -> None:
        """Queue a group of recipients; it may be delivered at once, or deferred if its destination is dead."""
        now = self._clock.seconds()
        key = group.addresses[0].lower() if self.limits.recipients == 1 else group.nexthop.lower()
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = Destination(key, self.limits)
        if destination.dead_until:
            if forced:
                destination.revive()
            elif destination.is_dead(now):
                self._suspend(destination, group)
                return
        destination.waiting.append(group)
        self._line_up(destination, now)
        self._start_deliveries()

    def stop(self) -> None:
        """Start no more deliveries; those in flight end by themselves."""
        self._stopped = True

    def waiting(self) -> int:
        """How many recipients wait here (for status)."""
        return sum(len(group.indexes) for one in self._destinations.values() for group in one.waiting)

    def _line_up(self, destination: Destination[Group], now: float) -> None:
        if not destination.in_turn and destination.waiting and destination.may_start(now):
            destination.in_turn = True
            self._turns.append(destination)

    def _start_deliveries(self) -> None:
        """A delivery that ends at once calls this again; then the loop that has begun it goes on."""
        if self._starting:
            return
        self._starting = True
        try:
            self._start_all()
        finally:
            self._starting = False

    def _start_all(self) -> None:
        now = self._clock.seconds()
        while self._turns and not self._stopped and (not self.process_limit or self.busy < self.process_limit):
            destination = self._turns.popleft()
            destination.in_turn = False
            if not destination.waiting or not destination.may_start(now):
                continue
            bundle = self._bundle(destination)
            destination.busy += 1
            self.busy += 1
            self._line_up(destination, now)
            for group in bundle.groups:
                group.message.busy += 1
                Deferred.fromCoroutine(self._deliver(destination, bundle, group, now)).addErrback(self._broken)

    def _bundle(self, destination: Destination[Group]) -> Bundle:
        groups: list[Group] = []
        most = 1 if self.limits.rate_delay > 0 else self.limits.together
        while destination.waiting and len(groups) < most:
            waiting = destination.waiting.popleft()
            groups.append(waiting.take(self.limits.recipients))
            if waiting.indexes:
                destination.waiting.append(waiting)
        return Bundle(groups, next(self._numbers) if len(groups) > 1 else 0, len(groups))

    def _broken(self, failure: object) -> None:
        self._log.error("qmgr", f"internal: {failure}")

    async def _deliver(self, destination: Destination[Group], bundle: Bundle, group: Group, started: float) -> None:
        request = Request(group.entry, self.service, group.nexthop, group.indexes, group.addresses, bundle.number)
        try:
            results = await self.transport.deliver(request)
            if len(results) != len(group.indexes):
                raise RuntimeError(f"{len(results)} results for {len(group.indexes)} recipients")
        except Exception as error:  # whatever a transport does, mail is neither lost nor bounced for it
            text = f"{type(error).__name__}: {error}"
            self._log.warning("qmgr", f"{group.message.entry.id}: transport {self.service} failure: {text}")
            results = [Result(DEFERRED, "4.3.0", "unknown mail transport error") for _ in group.indexes]
        bundle.running -= 1
        if not bundle.running:
            destination.busy -= 1
            self.busy -= 1
        now = self._clock.seconds()
        down = next((one for one in results if one.destination_down), None)
        if down is None:
            destination.succeeded()
        elif destination.failed(down.dsn, down.reason, now, self._retry_time):
            self._clock.callLater(self._retry_time, self._forget_idle, destination)
            self._abandon(destination)
        if self.limits.rate_delay > 0:
            destination.not_before = now + self.limits.rate_delay
            self._clock.callLater(self.limits.rate_delay, self._pause_over, destination)
        group.message.busy -= 1
        self._done(self.transport.program, group, results, started)
        self._line_up(destination, now)
        self._forget_idle(destination)
        self._start_deliveries()

    def _pause_over(self, destination: Destination[Group]) -> None:
        self._line_up(destination, self._clock.seconds())
        self._start_deliveries()
        self._forget_idle(destination)

    def _forget_idle(self, destination: Destination[Group]) -> None:
        """An idle destination costs no memory; a dead or pausing one is kept until that is over."""
        now = self._clock.seconds()
        if not destination.waiting and not destination.busy and not destination.is_dead(now) \
                and destination.not_before <= now:
            self._destinations.pop(destination.key, None)

    def _abandon(self, destination: Destination[Group]) -> None:
        """A destination has just died: put off all that waits for it."""
        waiting = list(destination.waiting)
        destination.waiting.clear()
        for group in waiting:
            self._suspend(destination, group)

    def _suspend(self, destination: Destination[Group], group: Group) -> None:
        reason = f"delivery temporarily suspended: {destination.dead_reason}"
        results = [Result(DEFERRED, destination.dead_dsn, reason) for _ in group.indexes]
        self._done("error", group, results, self._clock.seconds())
