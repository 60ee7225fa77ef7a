"""The scheduler: decides which message is tried when, and keeps the record of what became of it.  qmgr(8).

It leases entries from the spool (new ones as they are announced, others when they are due), resolves each recipient to
a transport and next hop, hands groups of recipients to the transports' queues, and when all results of an attempt are
in, finishes the message, returns what failed to the sender, or puts off the rest.  It alone changes what is on disk
after acceptance, and reports nothing before that is durable.

The active set is bounded (qmgr_message_active_limit): what does not fit stays in the spool and is claimed later.

One scheduler takes another one's place at a reload.  The old one lets go of all messages but those whose deliveries are
running, and tells the new one as each of these comes to an end (hand_over): so the queue need not wait for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gateway.addresses.forms import unquote
from gateway.clock import time_of_day
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    AddressClass,
    Entry,
    Envelope,
    IRouter,
    Log,
    Result,
    Route,
    TableError,
)
from gateway.scheduler.ages import Ages
from gateway.scheduler.backoff import RetryTimes, is_expired, next_attempt, warning_is_due
from gateway.scheduler.message import ActiveMessage, Group
from gateway.scheduler.report import delivery_lines
from gateway.scheduler.results import answers, keep, softened
from gateway.scheduler.transport_queue import TransportQueue
from spool.envelope import NOTIFY_DELAY, NOTIFY_SUCCESS
from spool.interfaces import ISpool, Progress, SpoolError

_LOCAL = AddressClass.LOCAL
CLAIM_AT_ONCE = 100
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between two looks into the spool
ADMINISTRATION_PAUSE = 10.0  # seconds
HEARTBEAT = 5.0  # seconds between looks at the system's clock, and whether a crowd is over
RELIEF = 0.8  # of the active set: with less than that in it there is room again
TOLD = "told"  # a detail of a recipient whose success the sender has heard of, while others are still to be tried
TROUBLE_PAUSE = 10.0  # seconds until the spool is asked again after it could not be read


class Notices(Protocol):
    """What the scheduler needs of gateway.notices: each call returns when the notice is durably queued."""

    def bounce(self, entry: Entry, indexes: Sequence[int]) -> Awaitable[None]: ...

    def delayed(self, entry: Entry, indexes: Sequence[int]) -> Awaitable[None]: ...

    def success(self, entry: Entry, indexes: Sequence[int]) -> Awaitable[None]: ...

    def verify(self, entry: Entry, indexes: Sequence[int]) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """The parameters that rule all transports."""

    times: RetryTimes
    active_limit: int
    queue_run_delay: float
    defer_transports: frozenset[str] = frozenset()
    confirm_delay_cleared: bool = False
    soft_bounce: bool = False
    double_bounce: str = ""
    """Local part of double_bounce_sender: mail for it is thrown away."""
    filter_nexthop: str = ""
    """default_filter_nexthop; "" = the recipient's domain."""


class Scheduler:
    """See the module.  ``make_queues`` gets the function that takes results, and gives the queues by service name."""

    def __init__(
        self,
        spool: ISpool,
        router: IRouter,
        notices: Notices,
        policy: Policy,
        clock: IReactorTime,
        log: Log,
        make_queues: Callable[[Callable[..., None]], Mapping[str, TransportQueue]],
        resubmit: Callable[[Entry], Awaitable[str]] | None = None,
        probe_router: IRouter | None = None,
        is_probe: Callable[[Envelope], bool] = lambda envelope: False,
    ) -> None:
        """``probe_router``: for the probes of address verification, which may go other ways."""
        self._spool = spool
        self._router = router
        self._probe_router = probe_router or router
        self._is_probe = is_probe
        self._notices = notices
        self._policy = policy
        self._clock = clock
        self._ages = Ages(clock)
        self._log = log
        self._queues = make_queues(self._delivered)
        self._active: dict[str, ActiveMessage] = {}
        self._claiming = False
        self._claim_again = False
        self._trouble = ""
        self._flushing = 0
        self._flushed_until = 0.0
        self._forced_ids: set[str] = set()
        self._resubmit = resubmit
        self._timer: IDelayedCall | None = None
        self._heart: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self._claimed: Deferred[None] | None = None
        self._working = 0
        self._kept: set[str] = set()
        """Of a scheduler that has handed over: messages whose deliveries are still running."""
        self._freed: Callable[[str, str], None] = lambda queue_id, where: None
        self.on_crowd: Callable[[bool], None] = lambda crowded: None
        """Called when there is no room in the active set for new mail, again and again until there is some."""
        self._crowded = False

    # --- from outside --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what is in the spool."""
        self._look_for_work()
        self._beat()

    def announce(self, queue_id: str, envelope: Envelope) -> None:
        """A message was stored.  Its envelope is at hand, so the spool need not read it."""
        if self._stopping is not None:
            return
        if len(self._active) >= self._policy.active_limit:
            self._claim_again = True
            self._spool.note_new(queue_id)
            if not self._crowded:
                self._crowded = True
                self.on_crowd(True)
            return
        entry = self._spool.adopt(queue_id, envelope)
        if entry is None:
            self._look_for_work()
        else:
            self._activate(entry)

    def poke(self) -> None:
        """Something may have come into the spool (a spool copied in)."""
        self._look_for_work()

    def look_soon(self) -> None:
        """An administrator has changed something: look for what is due, but leave him time to change more."""
        self._wake_at(self._clock.seconds() + ADMINISTRATION_PAUSE)

    async def flush(self, queue_ids: Sequence[str] | None = None) -> int:
        """Try deferred messages, or all of them, now: also what goes by defer_transports, and to destinations that
        are taken for dead.  The number of messages that were not due anyway.  postqueue(1) -f, -i."""
        self._flushing += 1  # what is put off by work that is begun meanwhile is not part of the flush
        try:
            changes = await self._spool.change("flush", queue_ids)
        finally:
            self._flushing -= 1
        if queue_ids is None:
            self._flushed_until = time_of_day(self._clock)
        else:
            self._forced_ids.update(changes.ids)
        self._look_for_work()
        return changes.count

    def forget(self, queue_id: str) -> None:
        """An administrator removed or held a message: what is in flight is recorded as far as there is a record."""
        self._active.pop(queue_id, None)

    def is_active(self, queue_id: str) -> bool:
        return queue_id in self._active

    def active_ids(self) -> Iterable[str]:
        return self._active.keys()

    def status(self) -> dict[str, Any]:
        """What `mailgateway status` shows."""
        return {
            "active": len(self._active),
            "active_limit": self._policy.active_limit,
            "crowded": self._crowded,
            "trouble": self._trouble,
            "transports": {
                name: {"delivering": queue.busy, "most": queue.process_limit, "waiting": queue.waiting()}
                for name, queue in self._queues.items()
                if queue.busy or queue.waiting()
            },
        }

    def stop(self) -> Deferred[None]:
        """Start nothing more; fires when the deliveries in flight have ended and are on record."""
        if self._stopping is None:
            self._stopping = Deferred()
            self._claim_again = False
            for timer in (self._timer, self._heart):
                if timer is not None and timer.active():
                    timer.cancel()
            for queue in self._queues.values():
                queue.stop()
            self._maybe_stopped()
        return self._stopping

    async def hand_over(self, freed: Callable[[str, str], None]) -> list[str]:
        """Start nothing more, and let go of what nothing is being done with.  Gives the messages whose deliveries are
        running: ``freed`` is called with each when they have ended, and with where it is then ("": gone)."""
        self.stop()
        if self._claiming:
            self._claimed = Deferred()
            await self._claimed
        for queue_id, message in list(self._active.items()):
            if message.busy:
                self._kept.add(queue_id)
            else:
                del self._active[queue_id]
                self._spool.let_go(queue_id)
        self._freed = freed
        return list(self._kept)

    def _maybe_stopped(self) -> None:
        if self._stopping is not None and not self._stopping.called and not self._working \
                and not any(queue.busy for queue in self._queues.values()):
            self._stopping.callback(None)

    # --- finding work --------------------------------------------------------------------------------------------

    def _look_for_work(self) -> None:
        if self._stopping is not None:
            return
        self._claim_again = True
        if not self._claiming and not self._flushing:
            self._claiming = True
            self._run(self._claim())

    async def _claim(self) -> None:
        pause = LONGEST_PAUSE
        try:
            while self._claim_again and self._stopping is None and not self._flushing:
                room = self._policy.active_limit - len(self._active)
                if room <= 0:
                    return  # _end_of() looks again
                self._claim_again = False
                entries = await self._spool.claim(min(room, CLAIM_AT_ONCE))
                for entry in entries:
                    if self._stopping is None:
                        self._activate(entry)
                    else:
                        self._spool.let_go(entry.id)
                self._claim_again = self._claim_again or bool(entries)
                self._at_ease()
        except SpoolError as error:
            self._complain(str(error))
            pause = min(pause, TROUBLE_PAUSE)
        finally:
            self._claiming = False
            self._wake_after(pause)
            if self._claimed is not None:
                self._claimed.callback(None)

    def _complain(self, trouble: str) -> None:
        """Once, not each time."""
        if trouble != self._trouble:
            self._log.warning("qmgr", f"the queue cannot be used, no deliveries until it can: {trouble}")
        self._trouble = trouble

    def _at_ease(self) -> None:
        if self._trouble:
            self._log.info("qmgr", "the queue can be used again")
            self._trouble = ""

    def _wake_after(self, pause: float) -> None:
        """Look for work after ``pause`` seconds at the latest, earlier if something is due earlier."""
        pause, due = min(pause, self._policy.queue_run_delay), self._spool.next_due()
        if due is not None:
            pause = min(pause, max(due - time_of_day(self._clock), 0.0))
        self._wake_at(self._clock.seconds() + pause)

    def _wake_at(self, moment: float) -> None:
        if self._stopping is not None:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= moment:
                return
            self._timer.cancel()
        pause = max(moment - self._clock.seconds(), SHORTEST_PAUSE)
        self._timer = self._clock.callLater(pause, self._look_for_work)

    def _beat(self) -> None:
        self._heart = self._clock.callLater(HEARTBEAT, self._beat)
        if self._crowded:
            self._crowded = len(self._active) > RELIEF * self._policy.active_limit
            self.on_crowd(self._crowded)
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        """What is put off is so until a time of day: when the clock was set back, it would wait that much longer."""
        leapt = self._ages.leap()
        if leapt:
            what = "forward: it counts for nobody's age" if leapt > 0 else "back: all deferred mail is tried now"
            self._log.warning("qmgr", f"the clock was set {abs(leapt):.0f} seconds {what}")
            if leapt > 0:
                self._look_for_work()
            else:
                self._run(self.flush())

    def _run(self, work: Any) -> None:
        self._working += 1
        Deferred.fromCoroutine(work).addErrback(self._broken).addBoth(self._worked)

    def _worked(self, ignored: object) -> None:
        self._working -= 1
        self._maybe_stopped()

    def _work_on(self, message: ActiveMessage, work: Coroutine[Any, Any, None]) -> None:
        message.busy += 1
        self._run(self._worked_on(message, work))

    async def _worked_on(self, message: ActiveMessage, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            message.busy -= 1
            queue_id = message.entry.id
            if not message.busy and queue_id in self._kept:
                self._kept.discard(queue_id)
                self._active.pop(queue_id, None)
                self._freed(queue_id, self._spool.let_go(queue_id) or message.where)

    def _broken(self, failure: Any) -> None:
        self._log.error("qmgr", f"internal: {failure.type.__name__}: {failure.value}")

    # --- an attempt ----------------------------------------------------------------------------------------------

    def _activate(self, entry: Entry) -> None:
        forced = entry.id in self._forced_ids or (entry.queue == "deferred" and entry.not_before <= self._flushed_until)
        self._forced_ids.discard(entry.id)
        message = ActiveMessage(entry, self._clock.seconds(), forced)
        self._active[entry.id] = message
        if entry.requeue:
            self._work_on(message, self._renew(message))
            return
        envelope = entry.envelope
        todo = [index for index, state in enumerate(entry.states) if not state.done]
        self._log.info(
            "qmgr", f"{entry.id}: from=<{envelope.sender}>, size={envelope.size}, nrcpt={len(todo)} (queue active)"
        )
        message.pending = len(todo)
        if not todo:
            self._work_on(message, self._end_attempt(message))
        elif entry.expire:
            untried = [index for index in todo if not entry.states[index].status]
            message.pending = len(untried)
            if untried:
                self._refuse(message, untried, Result(DEFERRED, "4.7.0", "message is administratively expired"))
            else:  # the sender hears why it has waited
                self._work_on(message, self._end_attempt(message))
        else:
            self._run(self._dispatch(message, todo))

    async def _renew(self, message: ActiveMessage) -> None:
        """Carry out a requeue: a new message takes the old one's place."""
        entry = message.entry
        try:
            assert self._resubmit is not None
            await self._resubmit(entry)
            await self._spool.finish(entry.id)
        except SpoolError as error:
            self._log.warning("qmgr", f"{entry.id}: cannot requeue it: {error}")
            age = self._ages.age(entry.envelope.arrival)
            due = next_attempt(self._policy.times, age, time_of_day(self._clock))
            message.where = await self._spool.release(entry.id, due)
        finally:
            self._end_of(message)

    async def _dispatch(self, message: ActiveMessage, todo: list[int]) -> None:
        entry = message.entry
        groups: dict[tuple[str, str], Group] = {}
        failed: list[int] = []
        dropped: list[int] = []
        if len(todo) > 1:  # one order for all next hops, as qmgr(8) has it: that of the addresses without quotes
            todo.sort(key=lambda index: unquote(entry.envelope.recipients[index].address))
        for index in todo:
            state = entry.states[index]
            if state.status == BOUNCED:  # the record of an attempt whose notice could not be sent
                message.pending -= 1
                continue
            recipient = entry.envelope.recipients[index].address
            try:
                route = await self._way(entry.envelope, recipient)
            except TableError as error:
                self._log.warning("trivial-rewrite", f"{entry.id}: {error}")
                failed.append(index)
                continue
            if self._is_double_bounce(route):
                dropped.append(index)
                continue
            group = groups.get((route.transport, route.nexthop))
            if group is None:
                group = groups[route.transport, route.nexthop] = Group(message, route.nexthop)
            group.indexes.append(index)
            group.addresses.append(route.recipient)
        if self._active.get(entry.id) is not message:
            return  # removed, held or let go meanwhile
        if failed:
            self._refuse(message, failed, Result(DEFERRED, "4.3.0", "address resolver failure"))
        if dropped:
            text = "undeliverable postmaster notification discarded"
            self._log.warning("qmgr", f"{entry.id}: {text}")
            self._settle("qmgr", message, dropped, Result(SENT, "2.0.0", text))
        for (transport, _), group in groups.items():
            self._hand_over(message, transport, group)
        if not groups and not failed and not dropped:
            self._work_on(message, self._end_attempt(message))

    async def _way(self, envelope: Envelope, recipient: str) -> Route:
        if envelope.content_filter and envelope.trace != "verify":
            transport, _, nexthop = envelope.content_filter.partition(":")
            nexthop = nexthop or self._policy.filter_nexthop or recipient.rpartition("@")[2]
            return Route(transport, nexthop, recipient, AddressClass.DEFAULT)
        router = self._router
        if envelope.trace == "verify" and self._is_probe(envelope):  # and not something that sendmail -bv asks about
            router = self._probe_router
        route: Route = await router.resolve(envelope.sender, recipient)
        return route

    def _is_double_bounce(self, route: Route) -> bool:
        """So that this machine can do without local delivery."""
        local = self._policy.double_bounce
        return bool(local) and route.address_class is _LOCAL \
            and route.recipient[: len(local) + 1].lower() == f"{local}@"

    def _hand_over(self, message: ActiveMessage, transport: str, group: Group) -> None:
        queue = self._queues.get(transport)
        if transport in self._policy.defer_transports and not message.forced:
            self._refuse(message, group.indexes, Result(DEFERRED, "4.3.2", "deferred transport"))
        elif queue is None:
            self._log.warning("qmgr", f"connect to transport private/{transport}: No such file or directory")
            self._refuse(message, group.indexes, Result(DEFERRED, "4.3.0", "mail transport unavailable"))
        else:
            queue.add(group, forced=message.forced)

    def _refuse(self, message: ActiveMessage, indexes: list[int], result: Result) -> None:
        self._settle("error", message, indexes, result)

    def _settle(self, program: str, message: ActiveMessage, indexes: list[int], result: Result) -> None:
        """Give recipients a result without an attempt to deliver."""
        group = Group(message, "", indexes)
        self._delivered(program, group, [result] * len(indexes), self._clock.seconds())

    # --- results -------------------------------------------------------------------------------------------------

    def _delivered(self, program: str, group: Group, results: Sequence[Result], started: float) -> None:
        self._work_on(group.message, self._record(program, group, results, started))

    async def _record(self, program: str, group: Group, results: Sequence[Result], started: float) -> None:
        """Put results on record, then report them."""
        message = group.message
        entry = message.entry
        ended = self._clock.seconds()
        if entry.envelope.trace == "verify":
            results = answers(results)
        elif self._policy.soft_bounce:
            results = softened(results)
        for index, result in zip(group.indexes, results, strict=True):
            keep(entry.states[index], result)
        for index, address in zip(group.indexes, group.addresses, strict=False):
            recipient, state = entry.envelope.recipients[index], entry.states[index]
            if address != recipient.address and state.recipient is None:  # notices name him as the log does
                state.recipient = replace(recipient, address=address)
        message.pending -= len(results)

        def report() -> None:
            self._report(program, group, results, started, ended)

        if self._active.get(entry.id) is not message:  # removed or held meanwhile
            await self._put_on_record(message, group)
            report()
            return
        if message.is_over and all(state.done for state in entry.states):
            await self._end_attempt(message, report)  # its removal is the record
            return
        if message.is_over and all(result.status == DEFERRED and not result.others for result in results):
            report()  # nothing that must not be done again: its release is the record
            await self._end_attempt(message, unrecorded=group.indexes)
            return
        message.recording += 1
        await self._put_on_record(message, group)
        message.recording -= 1
        report()
        if message.is_over:
            await self._end_attempt(message)

    async def _put_on_record(self, message: ActiveMessage, group: Group) -> None:
        entry = message.entry
        try:
            await self._spool.progress(entry.id, [Progress(index, entry.states[index]) for index in group.indexes])
        except SpoolError as error:
            self._log.warning("qmgr", f"{entry.id}: cannot record progress: {error}")

    def _report(
        self, program: str, group: Group, results: Sequence[Result], started: float, ended: float
    ) -> None:
        arrived = self._clock.seconds() - self._ages.age(group.message.entry.envelope.arrival)
        for own, line in delivery_lines(group, results, arrival=arrived, started=started, ended=ended):
            self._log.info(own or program, line)

    async def _end_attempt(
        self, message: ActiveMessage, report: Callable[[], None] | None = None, unrecorded: Sequence[int] = ()
    ) -> None:
        """Every recipient has a result: finish, return to sender, or put off.  ``unrecorded``: recipients that were put
        off, which is not on record yet."""
        try:
            deferred = await self._return_to_sender(message)
            await self._tell_of_success(message, deferred)
            if deferred:
                await self._put_off(message, deferred, unrecorded)
            else:
                await self._spool.finish(message.entry.id)
            if report is not None:
                report()
            if not deferred and self._active.get(message.entry.id) is message:
                self._log.info("qmgr", f"{message.entry.id}: removed")
        except SpoolError as error:
            self._log.warning("qmgr", f"{message.entry.id}: {error}")
        finally:
            self._end_of(message)

    async def _return_to_sender(self, message: ActiveMessage) -> list[int]:
        """Bounce what has failed or become too old; gives the recipients that are still to be tried."""
        entry, envelope = message.entry, message.entry.envelope
        open_ones = [index for index, state in enumerate(entry.states) if not state.done]
        bounced = [index for index in open_ones if entry.states[index].status == BOUNCED]
        deferred = [index for index in open_ones if entry.states[index].status != BOUNCED]
        self._look_at_the_clock()
        age = self._ages.age(envelope.arrival)
        if deferred and (
            entry.expire or is_expired(self._policy.times, age, null_sender=not envelope.sender)
        ):
            forced = "force-" if entry.expire else ""
            self._log.info("qmgr", f"{entry.id}: from=<{envelope.sender}>, status={forced}expired, returned to sender")
            bounced, deferred = open_ones, []
        if bounced:
            if not await self._notified(entry, bounced, self._notices.bounce):
                return open_ones
            for index in bounced:
                entry.states[index].done = True
            if deferred:
                await self._spool.progress(entry.id, [Progress(index, entry.states[index]) for index in bounced])
        return deferred

    async def _tell_of_success(self, message: ActiveMessage, deferred: list[int]) -> None:
        entry = message.entry
        if entry.envelope.trace:
            await self._notified(entry, range(len(entry.states)), self._notices.verify)
            entry.envelope.trace = entry.envelope.expanded = ""
            if deferred:
                await self._spool.amend(entry.id, entry.envelope)
            return
        cleared = self._policy.confirm_delay_cleared and entry.envelope.warned
        ended = [
            index for index, recipient in enumerate(entry.envelope.recipients)
            if _is_news(entry, index)
            and (recipient.notify & NOTIFY_SUCCESS or (cleared and recipient.notify & NOTIFY_DELAY)
                 or (cleared and not recipient.notify))
        ]
        told = entry.envelope.expanded
        if (ended or told) and await self._notified(entry, ended, self._notices.success) and deferred:
            await self._mark_as_told(entry, ended)
            if told:
                entry.envelope.expanded = ""
                await self._spool.amend(entry.id, entry.envelope)

    async def _mark_as_told(self, entry: Entry, indexes: Sequence[int]) -> None:
        for index in indexes:
            entry.states[index].details = {**entry.states[index].details, TOLD: "success"}
        await self._spool.progress(entry.id, [Progress(index, entry.states[index]) for index in indexes])

    async def _notified(
        self, entry: Entry, indexes: Sequence[int], notice: Callable[[Entry, Sequence[int]], Awaitable[None]]
    ) -> bool:
        try:
            await notice(entry, indexes)
        except Exception as error:  # the message stays, so that it can be tried again
            self._log.warning("qmgr", f"{entry.id}: cannot notify the sender: {type(error).__name__}: {error}")
            return False
        return True

    async def _put_off(self, message: ActiveMessage, deferred: list[int], unrecorded: Sequence[int]) -> None:
        entry, times, age = message.entry, self._policy.times, self._ages.age(message.entry.envelope.arrival)
        if self._active.get(entry.id) is not message:
            return
        if warning_is_due(times, age, warned=entry.envelope.warned) \
                and await self._notified(entry, deferred, self._notices.delayed):
            entry.envelope.warned = True
            await self._spool.amend(entry.id, entry.envelope)
            if self._policy.confirm_delay_cleared:  # what has arrived before the warning was not late
                arrived = [index for index in range(len(entry.states)) if _is_news(entry, index)]
                await self._mark_as_told(entry, arrived)
        results = [Progress(index, entry.states[index]) for index in unrecorded]
        due = next_attempt(times, age, time_of_day(self._clock))
        message.where = await self._spool.release(entry.id, due, results)
        self._wake_after(LONGEST_PAUSE)

    def _end_of(self, message: ActiveMessage) -> None:
        if self._active.get(message.entry.id) is message:
            del self._active[message.entry.id]
        if self._claim_again and not self._claiming:
            self._look_for_work()


def _is_news(entry: Entry, index: int) -> bool:
    """Whether a recipient's end has come, and the sender has not been told that it went well."""
    state = entry.states[index]
    return state.done and TOLD not in state.details
