"""Stands before a uucp service, beside the queue: limits before, and afterwards what became of the jobs.

``deliver`` asks the limits, lets the service queue the mail, and registers the job before the queue's own copy goes.
Every ``follow`` seconds UUCP is asked what it still has:

    listed                  it waits; after delay_warning_time the sender is told (once); after ``lifetime`` the job is
                            taken back (uustat -k) and returned to the sender
    gone, the Log shows it  it has left: who asked for NOTIFY=SUCCESS is told
    gone, not in the Log    somebody has removed it: returned to the sender.  If the Log does not go back so far (it
                            was rotated), nobody can tell: a line in our log
    a call goes on          nothing is concluded before its end

``tell``: what the notices module does, on messages that the register keeps.  ``ask``: transports.uucp.jobs, wherever it
runs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from gateway.clock import time_of_day
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    Entry,
    IContentSource,
    IDescribes,
    ITransport,
    Log,
    Request,
    Result,
)
from spool.interfaces import RecipientState, SpoolError
from transports import message
from transports.uucp.limits import Limits, read_part, write_part
from transports.uucp.register import Record, Register
from transports.uucp.service import UucpService
from transports.uucp.shelf import Shelf

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
InThread = Callable[..., Awaitable[Any]]

AT_ONCE = 500
"""Jobs in one question."""


class Tell(Protocol):
    """The part of gateway.notices.Notices that is used."""

    async def bounce(self, entry: Entry, indexes: Sequence[int]) -> None: ...

    async def delayed(self, entry: Entry, indexes: Sequence[int]) -> None: ...

    async def success(self, entry: Entry, indexes: Sequence[int]) -> None: ...


@implementer(ITransport, IDescribes)
class UucpKeeper:
    """``register`` holds the jobs of this service only in what it looks at; all services share it."""

    program = "uucp"

    def __init__(
        self,
        service: UucpService,
        inner: Any,
        ask: Ask,
        register: Register,
        contents: IContentSource,
        tell: Tell,
        log: Log,
        clock: Any,
        in_thread: InThread,
        *,
        keep: int = 50_000,
    ) -> None:
        self._service = service
        self._inner = inner
        self._ask = ask
        self._register = register
        self._limits = Limits(service)
        self._shelf = Shelf(register.folder, in_thread)
        self._contents = contents
        self._tell = tell
        self._log = log
        self._clock = clock
        self._in_thread = in_thread
        self._keep = keep
        self._timer = LoopingCall(self._look)
        self._timer.clock = clock
        self._states: dict[str, str] = {}
        self._trouble = ""
        self._publishing = self._unpublished = False
        self._loaded: Deferred[None] | None = None

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what is registered, and follow it."""
        if self._loaded is None:
            self._loaded = Deferred.fromCoroutine(self._load())
        self._timer.start(self._service.follow, now=False)

    async def _load(self) -> None:
        try:
            for what in await self._register.load():
                self._log.warning(self.program, f"a job's record cannot be read: {what}")
            self._limits.restore(await self._in_thread(read_part, self._register.folder, self._service.name))
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._log.warning(self.program, f"cannot read the records of jobs: {error}")
        self._recount()

    def pause(self) -> None:
        """Follow no more."""
        if self._timer.running:
            self._timer.stop()

    async def stop(self) -> None:
        self.pause()
        await self._inner.stop()

    # --- delivery ------------------------------------------------------------------------------------------------

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        service, envelope, count = self._service, request.entry.envelope, len(request.indexes)
        site, now = request.nexthop.partition("!")[0], time_of_day(self._clock)
        if envelope.trace == "verify":
            return list(await self._inner.deliver(request))
        may_shrink = 0 < service.attachments < envelope.size
        size = 0 if may_shrink else envelope.size
        if refusal := self._limits.take(site, size, now):
            return [refusal.verdict().result(service.name, sent="", action="")] * count
        results: list[Result] = []
        try:
            if may_shrink:
                try:
                    await self._shelf.keep(request, self._contents)
                except (OSError, SpoolError) as error:
                    self._log.warning(self.program, f"{request.entry.id}: large attachments cannot be kept: {error}")
                    text = "large attachments cannot be kept here now"
                    return [Result(DEFERRED, "4.3.0", text, service.name)] * count
            results = list(await self._inner.deliver(request))
        finally:
            if not any(result.status == SENT for result in results):
                self._limits.give_back(site, size, now)
        shrunk = next((result.details["uucp_size"] for result in results if "uucp_size" in result.details), "")
        if may_shrink:
            self._limits.count(site, int(shrunk or envelope.size), now)
            if not shrunk:
                await self._shelf.forget(request)
        await self._remember(request, results, int(shrunk or envelope.size))
        if self._limits.any:
            await self._publish()
        return results

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes."""
        lines = list(await self._inner.describe(request))
        if not self._register.records:
            try:
                self._register.load_now()  # here, and not in a thread: whoever explains has none
            except OSError:
                return lines
        site = request.nexthop.partition("!")[0]
        waiting = [record for record in self._own() if record.site == site]
        if waiting:
            size, since = sum(record.size for record in waiting), min(record.queued for record in waiting)
            lines.append(f"{len(waiting)} messages, {size} bytes, wait for {site}, the first since {_moment(since)}")
        return lines

    async def _remember(self, request: Request, results: Sequence[Result], size: int) -> None:
        """Register the job of those that were queued; afterwards the results look like any others."""
        envelope, recipients, job, data, site = request.entry.envelope, [], "", "", ""
        for recipient, result in zip(request.recipients, results, strict=True):
            found = result.details.pop("uucp_job", "")
            result.details.pop("uucp_size", "")
            where, what = result.details.pop("uucp_site", ""), result.details.pop("uucp_data", "")
            if result.status == SENT:
                job, site, data = found or job, where or site, what or data
                recipients.append(recipient)
        if not job:
            return
        now = time_of_day(self._clock)
        record = Record.of(self._service.name, site, job, data, request.entry.id, now, envelope, recipients)
        record.size = size
        try:
            kept = await self._kept(request)
            await self._register.add(record, kept)
        except (OSError, SpoolError) as error:
            self._log.warning(self.program, f"{record.id}: job {job} will not be followed: {error}")

    async def _kept(self, request: Request) -> bytes:
        content = await self._contents.content(request.entry.id, request.entry.where)
        try:
            if content.size > self._keep:
                return message.header(content) + b"\n"
            content.seek(0)
            return content.read()
        finally:
            content.close()

    # --- following -----------------------------------------------------------------------------------------------

    def _own(self) -> list[Record]:
        return [record for record in self._register.records.values() if record.service == self._service.name]

    def _recount(self) -> None:
        waiting: dict[str, int] = defaultdict(int)
        for record in self._own():
            waiting[record.site] += record.size
        self._limits.recount(waiting)

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.look())

    async def look(self) -> None:
        """Ask what has become of the jobs.  Never raises."""
        if self._service.attachments:
            await self._shelf.clear(time_of_day(self._clock) - self._service.kept)
        try:
            await self._register.load()  # a scheduler that was replaced may have added some
            records = self._own()
            if not records:
                return
            told = await self._ask({"do": "list"})
            jobs, busy, self._states = told["jobs"], frozenset(told["busy"]), told["states"]
            self._at_ease()
            quiet = [record for record in records if record.site not in busy]
            for together in by_job(record for record in quiet if record.job in jobs):
                await self._still_there(together)
            gone = [record for record in quiet if record.job not in jobs]
            for at in range(0, len(gone), AT_ONCE):
                await self._gone(gone[at : at + AT_ONCE])
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        self._recount()
        if self._limits.any:
            await self._publish()

    async def _still_there(self, records: list[Record]) -> None:
        """``records``: of one job."""
        service, first, now = self._service, records[0], time_of_day(self._clock)
        since = f"job {first.job} waits for {first.site} since {_moment(first.queued)}"
        state = self._states.get(first.site, "")
        reason = f"{since} ({state})" if state else since
        if 0 < service.lifetime < now - max(record.arrival for record in records):
            if (await self._ask({"do": "kill", "job": first.job}))["killed"]:
                for record in records:
                    await self._failed(record, "5.4.7", f"{reason}, and was taken back")
            return
        for record in records:
            if 0 < service.warn_after < now - record.arrival and not record.warned:
                await self._tell.delayed(*self._entry(record, DEFERRED, "4.4.1", reason, "delayed"))
                record.warned = True
                await self._register.change(record)

    async def _gone(self, records: list[Record]) -> None:
        question = [[record.site, record.data, record.queued] for record in records]
        told = (await self._ask({"do": "trace", "jobs": question}))["found"]
        for record, (sent, covered) in zip(records, told, strict=True):
            await self._ended(record, float(sent), bool(covered))

    async def _ended(self, record: Record, sent: float, covered: bool) -> None:
        took = time_of_day(self._clock) - record.queued
        if sent:
            text = f"job {record.job} was sent to {record.site} at {_moment(sent)}"
            await self._tell.success(*self._entry(record, SENT, "2.0.0", text, "relayed"))
            self._log.info(self.program, f"{record.id}: {text}, relay={record.service}, delay={took:.0f}")
        elif covered and record.data:
            text = f"job {record.job} for {record.site} was removed from UUCP's queue unsent"
            await self._failed(record, "5.3.0", text)
            return
        else:
            self._log.warning(
                self.program, f"{record.id}: job {record.job} for {record.site} is gone; UUCP's log does not tell how"
            )
        await self._register.remove(record)

    async def _failed(self, record: Record, dsn: str, reason: str) -> None:
        await self._tell.bounce(*self._entry(record, BOUNCED, dsn, reason, "failed"))
        for recipient in record.recipients:
            about = f"{record.id}: to=<{recipient['address']}>, relay={record.service}"
            self._log.info(self.program, f"{about}, dsn={dsn}, status=bounced ({reason})")
        await self._register.remove(record)

    def _entry(self, record: Record, status: str, dsn: str, reason: str, action: str) -> tuple[Entry, range]:
        envelope = record.envelope()
        states = [
            RecipientState(True, status, dsn, reason, record.service, {"action": action}) for _ in envelope.recipients
        ]
        return Entry(record.id, envelope, states), range(len(states))

    # --- for administrators ----------------------------------------------------------------------------------------

    def listing(self) -> Iterator[dict[str, Any]]:
        """What waits, as postqueue -j has it."""
        for record in sorted(self._own(), key=lambda record: record.queued):
            state = self._states.get(record.site, "")
            reason = f"waits for UUCP neighbour {record.site} since {_moment(record.queued)}, job {record.job}"
            yield {
                "queue_name": "uucp", "queue_id": record.id, "arrival_time": int(record.arrival),
                "message_size": record.size, "forced_expire": False, "sender": record.sender or "MAILER-DAEMON",
                "recipients": [
                    {"address": one["address"], "delay_reason": f"{reason}: {state}" if state else reason}
                    for one in record.recipients
                ],
            }

    async def cancel(self, ids: Collection[str]) -> list[str]:
        """Take the jobs of these messages back from UUCP; nobody is told.  A job that carries others, too, stays.  The
        IDs of those that are gone."""
        done: list[str] = []
        for records in by_job(self._own()):
            job, wanted = records[0].job, ", ".join(one.id for one in records if one.id in ids)
            if not wanted:
                continue
            if any(one.id not in ids for one in records):
                self._log.warning(self.program, f"{wanted}: stays: job {job} carries other messages, too")
                continue
            try:
                killed = (await self._ask({"do": "kill", "job": job}))["killed"]
            except Exception as error:
                self._log.warning(self.program, f"{wanted}: cannot take job {job} back: {error}")
                continue
            for record in records if killed else ():
                self._log.info(self.program, f"{record.id}: job {job} for {record.site} taken back")
                await self._register.remove(record)
                done.append(record.id)
        self._recount()
        return done

    # --- trouble -------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """What comes while the file is being written is written once more, by whoever is at it."""
        self._unpublished = True
        if self._publishing:
            return
        self._publishing = True
        try:
            while self._unpublished:
                self._unpublished = False
                part = self._limits.published(time_of_day(self._clock))
                await self._in_thread(write_part, self._register.folder, self._service.name, part)
        except OSError as error:
            self._complain(f"limits cannot be written down: {error}")
        finally:
            self._publishing = False

    def _complain(self, trouble: str) -> None:
        """Once, not each time."""
        if trouble != self._trouble:
            self._log.warning(self.program, f"service {self._service.name}: jobs cannot be followed: {trouble}")
        self._trouble = trouble

    def _at_ease(self) -> None:
        self._trouble = ""


def by_job(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.job].append(record)
    return list(found.values())


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
