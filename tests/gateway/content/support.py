"""A gateway's way in, with everything real but the disk: what comes out at the end is in ``stored``."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from gateway.addresses.rewriting import Rewriting
from gateway.config import Settings
from gateway.content.checks import Checks
from gateway.content.cleanup import Cleanup
from gateway.log import MemoryLog
from gateway.tables.registry import Tables
from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import IDraft, SpoolError

NOW = 1795521600.0  # Tue, 24 Nov 2026 12:00:00 UTC
SITE = {
    "myhostname": "gw.my.domain", "mydomain": "my.domain", "myorigin": "gw.my.domain",
    "mydestination": "gw.my.domain", "alias_maps": "", "compatibility_level": "3.6",
}  # fmt: skip


@implementer(IDraft)
class Draft:
    full = False

    def __init__(self, spool, id, envelope):
        self.spool, self.id, self.envelope = spool, id, envelope
        self.data = b""
        self.writes = 0
        self.aborted = False

    async def drained(self):
        pass

    def write(self, block):
        assert not self.aborted
        self.data += block
        self.writes += 1

    async def read(self, position, count):
        return self.data[position : position + count]

    async def replace(self, kept_from, front):
        self.data = front + self.data[kept_from:]

    async def commit(self, hold=False):
        if self.spool.trouble:
            raise self.spool.trouble
        self.envelope.size = len(self.data)
        (self.spool.held if hold else self.spool.stored)[self.id] = self

    def abort(self):
        self.aborted = True


class Contents:
    """Spool content in memory."""

    offset = 0

    def __init__(self, data):
        self.data, self.at, self.size, self.closed = data, 0, len(data), False

    def read(self, count=-1):
        end = self.size if count < 0 else self.at + count
        block = self.data[self.at : end]
        self.at += len(block)
        return block

    def seek(self, position):
        self.at = position

    def close(self):
        self.closed = True


class Spool:
    def __init__(self):
        self.stored, self.held, self.drafts = {}, {}, []
        self.trouble = None

    def new_id(self):
        return f"QID{len(self.drafts) + 1}"

    def draft(self, envelope, id=""):
        self.drafts.append(Draft(self, id or self.new_id(), envelope))
        return self.drafts[-1]

    async def content(self, id, where=""):
        if id not in self.stored:
            raise SpoolError(f"{id} is gone")
        return Contents(self.stored[id].data)

    def add(self, id, data):
        draft = Draft(self, id, Envelope("x@y"))
        draft.data = data
        self.stored[id] = draft


class Way:
    """Cleanup with its surroundings.  ``parameters`` are main.cf's."""

    def __init__(self, **parameters):
        self.settings = Settings({**SITE, **parameters})
        self.log = MemoryLog()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.tables = Tables(clock=self.clock, log=self.log)
        self.spool = Spool()
        self.notified = []
        self.cleanup = Cleanup(
            self.settings,
            self.spool,
            Rewriting.from_settings(self.settings, self.tables, log=self.log),
            self.log,
            self.clock,
            notify=lambda id, envelope, stored: self.notified.append(id),
            checks=Checks.of(self.settings, self.tables),
        )

    def receive(self, content, **options):
        """Pass a message through; the draft that was stored.  Raises Rejected."""
        id = now(self.receiving(content, **options), self.clock)
        return self.spool.stored.get(id) or self.spool.held.get(id)

    async def receiving(
        self, content, *, sender="joe", to=("ann",), service="pickup", received=(), options=None, **envelope
    ):
        """``content``: bytes or blocks.  The queue ID."""
        envelope = Envelope(
            sender,
            [one if isinstance(one, Recipient) else Recipient(one) for one in to],
            **{"client": Client(rewrite_context="local"), **envelope},
        )

        intake = await self.cleanup.begin(service, envelope, received, options)
        for block in [content] if isinstance(content, bytes) else content:
            intake.write(block)
        return await intake.finish()

    def pump(self):
        """Give everybody his turns."""
        while self.clock.getDelayedCalls():
            self.clock.advance(0)


def now(coroutine, clock=None):
    """The result of a coroutine that has nothing to wait for, but its next turns of a clock's."""
    results = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    while clock is not None and not results and clock.getDelayedCalls():
        clock.advance(0)
    assert results, "it waits for something"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]
