"""The store of messages, as the rest of the gateway sees it.

A spool is a store of leases.  What is durable, and in which order, is a promise: see each method.
Methods that say *awaitable* may be coroutines or return a Deferred; they never block the reactor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zope.interface import Attribute, Interface

from spool.envelope import Envelope, Recipient

QUEUE_NAMES = ("incoming", "active", "deferred", "hold")


class SpoolError(Exception):
    """Something cannot be stored or read.  ``no_room``: the disk or the quota is full."""

    def __init__(self, text: str, *, no_room: bool = False) -> None:
        super().__init__(text)
        self.no_room = no_room


@dataclass(slots=True)
class RecipientState:
    """What is on record of a recipient of a message that is still in the spool."""

    done: bool = False
    """Nothing is left to be done: delivered, or bounced and the bounce is on record."""
    status: str = ""
    """"sent", "deferred", "bounced" … of the last attempt; "" = never tried."""
    dsn: str = ""
    reason: str = ""
    relay: str = ""
    details: dict[str, str] = field(default_factory=dict)
    """Further facts for a notification (remote MTA, diagnostic type, action)."""
    recipient: Recipient | None = None
    """Whom this is about, if not the recipient of the envelope: a member of an alias."""
    others: tuple[RecipientState, ...] = ()
    """What else became of it, where one recipient stands for several."""


@dataclass(slots=True)
class Entry:
    """A message under lease.  ``states`` runs parallel to ``envelope.recipients``."""

    id: str
    envelope: Envelope
    states: list[RecipientState]
    queue: str = "incoming"
    """"incoming" (never tried) or "deferred"."""
    attempts: int = 0
    not_before: float = 0.0
    expire: bool = False
    """Return it to the sender at the next attempt, whatever its age (postsuper -e, -f)."""
    requeue: bool = False
    """Have it taken in anew at the next attempt, with rewriting and routing as they are then (postsuper -r)."""
    where: str = ""
    """A hint for another process's content(): where the message is, in the store's own terms; "" = not known."""


@dataclass(slots=True)
class Progress:
    """One recipient's result, to be recorded; ``index`` counts in ``envelope.recipients``."""

    index: int
    state: RecipientState


class Content(Protocol):
    """The message of an entry: LF line ends, header first.  Reads come from the page cache."""

    size: int
    offset: int
    """Where the message begins in the file behind ``fileno()``."""

    def read(self, count: int = -1) -> bytes: ...

    def seek(self, position: int) -> None:
        """Go to a byte position counted from the message's first byte."""
        ...

    def fileno(self) -> int:
        """A descriptor whose *file* position is of no meaning; ``offset`` is where the message begins."""
        ...

    def close(self) -> None: ...


class IDraft(Interface):
    """A message on its way into the spool, not yet anybody's responsibility."""

    id = Attribute("Its queue ID, never used before or again")
    envelope = Attribute("The Envelope that commit() will write")
    full = Attribute("Too much of it waits in memory for the disk: write no more until drained() fires")

    def drained() -> Awaitable[None]:
        """Fires when the draft is not ``full`` (any more)."""

    def write(block: bytes) -> None:
        """Append content (LF line ends).  Small drafts stay in memory until commit; larger ones spill to a
        file under tmp.  An error of the disk is kept and raised by commit()."""

    def read(position: int, count: int) -> Awaitable[bytes]:
        """What has been written: up to ``count`` bytes of content from there; fewer only at its end.  Raises
        SpoolError."""

    def replace(kept_from: int, front: bytes) -> Awaitable[None]:
        """``front`` takes the place of all content before the position ``kept_from``.  Raises SpoolError."""

    def commit(hold: bool = False) -> Awaitable[bytes]:
        """Make it durable: data and name are on disk when this fires (fdatasync, rename, fsync of the folder;
        drafts that arrive together share the work).  ``draft.envelope`` is written as it is now, with
        ``size`` set; fires with its stored form (spool.format).  Raises SpoolError; then nothing is left behind."""

    def abort() -> None:
        """Forget it.  Idempotent; no effect after a commit."""


class IContentSource(Interface):
    """How a transport gets at a message: the part of ISpool that it may use."""

    def content(id: str, where: str = "") -> Awaitable[Content]:
        """Open the message of an entry.  The caller closes it.  Raises SpoolError when it is gone or unreadable.
        A process that does not hold the lease gives ``entry.where`` along, to spare a search."""


class ISpool(IContentSource):
    """See spool.maildir for the provider on disk and spool.memory for the one without."""

    def new_id() -> str:
        """An ID that was never given before, for a draft that may come later."""

    def draft(envelope: Envelope, id: str = "") -> IDraft:
        """A new draft with attributes ``id`` (one from new_id(), by default a fresh one) and ``envelope``."""

    def claim(limit: int) -> Awaitable[list[Entry]]:
        """Lease up to ``limit`` entries that nobody holds: new ones, and deferred ones whose time has come;
        oldest due first as far as the store can tell.  [] = nothing is due now.  Raises SpoolError when the store
        cannot be read, or could not be written to and still cannot: what is delivered then would be again."""

    def adopt(id: str, envelope: Envelope) -> Entry | None:
        """Lease an entry that was just committed (its envelope is known, so nothing is read).  None if it is
        leased already or its state is not known to be fresh (then the next claim() will find it)."""

    def note_new(id: str) -> None:
        """An entry was just committed, and the caller has no room for it now: a claim() will find it."""

    def progress(id: str, results: Sequence[Progress]) -> Awaitable[None]:
        """Record results, durably unless all of them say "deferred".  The caller reports (logs, notifies) only after
        this fired.  Raises SpoolError when they cannot be recorded now; they are then recorded with the next ones.
        Like amend(), release(), finish(): no effect on a message that has gone meanwhile."""

    def amend(id: str, envelope: Envelope) -> Awaitable[None]:
        """Record changed envelope flags (warned)."""

    def release(id: str, not_before: float, results: Sequence[Progress] = ()) -> Awaitable[str]:
        """Give a lease back: the entry is deferred until ``not_before`` (seconds since the epoch).  ``results`` are
        recorded with that.  Does not fail: what the disk refuses is reported and kept in mind instead.  Fires with
        where the message is (see Entry); "" = not known."""

    def let_go(id: str) -> str:
        """End a lease and leave the entry as it is.  Where it is; "" = it was not leased."""

    def others_hold(ids: Iterable[str]) -> None:
        """These are on lease with another process, which is about to end its work: they are not to be leased until
        given_back()."""

    def given_back(id: str, where: str | None) -> None:
        """Another process has ended such a lease.  ``where`` the entry is; "" = it is gone; None = not known."""

    def finish(id: str) -> Awaitable[None]:
        """All is done: remove the message, durably; the caller reports only after this fired.  Does not fail: a message
        that cannot be removed is reported, and not claimed again by this process; it is tried again when the store can
        be written to."""

    def hold(id: str) -> Awaitable[bool]:
        """Put it aside until unhold().  False if there is none.  A lease on it ends."""

    def unhold(id: str) -> Awaitable[bool]:
        """Release from hold: due at once, as a deferred message."""

    def delete(id: str) -> Awaitable[bool]:
        """Remove it, whoever holds it."""

    def requeue(id: str) -> Awaitable[bool]:
        """Have it taken in anew within a minute, or with the next flush: Entry.requeue (the rest is the caller's).  If
        it is leased, that happens when it is released."""

    def expire(id: str) -> Awaitable[bool]:
        """Mark it so that the next attempt returns it to the sender."""

    def due_now(id: str | None = None) -> Awaitable[int]:
        """Make one deferred entry, or all, due at once; the number of entries affected."""

    def change(action: str, ids: Sequence[str] | None, queues: Sequence[str] = ...) -> Awaitable[Changes]:
        """The same for many messages at once, or for all (None), that are in ``queues`` (of QUEUE_NAMES): "delete",
        "hold", "release", "requeue", "expire" or "flush".  Raises SpoolError if a message could not be changed; others
        may have been."""

    def listing() -> Awaitable[list[Listed]]:
        """All that is in the spool, oldest first, without waiting for or disturbing leases."""

    def slices() -> AsyncIterator[list[Listed]]:
        """The same in pieces, for large spools."""

    def set_aside(id: str, why: str) -> Awaitable[None]:
        """Move a broken entry to "corrupt"; it is never deleted by us."""

    def next_due() -> float | None:
        """When the next deferred entry known so far becomes due (seconds since the epoch).  Others may put messages
        into the spool: claim() should be called now and then (each half minute) in any case; it costs next to
        nothing when there is nothing."""

    def free_bytes() -> int:
        """Room on the disk (queue_minfree); as it was a second ago at most.  Raises SpoolError."""


@dataclass(slots=True)
class Changes:
    """What ISpool.change() has changed."""

    count: int = 0
    ids: list[str] = field(default_factory=list)
    """Those that were asked for by ID; of "all" messages, those that were leased."""


@dataclass(slots=True)
class Listed:
    """A line of the queue listing."""

    id: str
    queue: str
    """"incoming", "deferred", "hold", or "active" for what is leased."""
    envelope: Envelope
    states: list[RecipientState]
    expire: bool = False
