"""Stands before a service whose mail goes on waiting elsewhere, beside the queue, and follows its jobs.

A medium's keeper (transports.uucp.keeper, transports.fax.keeper) says how mail is handed on, and asks the other program
what has become of jobs; what follows from that is said here, every ``follow`` seconds:

    Waiting     after ``warn_after`` the sender is told (once); after ``lifetime`` the job is taken back and returned
    Ended       well: who asked for NOTIFY=SUCCESS is told; else it is returned to the sender
    Lost        nobody can tell: a line in our log
    nothing     nothing is concluded now

``tell``: what the notices module does, on messages that the register keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from gateway.clock import time_of_day
from gateway.interfaces import BOUNCED, DEFERRED, Attachment, Entry, IContentSource, Log, Request
from spool.interfaces import RecipientState, SpoolError
from transports import message
from transports.following.published import read_part, write_part
from transports.following.register import Record, Register, moment_of

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Asks the service, where the rights are; JSON values."""
InThread = Callable[..., Awaitable[Any]]


class Jobs(Protocol):
    """What another program says of its jobs."""

    async def answer(self, value: Any) -> dict[str, Any]:
        """JSON values.  Raises ValueError for what is malformed."""
        ...


@runtime_checkable
class HasJobs(Protocol):
    """A transport whose jobs can be asked about."""

    jobs: Jobs


class Tell(Protocol):
    """The part of gateway.notices.Notices that is used."""

    async def bounce(self, entry: Entry, indexes: Sequence[int], attached: Sequence[Attachment] = ()) -> None: ...

    async def delayed(self, entry: Entry, indexes: Sequence[int]) -> None: ...

    async def success(self, entry: Entry, indexes: Sequence[int], attached: Sequence[Attachment] = ()) -> None: ...


class Terms(Protocol):
    """What is said of the service in master.cf."""

    @property
    def name(self) -> str: ...
    @property
    def lifetime(self) -> float: ...
    @property
    def warn_after(self) -> float: ...
    @property
    def follow(self) -> float: ...


@dataclass(slots=True, frozen=True)
class Waiting:
    pass


@dataclass(slots=True, frozen=True)
class Ended:
    status: str
    """SENT or BOUNCED."""
    dsn: str
    text: str
    details: dict[str, str] = field(default_factory=dict)
    """As in a Result: "action" and the like."""


@dataclass(slots=True, frozen=True)
class Lost:
    text: str


Fate = Waiting | Ended | Lost


class Keeper:
    """``register`` holds the jobs of this service only in what it looks at; all services of a medium share it."""

    program = ""
    queue_name = ""
    """In the queue listing."""
    peers = ""
    """What those are called that jobs wait for."""

    def __init__(
        self, terms: Terms, inner: Any, register: Register, contents: IContentSource, tell: Tell, log: Log, clock: Any,
        in_thread: InThread, *, keep: int,
    ) -> None:
        self.terms = terms
        self.inner = inner
        self.register = register
        self.contents = contents
        self.log = log
        self.clock = clock
        self.in_thread = in_thread
        self._tell = tell
        self._keep = keep
        self._timer = LoopingCall(self._look)
        self._timer.clock = clock
        self._trouble = ""
        self._publishing = self._unpublished = False
        self._loaded: Deferred[None] | None = None
        self._unreadable = ""

    # --- what a medium says --------------------------------------------------------------------------------------

    async def fates(self, records: Sequence[Record]) -> Mapping[str, Fate]:
        """What has become of them, by their keys.  Raises whatever keeps it from knowing."""
        raise NotImplementedError

    async def take_back(self, record: Record) -> bool:
        """End its job; whether that was done.  Raises whatever keeps it from that."""
        raise NotImplementedError

    def state(self, record: Record) -> str:
        """What is known of a job that waits, for people; from the last look."""
        return ""

    def since(self, record: Record) -> float:
        """When its sender began to wait."""
        return record.arrival

    def attached(self, record: Record) -> Sequence[Attachment]:
        """What goes along with the notice of its end."""
        return ()

    async def forget(self, record: Record) -> None:
        """Its job has ended, and everybody was told."""
        await self.register.remove(record)

    def restore(self, published: Mapping[str, Any]) -> None:
        """What was published before a restart.  May raise ValueError, TypeError, KeyError."""

    def recount(self) -> None:
        """Jobs came, or went."""

    def published(self) -> Mapping[str, Any] | None:
        """What the SMTP server has to know now."""
        return None

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what is registered, and follow it."""
        if self._loaded is None:
            self._loaded = Deferred.fromCoroutine(self._load())
        self._timer.start(self.terms.follow, now=False)

    async def load(self) -> None:
        """Raises OSError, and what restore() does."""
        for what in await self.register.load():
            self.log.warning(self.program, f"a job's record cannot be read: {what}")
        self.restore(await self.in_thread(read_part, self.register.folder, self.terms.name))

    async def ready(self) -> str:
        """Come back when what is registered is known; why it is not."""
        if self._loaded is None or (self._loaded.called and self._unreadable):
            self._loaded = Deferred.fromCoroutine(self._load())
        await self._loaded
        return self._unreadable

    async def _load(self) -> None:
        self._unreadable = ""
        try:
            await self.load()
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._unreadable = f"cannot read the records of jobs: {error}"
            self.log.warning(self.program, self._unreadable)
        self.recount()

    def pause(self) -> None:
        """Follow no more."""
        if self._timer.running:
            self._timer.stop()

    async def stop(self) -> None:
        self.pause()
        await self.inner.stop()

    # --- jobs ----------------------------------------------------------------------------------------------------

    def own(self) -> list[Record]:
        return [record for record in self.register.records.values() if record.service == self.terms.name]

    def known(self) -> list[Record]:
        """The same for whoever explains, and has neither started this nor threads.  Raises OSError."""
        if not self.register.records:
            self.register.load_now()
        return self.own()

    async def kept(self, request: Request) -> bytes:
        """What notices return of a message.  Raises OSError, SpoolError."""
        content = await self.contents.content(request.entry.id, request.entry.where)
        try:
            if content.size > self._keep:
                return message.header(content) + b"\n"
            content.seek(0)
            return content.read()
        finally:
            content.close()

    async def remember(self, record: Record, request: Request) -> None:
        """Put a job on record that cannot be undone."""
        try:
            await self.register.add(record, await self.kept(request))
        except (OSError, SpoolError) as error:
            self.log.warning(self.program, f"{record.id}: job {record.job} will not be followed: {error}")

    # --- following -----------------------------------------------------------------------------------------------

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.look())

    async def look(self) -> None:
        """Ask what has become of the jobs.  Never raises."""
        try:
            await self.register.load()  # a scheduler that was replaced may have added some
            if records := self.own():
                fates = await self.fates(records)
                self._at_ease()
                told = [(record, fates[record.key]) for record in records if record.key in fates]
                for together in by_job(record for record, fate in told if isinstance(fate, Waiting)):
                    await self._still_there(together)
                for record, fate in told:
                    if record.key in self.register.records:  # nobody has taken it back meanwhile
                        await self._ended(record, fate)
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        self.recount()
        await self.publish()

    async def _still_there(self, records: list[Record]) -> None:
        """``records``: of one job."""
        terms, first, now = self.terms, records[0], time_of_day(self.clock)
        since = f"job {first.job} waits for {first.peer} since {moment_of(first.queued)}"
        state = self.state(first)
        reason = f"{since} ({state})" if state else since
        if 0 < terms.lifetime < now - max(map(self.since, records)):
            if await self.take_back(first):
                for record in records:
                    await self._failed(record, Ended(BOUNCED, "5.4.7", f"{reason}, and was taken back"))
            return
        for record in records:
            if 0 < terms.warn_after < now - self.since(record) and not record.warned:
                await self._tell.delayed(*_entry(record, Ended(DEFERRED, "4.4.1", reason), "delayed"))
                record.warned = True
                await self.register.change(record)

    async def _ended(self, record: Record, fate: Fate) -> None:
        if isinstance(fate, Waiting):
            return
        if isinstance(fate, Ended) and fate.status == BOUNCED:
            await self._failed(record, fate)
            return
        if isinstance(fate, Ended):
            await self._tell.success(*_entry(record, fate, "delivered"), self.attached(record))
            took = time_of_day(self.clock) - record.queued
            self.log.info(self.program, f"{record.id}: {fate.text}, relay={record.service}, delay={took:.0f}")
        else:
            self.log.warning(self.program, f"{record.id}: {fate.text}")
        await self.forget(record)

    async def _failed(self, record: Record, fate: Ended) -> None:
        await self._tell.bounce(*_entry(record, fate, "failed"), self.attached(record))
        for recipient in record.recipients:
            about = f"{record.id}: to=<{recipient['address']}>, relay={record.service}"
            self.log.info(self.program, f"{about}, dsn={fate.dsn}, status=bounced ({fate.text})")
        await self.forget(record)

    # --- for administrators ----------------------------------------------------------------------------------------

    def listing(self) -> Iterator[dict[str, Any]]:
        """What waits, as postqueue -j has it."""
        for record in sorted(self.own(), key=lambda record: record.queued):
            yield record.listed(self.queue_name, self.peers, self.state(record))

    def waiting(self) -> dict[str, dict[str, Any]]:
        """For whom how much waits, and since when (seconds since the epoch)."""
        found: dict[str, dict[str, Any]] = {}
        for record in sorted(self.own(), key=lambda record: record.queued):
            one = found.setdefault(
                record.peer, {"messages": 0, "bytes": 0, "since": record.queued, "state": self.state(record)}
            )
            one["messages"] += 1
            one["bytes"] += record.size
        return found

    async def cancel(self, ids: Collection[str] | None) -> list[str]:
        """Take the jobs of these messages back, or all; nobody is told.  A job that carries others, too, stays.  The
        IDs of those that are gone."""
        done: list[str] = []
        for records in by_job(self.own()):
            chosen = [record.id for record in records if ids is None or record.id in ids]
            if not chosen:
                continue
            job, wanted = records[0].job, ", ".join(chosen)
            if len(chosen) < len(records):
                self.log.warning(self.program, f"{wanted}: stays: job {job} carries other messages, too")
                continue
            try:
                killed = await self.take_back(records[0])
            except Exception as error:
                self.log.warning(self.program, f"{wanted}: cannot take job {job} back: {error}")
                continue
            for record in records if killed else ():
                self.log.info(self.program, f"{record.id}: job {job} for {record.peer} taken back")
                await self.register.remove(record)
                done.append(record.id)
        self.recount()
        await self.publish()
        return done

    # --- limits and trouble ----------------------------------------------------------------------------------------

    async def publish(self) -> None:
        """What comes while the file is being written is written once more, by whoever is at it."""
        self._unpublished = True
        if self._publishing:
            return
        self._publishing = True
        try:
            while self._unpublished:
                self._unpublished = False
                part = self.published()
                if part is not None:
                    await self.in_thread(write_part, self.register.folder, self.terms.name, part)
        except OSError as error:
            self._complain(f"limits cannot be written down: {error}")
        finally:
            self._publishing = False

    def _complain(self, trouble: str) -> None:
        """Once, not each time."""
        if trouble != self._trouble:
            self.log.warning(self.program, f"service {self.terms.name}: jobs cannot be followed: {trouble}")
        self._trouble = trouble

    def _at_ease(self) -> None:
        self._trouble = ""


def _entry(record: Record, fate: Ended, action: str) -> tuple[Entry, range]:
    envelope = record.envelope()
    states = [
        RecipientState(
            True, fate.status, fate.dsn, fate.text, record.service, {"action": action, **fate.details}
        )
        for _ in envelope.recipients
    ]
    return Entry(record.id, envelope, states), range(len(states))


def by_job(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.job or record.key].append(record)
    return list(found.values())
