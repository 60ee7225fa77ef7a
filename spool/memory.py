"""A spool without a disk, with the same contract as spool.maildir: for tests and for trying things out.

Everything is lost with the process.  What a caller holds is a copy, as it would be of what is on disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from spool import format, ids
from spool.changes import REQUEUE_PAUSE
from spool.content import MemoryContent
from spool.envelope import Envelope
from spool.interfaces import (
    QUEUE_NAMES,
    Changes,
    Content,
    Entry,
    IDraft,
    ISpool,
    Listed,
    Progress,
    RecipientState,
    SpoolError,
)


@dataclass(slots=True)
class _Message:
    envelope: Envelope
    data: bytes
    states: list[RecipientState]
    queue: str
    attempts: int = 0
    not_before: float = 0.0
    expire: bool = False
    requeue: bool = False
    when_released: bool = False
    """It was leased when a requeue was asked for."""


@implementer(IDraft)
class MemoryDraft:
    """Made by MemorySpool.draft()."""

    full = False

    def __init__(self, id: str, envelope: Envelope, store: Callable[[MemoryDraft, bytes, bool], None]) -> None:
        self.id = id
        self.envelope = envelope
        self._store = store
        self._blocks: list[bytes] = []
        self._ended = False

    def drained(self) -> Deferred[None]:
        return succeed(None)

    def write(self, block: bytes) -> None:
        if not self._ended:
            self._blocks.append(block)

    async def read(self, position: int, count: int) -> bytes:
        return b"".join(self._blocks)[position : position + count]

    async def replace(self, kept_from: int, front: bytes) -> None:
        self._blocks = [front, b"".join(self._blocks)[kept_from:]]

    async def commit(self, hold: bool = False) -> bytes:
        if self._ended:
            raise SpoolError("draft has ended")
        self._ended = True
        data = b"".join(self._blocks)
        self.envelope.size = len(data)
        self._store(self, data, hold)
        return format.encode(self.envelope, len(data))

    def abort(self) -> None:
        self._ended = True
        self._blocks.clear()


@implementer(ISpool)
class MemorySpool:
    """``reactor``: seconds.  ``room``: bytes of messages that it takes before it is full."""

    def __init__(self, *, reactor: Any, room: int = 1 << 40, random: Callable[[int], bytes] = os.urandom) -> None:
        self._time_of_day = getattr(reactor, "time_of_day", reactor.seconds)
        self._room = room
        self._ids = ids.Generator(reactor.seconds, random)
        self._messages: dict[str, _Message] = {}
        self._leased: set[str] = set()
        self._fresh: set[str] = set()
        self._others: set[str] = set()
        self.corrupt: dict[str, str] = {}
        """ID → reason of what was set aside."""

    def new_id(self) -> str:
        return self._ids.next()

    def draft(self, envelope: Envelope, id: str = "") -> MemoryDraft:
        return MemoryDraft(id or self._ids.next(), envelope, self._take_in)

    def _take_in(self, draft: MemoryDraft, data: bytes, hold: bool) -> None:
        if len(data) > self.free_bytes():
            raise SpoolError("no room", no_room=True)
        states = [RecipientState() for _ in draft.envelope.recipients]
        queue = "hold" if hold else "incoming"
        self._messages[draft.id] = _Message(deepcopy(draft.envelope), data, states, queue)
        if not hold:
            self._fresh.add(draft.id)

    def free_bytes(self) -> int:
        return self._room - sum(len(message.data) for message in self._messages.values())

    # --- leases ------------------------------------------------------------------------------------------------

    async def claim(self, limit: int) -> list[Entry]:
        now = self._time_of_day()
        due = [
            (message.not_before or ids.time_of(id), id)
            for id, message in self._messages.items()
            if id not in self._leased | self._others and message.queue != "hold" and message.not_before <= now
        ]
        return [self._lease(id) for _, id in sorted(due)[: max(limit, 0)]]

    def _lease(self, id: str) -> Entry:
        message = self._messages[id]
        self._leased.add(id)
        self._fresh.discard(id)
        states = deepcopy(message.states)
        envelope = deepcopy(message.envelope)
        return Entry(
            id, envelope, states, message.queue, message.attempts, message.not_before, message.expire, message.requeue
        )

    def adopt(self, id: str, envelope: Envelope) -> Entry | None:
        if id not in self._fresh or id in self._others:
            return None
        self._fresh.discard(id)
        self._leased.add(id)
        return Entry(id, envelope, [RecipientState() for _ in envelope.recipients])

    def note_new(self, id: str) -> None:
        pass  # claim() sees everything

    async def content(self, id: str, where: str = "") -> Content:
        message = self._messages.get(id)
        if message is None:
            raise SpoolError("message is gone")
        head = format.encode(message.envelope, len(message.data))
        return _WithFile(message.data, head)

    async def progress(self, id: str, results: Sequence[Progress]) -> None:
        message = self._messages.get(id)
        if message is not None:
            for one in results:
                message.states[one.index] = deepcopy(one.state)

    async def amend(self, id: str, envelope: Envelope) -> None:
        message = self._messages.get(id)
        if message is not None:
            old = message.envelope
            message.envelope = replace(deepcopy(envelope), recipients=old.recipients, size=old.size)

    async def release(self, id: str, not_before: float, results: Sequence[Progress] = ()) -> str:
        if id not in self._leased:
            return ""
        await self.progress(id, results)
        self._leased.discard(id)
        message = self._messages[id]
        message.queue = "deferred"
        message.attempts += 1
        message.not_before = not_before
        if message.when_released:
            self._requeue(message, 0.0)
        return id

    def let_go(self, id: str) -> str:
        if id not in self._leased:
            return ""
        self._leased.discard(id)
        return id

    def others_hold(self, ids: Iterable[str]) -> None:
        self._others.update(ids)

    def given_back(self, id: str, where: str | None) -> None:
        self._others.discard(id)

    async def finish(self, id: str) -> None:
        self._end(id)

    def _end(self, id: str) -> None:
        self._leased.discard(id)
        self._fresh.discard(id)
        self._messages.pop(id, None)

    # --- administration ----------------------------------------------------------------------------------------

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
        wanted = list(self._messages if ids is None else dict.fromkeys(ids))
        leased = set(self._leased)
        changed = [
            id
            for id in wanted
            if id in self._messages and self._queue(id) in queues and self._change(action, id)
        ]
        return Changes(len(changed), [id for id in changed if ids is not None or id in leased])

    def _queue(self, id: str) -> str:
        return "active" if id in self._leased else self._messages[id].queue

    def _change(self, action: str, id: str) -> bool:
        message, leased = self._messages[id], id in self._leased
        if action == "delete":
            self._end(id)
        elif action == "hold":
            if message.queue == "hold":
                return False
            message.queue = "hold"
            self._leased.discard(id)
            self._fresh.discard(id)
        elif action == "release":
            if message.queue != "hold":
                return False
            message.queue, message.not_before = "deferred", self._time_of_day()
        elif action == "requeue":
            if leased:
                message.requeue = message.when_released = True
            else:
                self._requeue(message, REQUEUE_PAUSE)
        elif action == "expire":
            if message.expire:
                return False
            message.expire = True
        elif action == "flush":
            if leased or message.queue != "deferred" or message.not_before <= self._time_of_day():
                return False
            message.not_before = self._time_of_day()
        else:
            raise ValueError(action)
        return True

    def _requeue(self, message: _Message, pause: float) -> None:
        message.queue, message.not_before, message.attempts = "deferred", self._time_of_day() + pause, 0
        message.requeue, message.when_released = True, False

    async def set_aside(self, id: str, why: str) -> None:
        if id in self._messages:
            self.corrupt[id] = why
            self._end(id)

    async def listing(self) -> list[Listed]:
        return [
            Listed(id, self._queue(id), deepcopy(message.envelope), deepcopy(message.states), message.expire)
            for id, message in sorted(self._messages.items())
        ]

    async def slices(self) -> AsyncIterator[list[Listed]]:
        yield await self.listing()

    def next_due(self) -> float | None:
        return min(
            (
                message.not_before
                for id, message in self._messages.items()
                if message.queue == "deferred" and id not in self._leased
            ),
            default=None,
        )


class _WithFile(MemoryContent):
    """Content that makes a temporary file when a descriptor is wanted."""

    def __init__(self, data: bytes, head: bytes) -> None:
        super().__init__(data, len(head), self._no_file)
        self._head = head
        self._temporary: Any = None

    @staticmethod
    def _no_file() -> Any:
        raise SpoolError("there is no file")

    def fileno(self) -> int:
        if self._temporary is None:
            self._temporary = tempfile.TemporaryFile()  # noqa: SIM115
            self._temporary.write(self._head + self._data)
            self._temporary.flush()
        return int(self._temporary.fileno())

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.close()
            self._temporary = None
