"""Stands before a fax service, beside the queue: who may fax where, that no fax is sent twice, and what became of it.

``deliver`` asks the rules (transports.fax.rules), has the documents drawn, counts their pages, then for each number:

    1. puts the fax on record, under a tag of its own
    2. has it sent with that tag
    3. writes the fax server's job into the record

Whatever happens in between: when the message is tried again, a record with a job is done with (and so is a fax that has
ended, see transports.fax.sent), and for one without it the line is asked whether it has that tag.  So an interruption
costs a question, and never a second fax.  If the record is older than the line remembers, nobody can tell; then the fax
is not sent again, and the sender is told.  While the records cannot be read, nothing is sent.

Afterwards the jobs are followed (see transports.following.keeper).  What the mail says in its header decides nothing:
numbers come from the envelope, and the document is all that the line gets of the message.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import split_domain, unquote
from gateway.clock import time_of_day
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    Attachment,
    IContentSource,
    IDescribes,
    ITransport,
    Log,
    Request,
    Result,
    TableError,
)
from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_SUCCESS, Envelope
from spool.interfaces import SpoolError
from transports.fax.address import BadAddress, moment_of
from transports.fax.budget import Spent, Use
from transports.fax.line import DONE, FAILED, Job
from transports.fax.numbers import Number
from transports.fax.rules import Allowed, Call, Caller, Rules
from transports.fax.sent import Sent, digest
from transports.fax.service import FaxService
from transports.following import Ask, Ended, Fate, Keeper, Lost, Record, Register, Tell, Waiting
from transports.guard import Refusal

REMEMBERED = 600.0
"""Seconds for which a line is sure to know a fax that it has finished."""
MESSAGES_STAY = 864_000.0
"""Seconds that a message stays in the queue, at most, by sane configurations."""
ORPHANED = 3600.0
"""Seconds after which a fax that was not handed over is looked for, whatever became of its message."""

_CODES = (
    (re.compile(r"busy|no answer|no carrier|no local dialtone|no response|ring", re.IGNORECASE), "5.4.1"),
    (re.compile(r"kill time|expired|too many", re.IGNORECASE), "5.4.7"),
    (re.compile(r"abort|reject", re.IGNORECASE), "5.3.0"),
)


@implementer(ITransport, IDescribes)
class FaxKeeper(Keeper):
    """``ask``: transports.fax.jobs, wherever it runs."""

    program = "fax"
    queue_name = "fax"
    peers = "fax number"

    def __init__(
        self, service: FaxService, rules: Rules, inner: Any, ask: Ask, register: Register, contents: IContentSource,
        tell: Tell, log: Log, clock: Any, in_thread: Any, *, keep: int = 50_000,
    ) -> None:
        super().__init__(service, inner, register, contents, tell, log, clock, in_thread, keep=keep)
        self._service = service
        self._rules = rules
        self._ask = ask
        self._use = Use()
        self.sent = Sent(register.folder, max(service.lifetime, MESSAGES_STAY), in_thread)
        self._states: dict[str, str] = {}
        self._missing: set[str] = set()

    # --- delivery ------------------------------------------------------------------------------------------------

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        if trouble := await self.ready():
            self.log.warning(self.program, f"service {self._service.name}: {trouble}")
            text = "the records of faxes cannot be read"
            return [Result(DEFERRED, "4.3.0", text, self._service.name)] * len(request.indexes)
        caller, now = caller_of(request.entry.envelope), time_of_day(self.clock)
        faxes = _Faxes(self, request, caller)
        judged = [
            await self._judge(address, caller, now, partial(faxes.is_done, at))
            for at, address in enumerate(request.addresses)
        ]
        if request.entry.envelope.trace == "verify":
            return [self._would(one) if isinstance(one, Allowed) else one for one in judged]
        try:
            for at, one in enumerate(judged):
                if isinstance(one, Allowed):
                    await faxes.take_up(at, one)
            await faxes.draw()
            return [await faxes.send(at) if isinstance(one, Allowed) else one for at, one in enumerate(judged)]
        finally:
            await faxes.drop()
            await self.publish()

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes."""
        lines = list(await self.inner.describe(request))
        caller, now = caller_of(request.entry.envelope), time_of_day(self.clock)
        caller = replace(caller, sender=caller.sender or "anybody")
        try:
            known = self.known()
        except OSError:
            known = []
        for address in request.addresses:
            one = await self._judge(address, caller, now)
            if isinstance(one, Result):
                lines.append(f"would be refused: {one.reason}")
                continue
            lines += [f"a minute to {call.number.name} costs {call.price:.2f}" for call in one.calls if call.price]
            names = {call.number.name for call in one.calls}
            waiting = [record for record in known if record.peer in names]
            lines += [f"the fax of {record.id} waits for {record.peer} as job {record.job}" for record in waiting]
        return lines

    async def _judge(
        self, address: str, caller: Caller, now: float, done: Callable[[Number], bool] = lambda number: False
    ) -> Allowed | Result:
        try:
            found = await self._rules.judge(split_domain(unquote(address))[0], caller, self._use, now, done)
        except TableError as error:
            self.log.warning(self.program, f"service {self._service.name}: {error}")
            return Result(DEFERRED, "4.3.0", "the rules for faxes cannot be looked up", self._service.name)
        return self.refused(found) if isinstance(found, Refusal) else found

    def _would(self, allowed: Allowed) -> Result:
        numbers = ", ".join(call.number.name for call in allowed.calls)
        return Result(SENT, "2.0.0", f"would be faxed to {numbers}", self._service.name)

    def unreachable(self, error: Exception) -> Result:
        """Whether a fax was handed over is asked next time."""
        self.log.warning(self.program, f"service {self._service.name}: {type(error).__name__}: {error}")
        text = "the fax server does not answer; whether it has the fax will be asked"
        return Result(DEFERRED, "4.4.2", text, self._service.name)

    def refused(self, refusal: Refusal) -> Result:
        return refusal.verdict().result(self._service.name, sent="", action="")

    # --- what became of faxes --------------------------------------------------------------------------------------

    async def fates(self, records: Sequence[Record]) -> Mapping[str, Fate]:
        """See Keeper."""
        now = time_of_day(self.clock)
        ripe = [record for record in records if record.job or now - record.queued > ORPHANED]
        found = await self.ask_for(ripe)
        fates: dict[str, Fate] = {}
        self._states = {}
        for record in ripe:
            job = found.get(record.mark)
            if job is not None and not record.job:
                record.job = job.job
                await self.register.change(record)
            fate = self._fate(record, job)
            if isinstance(fate, Waiting) and job is not None:
                self._states[record.key] = job.reason or job.state
            fates[record.key] = fate
        return fates

    async def ask_for(self, records: Sequence[Record]) -> dict[str, Job]:
        """What the line knows of them, by tag."""
        if not records:
            return {}
        told = await self._ask({"do": "look", "jobs": [[record.job, record.mark] for record in records]})
        return {one["tag"]: Job(**one) for one in told["jobs"]}

    def _fate(self, record: Record, job: Job | None) -> Fate:
        about = f"fax to {record.peer}, job {record.job}"
        if job is None:
            if not record.job:
                return Lost(f"fax to {record.peer} was not handed over")
            if record.key not in self._missing:
                self._missing.add(record.key)  # a line that was just restarted may find it yet
                return Waiting()
            self._missing.discard(record.key)
            text = f"{about}: the fax server does not know it any more; whether it arrived cannot be told"
            return Ended(BOUNCED, "5.4.0", text)
        self._missing.discard(record.key)
        pages = int(record.facts.get("pages", "0"))
        calls = f", {job.calls} call{'s' * (job.calls != 1)}" if job.calls else ""
        told = "".join(f", {name} {value}" for name, value in sorted(job.facts.items()))
        if job.state == DONE and job.pages_sent >= pages:
            text = f"{about}: {job.pages_sent} page{'s' * (job.pages_sent != 1)} arrived{calls}{told}"
            return Ended(SENT, "2.0.0", text, {"action": "delivered"})
        if job.state in (DONE, FAILED):
            reason = job.reason or "not all pages arrived"
            sent = f", {job.pages_sent} of {job.pages or pages} pages"
            code = next((code for pattern, code in _CODES if pattern.search(reason)), "5.4.2")
            text = f"{about} failed: {reason}{sent}{calls}{told}"
            return Ended(BOUNCED, code, text, {"diagnostic_type": "x-fax", "diagnostic": reason})
        return Waiting()

    async def take_back(self, record: Record) -> bool:
        """See Keeper."""
        job = record.job
        if not job:
            found = (await self.ask_for([record])).get(record.mark)
            if found is None:
                return True
            job = found.job
        return bool((await self._ask({"do": "kill", "job": job}))["killed"])

    def state(self, record: Record) -> str:
        """See Keeper."""
        return self._states.get(record.key, "")

    def since(self, record: Record) -> float:
        """See Keeper."""
        return max(record.arrival, float(record.facts.get("when", "0")))

    def attached(self, record: Record) -> Sequence[Attachment]:
        """See Keeper."""
        picture = record.facts.get("picture", "")
        return [Attachment("page-1.png", "image/png", picture)] if picture else []

    # --- budgets ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """See Keeper."""
        await self.sent.load(time_of_day(self.clock))
        await super().load()

    async def forget(self, record: Record) -> None:
        """See Keeper."""
        try:
            await self.sent.add(_digest_of(record), time_of_day(self.clock))
        except OSError as error:
            self.log.warning(self.program, f"{record.id}: cannot write down that it was faxed: {error}")
        await super().forget(record)

    def restore(self, published: Mapping[str, Any]) -> None:
        """See Keeper."""
        self._use = Use.of(published)

    def published(self) -> Mapping[str, Any]:
        """See Keeper."""
        return self._use.published(time_of_day(self.clock))

    def spend(self, allowed: Allowed, caller: Caller, pages: int) -> Refusal | None:
        """Count a fax of so many pages to each of these numbers, or say why not."""
        now = time_of_day(self.clock)
        refusal = self._rules.affordable(allowed, caller, self._use, pages, now)
        if refusal is None:
            self._use.take(caller.key, allowed.spending(pages, self._service.page_time), now)
        return refusal

    def give_back(self, call: Call, caller: Caller, pages: int) -> None:
        spent = Spent(1, pages, call.cost(pages, self._service.page_time))
        self._use.give_back(caller.key, spent, time_of_day(self.clock))

    # --- for one delivery ------------------------------------------------------------------------------------------

    def record_of(self, request: Request, at: int, call: Call, caller: Caller, draft: _Draft, when: float) -> Record:
        """A fax that is about to be handed over."""
        entry, recipient = request.entry, request.recipients[at]
        if self._service.confirm and not recipient.notify:
            recipient = replace(recipient, notify=NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY)
        tag = f"{entry.id}-{secrets.token_hex(8)}"
        record = Record.of(
            self._service.name, call.number.name, "", tag, entry.id, time_of_day(self.clock), entry.envelope,
            [recipient],
        )
        record.name = tag
        record.facts = {
            "call": call.number.line, "pages": str(draft.pages), "picture": draft.picture, "when": str(when),
        }
        return record

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        return await self._ask(question)


class _Draft:
    """What was drawn for a recipient."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.token = result.details.pop("fax_draft", "")
        self.pages = int(result.details.pop("fax_pages", "0"))
        self.picture = ""


class _Faxes:
    """The faxes of one delivery."""

    def __init__(self, keeper: FaxKeeper, request: Request, caller: Caller) -> None:
        self._keeper = keeper
        self._request = request
        self._caller = caller
        self._known = {_digest_of(record): record for record in keeper.own()}
        self._allowed: dict[int, Allowed] = {}
        """By place in the request: the numbers that are left to be sent to."""
        self._queued: dict[int, dict[str, str]] = {}
        """By place and line: what the line has."""
        self._drafts: dict[int, _Draft] = {}
        self._ends: dict[int, Result] = {}

    async def take_up(self, at: int, allowed: Allowed) -> None:
        """What an earlier attempt has left behind."""
        left: list[Call] = []
        for call in allowed.calls:
            record = self._record(at, call.number)
            if record is not None:
                await self._resolve(at, call, record)
            if not self.is_done(at, call.number):
                left.append(call)
        self._allowed[at] = replace(allowed, calls=tuple(left))

    def is_done(self, at: int, number: Number) -> bool:
        """Whether nothing is to be done for that number any more."""
        record = self._record(at, number)
        queued = self._queued.setdefault(at, {})
        if record is not None and record.job:
            queued[number.line] = f"{record.peer} as job {record.job}"
        elif self._digest(at, number) in self._keeper.sent:
            queued[number.line] = f"{number.name}, and has ended there"
        return number.line in queued

    async def _resolve(self, at: int, call: Call, record: Record) -> None:
        """Ask whether the line has it."""
        keeper = self._keeper
        try:
            job = (await keeper.ask_for([record])).get(record.mark)
        except Exception as error:
            self._ends[at] = keeper.unreachable(error)
            return
        if job is not None:
            record.job = job.job
            await keeper.register.change(record)
        elif time_of_day(keeper.clock) - record.queued > REMEMBERED:
            text = "after an interruption nobody can tell whether it was sent; it is not sent again"
            self._ends[at] = Result(BOUNCED, "5.4.0", f"fax to {record.peer}: {text}", keeper.terms.name)
            await keeper.register.remove(record)
        else:
            await keeper.register.remove(record)
            keeper.give_back(call, self._caller, int(record.facts["pages"]))

    async def draw(self) -> None:
        """The documents of all that have none yet."""
        request, places = self._request, [at for at, one in self._allowed.items() if one.calls and at not in self._ends]
        if not places:
            return
        part = Request(
            request.entry, request.service, request.nexthop, [request.indexes[at] for at in places],
            [request.addresses[at] for at in places],
        )
        pictures: dict[str, str] = {}
        for at, result in zip(places, await self._keeper.inner.deliver(part), strict=True):
            draft = self._drafts[at] = _Draft(result)
            if draft.token and draft.token not in pictures:
                told = await self._keeper.ask({"do": "picture", "draft": draft.token})
                pictures[draft.token] = told["picture"]
            draft.picture = pictures.get(draft.token, "")

    async def send(self, at: int) -> Result:
        """All faxes of a recipient."""
        keeper, allowed = self._keeper, self._allowed[at]
        if at in self._ends:
            return self._ends[at]
        draft = self._drafts.get(at)
        if draft is not None:
            if draft.result.status != SENT:
                return draft.result
            try:
                when = moment_of(allowed.address.when, time_of_day(keeper.clock)) if allowed.address.when else 0.0
            except BadAddress as error:
                return keeper.refused(Refusal("5.1.3", str(error)))
            if refusal := keeper.spend(allowed, self._caller, draft.pages):
                return keeper.refused(refusal)
            failures = []
            for call in allowed.calls:
                if (failure := await self._send(at, call, draft, when)) is not None:
                    failures.append(failure)
            if failures:
                return min(failures, key=lambda one: one.status != BOUNCED)
        reason = f"queued for {', '.join(self._queued[at].values())}"
        if draft is not None:
            reason += f", {draft.pages} page{'s' * (draft.pages != 1)}"
        return Result(SENT, "2.0.0", reason, keeper.terms.name, details={"action": "passed"})

    async def _send(self, at: int, call: Call, draft: _Draft, when: float) -> Result | None:
        """One fax; None if it was queued."""
        keeper, number = self._keeper, call.number
        record = keeper.record_of(self._request, at, call, self._caller, draft, when)
        try:
            await keeper.register.add(record, await keeper.kept(self._request))
        except (OSError, SpoolError) as error:
            keeper.give_back(call, self._caller, draft.pages)
            keeper.log.warning(keeper.program, f"{record.id}: cannot put the fax on record: {error}")
            return Result(DEFERRED, "4.3.0", "the fax cannot be put on record now", keeper.terms.name)
        fax = {
            "tag": record.mark, "dial": number.dial, "name": number.name, "subaddress": number.subaddress,
            "sender": self._caller.sender, "priority": self._allowed[at].address.priority, "when": when,
        }
        try:
            told = await keeper.ask({"do": "submit", "draft": draft.token, "fax": fax})
        except Exception as error:
            return keeper.unreachable(error)
        if "job" not in told:
            keeper.give_back(call, self._caller, draft.pages)
            await keeper.register.remove(record)
            permanent = bool(told["permanent"])
            return Result(
                BOUNCED if permanent else DEFERRED, "5.3.0" if permanent else "4.4.1", str(told["refused"]),
                keeper.terms.name, destination_down=not permanent,
            )
        record.job = str(told["job"])
        try:
            await keeper.register.change(record)
        except OSError as error:
            keeper.log.warning(keeper.program, f"{record.id}: cannot write down job {record.job}: {error}")
        self._queued[at][number.line] = f"{number.name} as job {record.job}"
        return None

    async def drop(self) -> None:
        tokens = sorted({draft.token for draft in self._drafts.values() if draft.token})
        if tokens:
            try:
                await self._keeper.ask({"do": "drop", "drafts": tokens})
            except Exception as error:  # it drops them by itself, later
                self._keeper.log.warning(self._keeper.program, f"drafts are left behind: {error}")

    def _digest(self, at: int, number: Number) -> str:
        envelope = self._request.entry.envelope
        return digest(envelope.arrival, envelope.message_id, self._request.recipients[at].address, number.line)

    def _record(self, at: int, number: Number) -> Record | None:
        record = self._known.get(self._digest(at, number))
        return record if record is not None and record.key in self._keeper.register.records else None


def caller_of(envelope: Envelope) -> Caller:
    client = envelope.client
    local = not client.address and not client.protocol
    return Caller(unquote(envelope.sender), client.sasl_username, client.address, local)


def _digest_of(record: Record) -> str:
    return digest(record.arrival, record.message_id, record.recipients[0]["address"], record.facts.get("call", ""))

