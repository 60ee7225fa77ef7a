"""Stands before a uucp service, beside the queue: limits before, and afterwards what became of the jobs.

``deliver`` asks the limits, lets the service queue the mail, and registers the job before the queue's own copy goes;
what is registered already, by a gateway that died at that point, is not queued again.
Every ``follow`` seconds UUCP is asked what it still has (see transports.following.keeper):

    listed                  it waits
    gone, the Log shows it  it has left
    gone, not in the Log    somebody has removed it: returned to the sender.  If the Log does not go back so far (it
                            was rotated), nobody can tell
    a call goes on          nothing is concluded before its end

``ask``: transports.uucp.jobs, wherever it runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zope.interface import implementer

from gateway.clock import time_of_day
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    IContentSource,
    IDescribes,
    ITransport,
    Log,
    Recipient,
    Request,
    Result,
)
from spool.interfaces import SpoolError
from transports.following import Ask, Ended, Fate, Keeper, Lost, Record, Register, Tell, Waiting, moment_of
from transports.uucp.limits import Limits
from transports.uucp.service import UucpService
from transports.uucp.shelf import Shelf

AT_ONCE = 500
"""Jobs in one question."""


@implementer(ITransport, IDescribes)
class UucpKeeper(Keeper):
    program = "uucp"
    queue_name = "uucp"
    peers = "UUCP neighbour"

    def __init__(
        self, service: UucpService, inner: Any, ask: Ask, register: Register, contents: IContentSource, tell: Tell,
        log: Log, clock: Any, in_thread: Any, *, keep: int = 50_000,
    ) -> None:
        super().__init__(service, inner, register, contents, tell, log, clock, in_thread, keep=keep)
        self._service = service
        self._ask = ask
        self._limits = Limits(service)
        self._shelf = Shelf(register.folder, in_thread)
        self._states: dict[str, str] = {}
        self._busy: frozenset[str] = frozenset()

    # --- delivery ------------------------------------------------------------------------------------------------

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        if request.entry.envelope.trace == "verify":
            return list(await self.inner.deliver(request))
        await self.ready()
        jobs = [self._job_of(request, recipient) for recipient in request.recipients]
        left = [at for at, job in enumerate(jobs) if not job]
        going = replace(
            request, indexes=[request.indexes[at] for at in left], addresses=[request.addresses[at] for at in left]
        )
        results = iter(await self._deliver(going) if left else ())
        name = self._service.name
        return [
            next(results) if not job
            else Result(SENT, "2.0.0", f"has been queued as {job} before", name, details={"action": "relayed"})
            for job in jobs
        ]

    def _job_of(self, request: Request, recipient: Recipient) -> str:
        """The job that has a recipient already: a gateway that dies between registering a job and saying so finds the
        message in its queue again."""
        for record in self.register.inherited.get(request.entry.id, ()):
            known = [one["address"] for one in record.recipients]
            if record.service == self._service.name and recipient.address in known:
                return record.job
        return ""

    async def _deliver(self, request: Request) -> Sequence[Result]:
        service, envelope, count = self._service, request.entry.envelope, len(request.indexes)
        site, now = request.nexthop.partition("!")[0], time_of_day(self.clock)
        may_shrink = 0 < service.attachments < envelope.size
        size = 0 if may_shrink else envelope.size
        if refusal := self._limits.take(site, size, now):
            return [refusal.verdict().result(service.name, sent="", action="")] * count
        results: list[Result] = []
        try:
            if may_shrink:
                try:
                    await self._shelf.keep(request, self.contents, service.piece)
                except (OSError, SpoolError) as error:
                    self.log.warning(self.program, f"{request.entry.id}: large attachments cannot be kept: {error}")
                    text = "large attachments cannot be kept here now"
                    return [Result(DEFERRED, "4.3.0", text, service.name)] * count
            results = list(await self.inner.deliver(request))
        finally:
            sent = any(result.status == SENT for result in results)
            if not sent:
                self._limits.give_back(site, size, now)
        shrunk = next((result.details["uucp_size"] for result in results if "uucp_size" in result.details), "")
        if may_shrink and sent:
            self._limits.count(site, int(shrunk or envelope.size), now)
        if may_shrink and not shrunk:
            await self._shelf.forget(request)
        await self._remember(request, results, int(shrunk or envelope.size))
        await self.publish()
        return results

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes."""
        lines = list(await self.inner.describe(request))
        site = request.nexthop.partition("!")[0]
        try:
            waiting = [record for record in self.known() if record.peer == site]
        except OSError:
            return lines
        if waiting:
            size, since = sum(record.size for record in waiting), min(record.queued for record in waiting)
            lines.append(f"{len(waiting)} messages, {size} bytes, wait for {site}, the first since {moment_of(since)}")
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
        if job:
            now, peer = time_of_day(self.clock), request.nexthop.partition("!")[0]
            record = Record.of(self._service.name, peer, job, data, request.entry.id, now, envelope, recipients)
            record.size = size
            record.facts["site"] = site
            await self.remember(record, request)

    # --- what became of jobs -------------------------------------------------------------------------------------

    async def fates(self, records: Sequence[Record]) -> Mapping[str, Fate]:
        """See Keeper."""
        told = await self._ask({"do": "list"})
        jobs, self._busy, self._states = told["jobs"], frozenset(told["busy"]), told["states"]
        quiet = [record for record in records if _site(record) not in self._busy]
        found: dict[str, Fate] = {record.key: Waiting() for record in quiet if record.job in jobs}
        gone = [record for record in quiet if record.job not in jobs]
        for at in range(0, len(gone), AT_ONCE):
            part = gone[at : at + AT_ONCE]
            question = [[_site(record), record.mark, record.queued] for record in part]
            traced = (await self._ask({"do": "trace", "jobs": question}))["found"]
            for record, (sent, covered) in zip(part, traced, strict=True):
                found[record.key] = _fate(record, float(sent), bool(covered))
        return found

    async def take_back(self, record: Record) -> bool:
        """See Keeper."""
        return bool((await self._ask({"do": "kill", "job": record.job}))["killed"])

    def state(self, record: Record) -> str:
        """See Keeper."""
        return self._states.get(_site(record), "")

    # --- limits and calls ----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """See Keeper."""
        if self._service.attachments:
            await self._shelf.clear(time_of_day(self.clock) - self._service.kept)
        await super().look()
        if self._service.call != "no":
            await self._call_again()

    async def _call_again(self) -> None:
        """Whoever has waited for the right time, or for the end of a pause, is called then."""
        for site in sorted({_site(record) for record in self.own()} - self._busy):
            try:
                await self._ask({"do": "call", "site": site})
            except Exception as error:
                self.log.warning(self.program, f"cannot call {site}: {error}")

    def restore(self, published: Mapping[str, Any]) -> None:
        """See Keeper."""
        self._limits.restore(published)

    def recount(self) -> None:
        """See Keeper."""
        waiting: dict[str, int] = defaultdict(int)
        for record in self.own():
            waiting[record.peer] += record.size
        self._limits.recount(waiting)

    def published(self) -> Mapping[str, Any] | None:
        """See Keeper."""
        return self._limits.published(time_of_day(self.clock)) if self._limits.any else None


def _site(record: Record) -> str:
    """What UUCP calls a neighbour, who may have other names (alias in the sys file)."""
    return record.facts.get("site") or record.peer


def _fate(record: Record, sent: float, covered: bool) -> Fate:
    if sent:
        text = f"job {record.job} was sent to {record.peer} at {moment_of(sent)}"
        return Ended(SENT, "2.0.0", text, {"action": "relayed"})
    if covered and record.mark:
        return Ended(BOUNCED, "5.3.0", f"job {record.job} for {record.peer} was removed from UUCP's queue unsent")
    return Lost(f"job {record.job} for {record.peer} is gone; UUCP's log does not tell how")
