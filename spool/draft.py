"""A message on its way into the spool: in memory while it is small, then in a temporary file.

What is written is kept until there is enough of it for the disk, and goes there in a thread: write() never waits.
Who receives faster than the disk takes it should stop at ``full`` and go on when ``drained()`` fires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from spool import format
from spool.batch import Group, Threads, in_thread
from spool.envelope import Envelope
from spool.files import Files
from spool.interfaces import IDraft, SpoolError
from spool.jobs import Commit, CommitSpilled, forget, shut
from spool.names import HOLD, INCOMING, Place
from spool.store import Store

SPILL = 100_000
"""Bytes from which on a draft goes to a file."""

BLOCK = 64_000
"""Bytes that are worth a way to the file."""

FULL = 300_000
"""Bytes in memory from which on a draft counts as full."""


@implementer(IDraft)
class Draft:
    """Made by MaildirSpool.draft()."""

    def __init__(
        self,
        id: str,
        envelope: Envelope,
        store: Store,
        group: Group,
        threads: Threads,
        reactor: Any,
        kept: Callable[[str, bytes, int], None],
    ) -> None:
        """``kept``: called after a commit with ID, content and offset, if the content is still in memory."""
        self.id = id
        self.envelope = envelope
        self._store = store
        self._group = group
        self._threads = threads
        self._reactor = reactor
        self._kept = kept
        self._blocks: list[bytes] = []
        self._in_memory = 0
        self._size = 0
        self._ended = False
        self._aborted = False
        self._spill: _SpillFile | None = None
        self._writing = False
        self._error: SpoolError | None = None
        self._idle: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def full(self) -> bool:
        return self._in_memory > FULL

    def drained(self) -> Deferred[None]:
        """Fires when the draft is not full any more; at once if it is not."""
        done: Deferred[None] = Deferred()
        if self.full:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def write(self, block: bytes) -> None:
        if self._ended or self._error is not None or not block:
            return
        self._blocks.append(block)
        self._in_memory += len(block)
        self._size += len(block)
        if self._in_memory >= (SPILL if self._spill is None else BLOCK) and not self._writing:
            self._to_file()

    def _to_file(self) -> None:
        """Hand what is in memory to a thread."""
        if self._spill is None:
            room = max(4096, 2 * len(format.encode(self.envelope, 0)) + 2048)
            self._spill = _SpillFile(self._store.files, self._store.temporary(self.id), room)
        blocks, size = self._blocks, self._in_memory
        self._blocks = []
        self._writing = True
        done = in_thread(self._threads, self._reactor, self._spill.append, blocks)
        done.addCallbacks(self._written, self._failed, callbackArgs=(size,))

    def _written(self, _: Any, size: int) -> None:
        self._writing = False
        self._in_memory -= size
        if self._aborted:
            self._drop_file()
        elif not self._ended and self._in_memory >= BLOCK:
            self._to_file()
        if not self.full:
            self._release()
        self._wake()

    def _failed(self, failure: Any) -> None:
        error = failure.value
        self._error = error if isinstance(error, SpoolError) else SpoolError(f"internal error: {error!r}")
        self._writing = False
        self._blocks.clear()
        self._in_memory = 0
        self._drop_file()
        self._release()
        self._wake()

    def _wake(self) -> None:
        """Go on with a commit that waits for the last write."""
        waiting, self._idle = self._idle, None
        if waiting is not None:
            waiting.callback(None)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    async def read(self, position: int, count: int) -> bytes:
        await self._settle()
        if self._spill is None:
            return self._together()[position : position + count]
        await self._flush()
        block: bytes = await in_thread(self._threads, self._reactor, self._spill.read, position, count)
        return block

    async def replace(self, kept_from: int, front: bytes) -> None:
        await self._settle()
        if self._spill is None:
            self._blocks = [front + self._together()[kept_from:]]
            self._size = self._in_memory = len(self._blocks[0])
            return
        await self._flush()
        new = _SpillFile(self._spill.files, self._spill.path, self._spill.room)
        old, self._spill = self._spill, new
        await in_thread(self._threads, self._reactor, new.take_over, old, kept_from, front)
        self._size = len(front) + max(0, self._size - kept_from)

    async def _settle(self) -> None:
        """Wait for what is on its way to the disk.  Raises what has gone wrong there."""
        while self._writing:  # whoever is woken may find the next block on its way
            self._idle = Deferred()
            await self._idle
        if self._error is not None:
            raise self._error

    async def _flush(self) -> None:
        """Everything to the file."""
        while self._blocks:
            self._to_file()
            await self._settle()

    def _together(self) -> bytes:
        """All of a draft that is in memory."""
        if len(self._blocks) != 1:
            self._blocks = [b"".join(self._blocks)]
        return self._blocks[0]

    async def commit(self, hold: bool = False) -> bytes:
        if self._ended:
            raise SpoolError("draft has ended")
        self._ended = True
        await self._settle()
        self.envelope.size = self._size
        final = self._store.path(Place(HOLD if hold else INCOMING, self.id))
        if self._spill is not None:
            spill = self._spill
            job = CommitSpilled(spill.path, final, spill.descriptor, spill.room, self.envelope, self._blocks)
            await self._group.submit(job)
            return job.head
        head = format.encode(self.envelope, self._size)
        await self._group.submit(Commit(self._store.temporary(self.id), final, [head, *self._blocks]))
        if not hold:
            self._kept(self.id, b"".join(self._blocks), len(head))
        self._blocks = []
        return head

    def abort(self) -> None:
        if self._ended:
            return
        self._ended = self._aborted = True
        self._blocks.clear()
        self._release()
        if not self._writing:
            self._drop_file()

    def _drop_file(self) -> None:
        if self._spill is not None:
            self._threads.callInThread(self._spill.discard)
            self._spill = None


class _SpillFile:
    """The temporary file of a large draft; its methods wait for the disk."""

    def __init__(self, files: Files, path: str, room: int) -> None:
        self.files = files
        self.path = path
        self.room = room
        self.descriptor = -1

    def append(self, blocks: list[bytes]) -> None:
        if self.descriptor < 0:
            self.descriptor = self.files.create(self.path)
            self.files.write(self.descriptor, [b" " * self.room])
        self.files.write(self.descriptor, blocks)

    def read(self, position: int, count: int) -> bytes:
        return self.files.read(self.descriptor, count, self.room + position)

    def take_over(self, old: _SpillFile, kept_from: int, front: bytes) -> None:
        """Hold what ``old`` holds from a position on, behind ``front``; the old one's file is gone then."""
        size = self.files.status(old.descriptor).st_size - old.room
        self.files.unlink(old.path)
        try:
            self.append([front])
            self.files.copy(old.descriptor, old.room + kept_from, max(0, size - kept_from), self.descriptor)
        finally:
            shut(self.files, old.descriptor)

    def discard(self) -> None:
        if self.descriptor >= 0:
            shut(self.files, self.descriptor)
            forget(self.files, self.path)

