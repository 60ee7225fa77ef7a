"""What the transports' tests share: a content source in memory, messages, and a runner of real programs."""

from __future__ import annotations

import os
from typing import Any

from zope.interface import implementer

from gateway.interfaces import IContentSource, Request
from spool.envelope import Envelope, Recipient
from spool.interfaces import Content, Entry, RecipientState
from transports.process import Identity

NOBODY = Identity(65534, 65534) if os.geteuid() == 0 else Identity(os.getuid(), os.getgid())
"""Somebody whose rights programs can get here."""
ROOT = os.geteuid() == 0


class Bytes:
    """A message's content in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.size = len(data)
        self.offset = 0
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        end = len(self._data) if count < 0 else self._at + count
        block = self._data[self._at : end]
        self._at += len(block)
        return block

    def seek(self, position: int) -> None:
        self._at = position

    def fileno(self) -> int:
        raise OSError("a message in memory has no descriptor")

    def close(self) -> None:
        self.closed = True


@implementer(IContentSource)
class Contents:
    """Messages by queue ID."""

    def __init__(self, messages: dict[str, bytes]) -> None:
        self._messages = messages
        self.opened: list[Bytes] = []

    async def content(self, id: str, where: str = "") -> Content:
        self.opened.append(Bytes(self._messages[id]))
        return self.opened[-1]


def request(
    *addresses: str | Recipient, sender: str = "a@client.example", nexthop: str = "next.hop", service: str = "prog",
    **facts: Any,
) -> Request:
    """A delivery of message "ID" to these addresses; ``facts`` go into the envelope."""
    recipients = [one if isinstance(one, Recipient) else Recipient(one, original=one) for one in addresses]
    envelope = Envelope(sender, recipients, **facts)
    entry = Entry("ID", envelope, [RecipientState() for _ in addresses])
    return Request(entry, service, nexthop, list(range(len(addresses))), [one.address for one in recipients])
