"""The spool on disk: one file a message, in Maildir folders.

    incoming/{tmp,new,cur}   messages that were never tried, or whose first attempt is running; drafts in tmp/N
    deferred/…               to be tried again later
    hold/…                   put aside until released
    corrupt/…                what cannot be read; never deleted by us
    progress/N/              journals: what became of recipients (spool.journal)

File names: spool.names; the form of the files: spool.format.  All folders are the mail owner's alone.  Any mail reader
can open a folder.

Leases are in this object's memory only: one process claims (the scheduler), any number of others make drafts, change
things, or copy whole spools in.  What they put there is found when the folders are looked through: once a minute, or
at the next claim() after an adopt() that could not be sure.  A process that is replaced while deliveries run tells its
heir which messages it still holds (others_hold, given_back).

What is on disk, and what a crash or power cut leaves
-----------------------------------------------------
| step                            | on disk                              | after a crash there                        |
|---------------------------------|--------------------------------------|--------------------------------------------|
| draft, spilled                  | incoming/tmp/N/ID                    | nobody was told 250: purged after a day    |
| commit: write, fdatasync        | incoming/tmp/N/ID                    | the same                                   |
| commit: rename                  | incoming/new/ID, not durable yet     | queued, or (power) as before               |
| commit: fsync of the folder     | incoming/new/ID; now 250 is sent     | queued                                     |
| progress: append                | + progress/N/ID, perhaps cut off     | cut-off line skipped: that recipient again |
| progress: fdatasync, fsync (*)  | + progress/N/ID; now it is reported  | done recipients are not tried again        |
| release: append, rename, fsync  | deferred/new/DUE.ID.N + progress/N/ID| waits, or (power) still incoming: is due   |
| hold, unhold, requeue: rename   | hold/new/… or deferred/new/…         | one or the other                           |
| finish, delete: unlink, fsync   | progress/N/ID                        | gone, or (power) as before, with journal   |
| finish, delete: unlink journal  | nothing                              | journal alone: purged after a day          |
| finish without journal: unlink  | nothing, not durable yet             | gone, or (power) as before: is tried again |
| … fsync of the folder           | nothing; now it is reported          | gone                                       |
| shorten journal: write, rename  | incoming/tmp/N/ID.journal, journal   | either journal says the same               |
| set aside: rename               | corrupt/new/…                        | where it was: is found broken again        |

(*) Not if all that was appended is why recipients were put off: they are tried again in any case, and without that
record only the queue listing has less to tell.

A message is in one folder at any time, for each change of folder is one rename.  Whatever must not happen twice is
durable before it is reported, the end of a message as well: one sync of the folder serves all of a twentieth of a
second.  So a crash can repeat a delivery that was going on, a power cut also one that had just ended and was told to
nobody yet, and nothing else.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from spool import ids, journal, names, upkeep
from spool.batch import Group, Threads, in_thread, spool_error
from spool.changes import change
from spool.content import FileContent, MemoryContent
from spool.draft import Draft
from spool.envelope import Envelope
from spool.files import Files
from spool.interfaces import (
    QUEUE_NAMES,
    Changes,
    Content,
    Entry,
    ISpool,
    Listed,
    Progress,
    RecipientState,
    SpoolError,
)
from spool.jobs import Move, Note, Settle, Unlink
from spool.names import DEFERRED, HOLD, INCOMING, Place
from spool.recent import FRESH, Contents, Settled
from spool.shelf import Shelf
from spool.store import NAMES_AT_ONCE, QUEUES, SLICE, Found, NotYet, Store, due_time, read_each
from spool.threads import WorkerThreads

LOOK_INCOMING, LOOK_DEFERRED = 10.0, 60.0
"""Seconds between looks into folders for what others have put there."""

ALWAYS = 1e18
"""A time by which everything is due: for what was never tried, whatever the clock says of when it came."""

PURGE_INTERVAL = 86_400.0

SYNCS_APART = 0.05
"""Seconds at least between syncs of folders from which messages have gone: nobody waits for that."""

ENDED_KEPT = 10_000
"""Messages whose lease was ended by hold() and whose delivery may still come to an end."""


@dataclass(slots=True)
class _Lease:
    place: Place
    journal: bool
    """There is a journal (for sure; False: perhaps not)."""
    named: bool = False
    """… and its name is durable."""
    unsaved: bytes = b""
    """Records that could not be written."""
    requeue: bool = False
    """Asked for while it was leased."""


@implementer(ISpool)
class MaildirSpool:
    """``reactor``: seconds, callLater, callFromThread, and time_of_day if its seconds are not that.  ``threads``: where
    waiting for the disk is done; without it there are threads of its own.  ``longest_wait``: what is deferred until
    later than so many seconds from now was so by a clock that was wrong, and is due.  ``report`` gets one line of text
    for each trouble."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        reactor: Any,
        threads: Threads | None = None,
        files: Files | None = None,
        report: Callable[[str], None] = lambda text: None,
        random: Callable[[int], bytes] = os.urandom,
        names_at_once: int = NAMES_AT_ONCE,
        longest_wait: float = inf,
    ) -> None:
        self._reactor = reactor
        self._time_of_day: Callable[[], float] = getattr(reactor, "time_of_day", reactor.seconds)
        self._longest_wait = longest_wait
        self._report = report
        self.store = Store(
            directory,
            files=files,
            clock=self._time_of_day,
            report=lambda text: reactor.callFromThread(report, text),
        )
        self._own_threads: WorkerThreads | None = None
        if threads is None:
            threads = self._own_threads = WorkerThreads()
        self._threads: Threads = threads
        self._group = Group(self.store.files, self._threads, reactor)
        self._settling = Group(self.store.files, self._threads, reactor, 1, SYNCS_APART)
        self._ids = ids.Generator(self._time_of_day, random)
        self._leases: dict[str, _Lease] = {}
        self._ended: OrderedDict[str, _Lease] = OrderedDict()
        self.others: set[str] = set()
        """On lease with a process that is about to end."""
        self._settled = Settled(self._time_of_day, reactor.seconds)
        self._contents = Contents()
        self._postponed: dict[str, float] = {}
        self._unremoved: list[str] = []
        """Done with, but the disk did not let go of them."""
        self._read_only = False
        """Results could not be written: nothing more is leased until something can be."""
        self._incoming = Shelf(INCOMING, names_at_once, LOOK_INCOMING)
        self._deferred = Shelf(DEFERRED, names_at_once, LOOK_DEFERRED)
        self._claiming = DeferredLock()
        self._next_purge = 0.0
        self._complained: set[str] = set()
        self._free = (-1.0, 0)

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make missing folders.  Raises OSError when there can be no spool here."""
        self.store.make_folders()

    async def stop(self) -> None:
        """End when what has been asked for is done."""
        await self._claiming.run(lambda: None)
        await self._group.drained()
        await self._settling.drained()
        if self._own_threads is not None:
            self._own_threads.stop()

    # --- in -----------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        return self._ids.next()

    def draft(self, envelope: Envelope, id: str = "") -> Draft:
        id, kept = id or self._ids.next(), self._contents.keep
        return Draft(id, envelope, self.store, self._group, self._threads, self._reactor, kept)

    def free_bytes(self) -> int:
        now = self._reactor.seconds()
        if not 0 <= now - self._free[0] < 1:
            self._free = (now, self.store.free_bytes())
        return self._free[1]

    # --- leases ---------------------------------------------------------------------------------------------------

    def adopt(self, id: str, envelope: Envelope) -> Entry | None:
        if id in self._leases or id in self.others:
            return None
        if not self._settled.is_new(id):
            self._incoming.look_soon()
            return None
        self._leases[id] = lease = _Lease(Place(INCOMING, id), False)
        return _entry(lease.place, envelope, [RecipientState() for _ in envelope.recipients])

    def note_new(self, id: str) -> None:
        self._incoming.put(ids.time_of(id), Place(INCOMING, id))

    async def claim(self, limit: int) -> list[Entry]:
        moment = self._reactor.seconds()
        if self._read_only:
            await self._try_to_write()
        if moment >= self._next_purge:
            self._next_purge = moment + PURGE_INTERVAL
            in_thread(self._threads, self._reactor, upkeep.purge, self.store).addErrback(self._trouble)
        now = self._time_of_day()
        if not any(shelf.has_due(by) or shelf.wants_scan(by, moment) for shelf, by in self._shelves(now)):
            return []
        await self._claiming.acquire()
        try:
            return await self._claim(limit, now)
        finally:
            self._claiming.release()

    async def _try_to_write(self) -> None:
        """See whether the spool can be written to again, and do what could not be done.  Raises SpoolError if not."""
        await in_thread(self._threads, self._reactor, self.store.try_to_write)
        self._read_only = False
        unremoved, self._unremoved = self._unremoved, []
        for id in unremoved:
            await self.finish(id)

    def _refused(self, error: SpoolError) -> None:
        """The disk refuses a change.  A full one may still take others: what is removed makes room."""
        self._read_only = self._read_only or not error.no_room

    async def _claim(self, limit: int, now: float) -> list[Entry]:
        entries: list[Entry] = []
        await self._look(now)  # or a long queue in one folder would keep what is new in the other waiting
        while len(entries) < limit:
            places = self._take(min(limit - len(entries), SLICE), now)
            if not places:
                if not await self._look(now):
                    break
                continue
            for one in places:
                self._leases[one.id] = _Lease(one, False)
            try:
                read = await in_thread(self._threads, self._reactor, read_each, self.store, places)
            except BaseException:
                for one in places:
                    del self._leases[one.id]
                raise
            for one, found in read:
                entry = self._claimed(one, found)
                if entry is not None:
                    entries.append(entry)
        return entries

    def _take(self, count: int, now: float) -> list[Place]:
        """What is due, new and deferred messages by turns."""
        places: list[Place] = []
        taken = set()
        shelves, back = self._shelves(now), []
        while shelves and len(places) < count:
            shelf, by = shelves.pop(0)
            one = shelf.take(by)
            if one is None:
                continue
            shelves.append((shelf, by))
            if one.id in self._leases or one.id in taken or one.id in self.others:
                continue
            later = self._postponed.get(one.id, 0.0)
            if later > now:
                back.append((shelf, later, one))
                continue
            self._postponed.pop(one.id, None)
            taken.add(one.id)
            places.append(one)
        for shelf, later, one in back:
            shelf.put(later, one)
        return places

    def _shelves(self, now: float) -> list[tuple[Shelf, float]]:
        """Each with the time by which its messages are due."""
        return [(self._incoming, ALWAYS), (self._deferred, now)]

    async def _look(self, now: float) -> bool:
        """Look through the folders that need it.  False: none does."""
        looked = False
        for shelf, by in self._shelves(now):
            began = self._reactor.seconds()
            if not shelf.wants_scan(by, began):
                continue
            shelf.begin_scan()
            try:
                # Without what cannot be claimed now, which could fill the shelf.
                skip = self._leases.keys() | self.others | {id for id, later in self._postponed.items() if later > now}
                look = self.store.smallest
                found = await in_thread(self._threads, self._reactor, look, shelf.folder, shelf.most, skip)
            except SpoolError as error:
                shelf.scan_failed(began)
                self._report(f"cannot look through {shelf.folder}: {error}")
                continue
            shelf.end_scan(found, began, self._reactor.seconds() - began, now + self._longest_wait)
            looked = True
        return looked

    def _claimed(self, one: Place, found: Found | SpoolError | None) -> Entry | None:
        """Turn what was read into a lease, or end it."""
        lease = self._leases.get(one.id)
        if isinstance(found, Found) and lease is not None:
            lease.journal = found.journal > 0
            self._settled.add(one.id)
            return _entry(one, found.envelope, found.states)
        self._leases.pop(one.id, None)
        if isinstance(found, NotYet):
            self._postponed[one.id] = self._time_of_day() + FRESH
            if one.id not in self._complained:
                if len(self._complained) > 1000:
                    self._complained.clear()
                self._complained.add(one.id)
                self._report(f"{one.folder}/{one.name}: {found}")
        return None

    # --- results ----------------------------------------------------------------------------------------------------

    async def progress(self, id: str, results: Sequence[Progress]) -> None:
        if results:
            await self._note(id, journal.results(results), any(map(_must_last, results)))

    async def amend(self, id: str, envelope: Envelope) -> None:
        await self._note(id, journal.amendment(envelope), True)

    async def _note(self, id: str, data: bytes, durable: bool) -> None:
        lease = self._leases.get(id) or self._ended.get(id)
        if lease is None:
            return
        unsaved, lease.unsaved = lease.unsaved, b""
        durable = durable or bool(unsaved)
        try:
            await self._group.submit(Note(self.store.journal(id), unsaved + data, not lease.named, durable))
        except SpoolError as error:
            lease.unsaved += unsaved + data
            self._refused(error)
            raise
        lease.journal = True
        lease.named = lease.named or durable

    async def release(self, id: str, not_before: float, results: Sequence[Progress] = ()) -> str:
        lease = self._leases.get(id)
        self._contents.drop(id)
        if lease is None:
            self._ended.pop(id, None)
            return ""
        place, note = lease.place.deferred(not_before, lease.place.attempts + 1), lease.unsaved
        durable = bool(note) or any(map(_must_last, results))
        if results:
            note += journal.results(results)
        if lease.requeue:
            place = place.requeued(self._time_of_day())
        job = Move(
            self.store.path(lease.place),
            self.store.path(place),
            Note(self.store.journal(id), note, not lease.named, durable) if note else None,
        )
        try:
            moved = await self._group.submit(job)
        except SpoolError as error:
            self._postponed[id] = not_before
            self._refused(error)
            self._report(f"{id}: cannot defer: {error}")
            moved = None
        if self._leases.get(id) is not lease:
            return ""
        del self._leases[id]
        self._settled.add(id)
        if moved:
            self._deferred.put(float(place.due), place)
            return place.where
        if moved is None:
            self._shelf(lease.place).put(not_before, lease.place)
            return lease.place.where
        self._look_soon()
        return ""

    def let_go(self, id: str) -> str:
        lease = self._leases.pop(id, None)
        if lease is None:
            return ""
        self._contents.drop(id)
        self._settled.add(id)
        return lease.place.where

    def others_hold(self, ids: Iterable[str]) -> None:
        self.others.update(ids)

    def given_back(self, id: str, where: str | None) -> None:
        self.others.discard(id)
        place = names.at(where) if where else None
        if where is None:
            self._look_soon()
        elif place is not None and place.folder in (INCOMING, DEFERRED):
            self._shelf(place).put(due_time(place), place)

    async def finish(self, id: str) -> None:
        lease = self._leases.get(id) or self._ended.pop(id, None)
        self._contents.drop(id)
        if lease is None:
            return
        path, known = self.store.path(lease.place), self.store.journal(id) if lease.journal else None
        try:
            if not await self._group.submit(Unlink(path)):
                # Somebody else has moved it.
                await in_thread(self._threads, self._reactor, change, self.store, "delete", [id])
            await self._settling.submit(Settle(os.path.dirname(path), known))
        except SpoolError as error:
            self._report(f"{id}: cannot remove: {error}")
            self._unremoved.append(id)
            self._read_only = True
            return
        self._leases.pop(id, None)
        self._settled.add(id)

    async def content(self, id: str, where: str = "") -> Content:
        kept = self._contents.get(id)
        if kept is not None:
            return MemoryContent(*kept, lambda: self._open(self._place(id) or Place(INCOMING, id)))
        known = self._place(id, where)
        if known is not None and self._settled.is_fresh(id):
            return self._open(known)
        return await in_thread(self._threads, self._reactor, self._open_cold, id, known)

    def _place(self, id: str, where: str = "") -> Place | None:
        lease = self._leases.get(id) or self._ended.get(id)
        if lease is not None:
            return lease.place
        return names.at(where)

    def _open(self, known: Place) -> FileContent:
        try:
            return FileContent(self.store.files, self.store.path(known))
        except OSError as error:
            raise spool_error(error) from error

    def _open_cold(self, id: str, known: Place | None) -> FileContent:
        """In a thread: open, looking for the file if it is not where it should be."""
        try:
            content = FileContent(self.store.files, self.store.path(known or Place(INCOMING, id)))
        except FileNotFoundError:
            found = self.store.find([id]).get(id)
            if found is None:
                raise SpoolError("message is gone") from None
            content = self._open(found)
        content.warm()
        return content

    # --- administration ------------------------------------------------------------------------------------------

    async def hold(self, id: str) -> bool:
        return (await self.change("hold", [id])).count > 0

    async def unhold(self, id: str) -> bool:
        return (await self.change("release", [id])).count > 0

    async def delete(self, id: str) -> bool:
        return (await self.change("delete", [id])).count > 0

    async def requeue(self, id: str) -> bool:
        return (await self.change("requeue", [id])).count > 0

    async def expire(self, id: str) -> bool:
        return (await self.change("expire", [id])).count > 0

    async def due_now(self, id: str | None = None) -> int:
        return (await self.change("flush", None if id is None else [id])).count

    async def change(self, action: str, ids: Sequence[str] | None, queues: Sequence[str] = QUEUE_NAMES) -> Changes:
        leased = {id: self._leases[id] for id in (self._leases if ids is None else ids) if id in self._leases}
        changes = Changes()
        if leased and "active" in queues:
            changes.ids = await self._change_leased(action, leased)
            changes.count = len(changes.ids)
        folders = [folder for folder in QUEUES if folder in queues]
        wanted = None if ids is None else [id for id in ids if id not in leased]
        if not folders or wanted == []:
            return changes
        changed = await in_thread(
            self._threads, self._reactor, change, self.store, action, wanted, folders, None, frozenset(leased)
        )
        for id, place in changed.places.items():
            self._contents.drop(id)
            self._ended.pop(id, None)
            if place is not None and place.folder != HOLD:
                self._shelf(place).put(due_time(place), place)
        if ids is None and action in ("release", "requeue", "expire", "flush"):
            self._look_soon()
        if changed.error is not None:
            raise changed.error
        changes.count += changed.count
        changes.ids += changed.places
        return changes

    async def _change_leased(self, action: str, leased: dict[str, _Lease]) -> list[str]:
        """Change what is being delivered; the IDs of what was changed."""
        if action not in ("delete", "hold", "expire", "requeue"):
            return []
        known = {id: lease.place for id, lease in leased.items()}
        changed = await in_thread(self._threads, self._reactor, change, self.store, action, list(known), QUEUES, known)
        for id, place in changed.places.items():
            lease = leased[id]
            if place is not None:
                lease.place = place
                lease.requeue = lease.requeue or action == "requeue"
            if place is None or place.folder == HOLD:
                self._contents.drop(id)
                if self._leases.get(id) is lease:
                    del self._leases[id]
                    self._settled.add(id)
                if place is not None:
                    self._ended[id] = lease
                    while len(self._ended) > ENDED_KEPT:
                        self._ended.popitem(last=False)
        if changed.error is not None:
            raise changed.error
        return list(changed.places)

    async def set_aside(self, id: str, why: str) -> None:
        known = self._place(id)
        await in_thread(self._threads, self._reactor, self._set_aside, id, known, why)
        self._contents.drop(id)
        if self._leases.pop(id, None) is not None:
            self._settled.add(id)

    def _set_aside(self, id: str, known: Place | None, why: str) -> None:
        place = known or self.store.find([id]).get(id)
        if place is not None:
            self.store.set_aside(place, why)

    async def listing(self) -> list[Listed]:
        return [one async for some in self.slices() for one in some]

    async def slices(self) -> AsyncIterator[list[Listed]]:
        source = self.store.listing([lease.place for lease in self._leases.values()])
        while True:
            some: list[Listed] | None = await in_thread(self._threads, self._reactor, next, source, None)
            if some is None:
                return
            yield [
                replace(one, queue="active") if one.id in self._leases or one.id in self.others else one
                for one in some
            ]

    def next_due(self) -> float | None:
        return self._deferred.next_due()

    # --- within -----------------------------------------------------------------------------------------------------

    def _shelf(self, place: Place) -> Shelf:
        return self._incoming if place.folder == INCOMING else self._deferred

    def _look_soon(self) -> None:
        self._incoming.look_soon()
        self._deferred.look_soon()

    def _trouble(self, failure: Any) -> None:
        self._report(f"cleaning up: {failure.value}")


def _must_last(result: Progress) -> bool:
    """Whether a power cut must not take it: somebody has got the message, or perhaps was told of it."""
    state = result.state
    return state.done or state.status != "deferred" or bool(state.others)


def _entry(place: Place, envelope: Envelope, states: list[RecipientState]) -> Entry:
    return Entry(
        place.id,
        envelope,
        states,
        place.folder,
        place.attempts,
        float(place.due),
        place.expire,
        place.requeue,
        place.where,
    )
