"""A message in the active set, and the groups of its recipients that go the same way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gateway.addresses.verp import verp_sender
from gateway.interfaces import Entry


@dataclass(slots=True)
class ActiveMessage:
    """One attempt at a message: from its activation until every recipient has a result."""

    entry: Entry
    since: float
    """When it became active (seconds since the epoch)."""
    forced: bool = False
    """Somebody asked for it (flush, requeue): defer_transports does not hold it, dead destinations are tried."""
    pending: int = 0
    """Recipients without a result yet."""
    recording: int = 0
    """Sets of results that are being put on record."""
    busy: int = 0
    """Deliveries that are running, and what is being done with their results: whoever else took the message up now
    would do the same again."""
    where: str = ""
    """Where it is in the spool, once it has been put off."""

    @property
    def is_over(self) -> bool:
        return not self.pending and not self.recording


@dataclass(slots=True)
class Group:
    """Recipients of one message for one destination, as yet undelivered."""

    message: ActiveMessage
    nexthop: str
    indexes: list[int] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    @property
    def entry(self) -> Entry:
        """The message as it is delivered: with VERP from a sender for this very recipient."""
        entry = self.message.entry
        envelope = entry.envelope
        if not envelope.verp or not envelope.sender:
            return entry
        sender = verp_sender(envelope.sender, envelope.verp, envelope.recipients[self.indexes[0]])
        return replace(entry, envelope=replace(envelope, sender=sender, verp=""))

    def take(self, limit: int) -> Group:
        """Split off up to ``limit`` recipients (0 = all); with VERP one."""
        if self.message.entry.envelope.verp:
            limit = 1
        if not limit or len(self.indexes) <= limit:
            taken = Group(self.message, self.nexthop, self.indexes, self.addresses)
            self.indexes, self.addresses = [], []
            return taken
        taken = Group(self.message, self.nexthop, self.indexes[:limit], self.addresses[:limit])
        self.indexes, self.addresses = self.indexes[limit:], self.addresses[limit:]
        return taken
