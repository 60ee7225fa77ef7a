"""virtual(8): mailboxes of domains whose users have no accounts here.

virtual_mailbox_maps names the mailbox below virtual_mailbox_base, virtual_uid_maps and virtual_gid_maps its owner.
Nothing that a recipient could set (aliases, commands) has any say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import quote, unquote
from gateway.addresses.syntax import Extensions
from gateway.clock import time_of_day
from gateway.config import Settings
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    IContentSource,
    ILookupTable,
    ITransport,
    Log,
    Request,
    Result,
    TableError,
)
from spool.interfaces import Content
from transports import message
from transports.process import Identity
from transports.store import Box, Failure, Locking, Store

RELAY = "virtual"
_MISCONFIGURED = Failure("4.3.5", "mail system configuration error")


@dataclass(slots=True, frozen=True)
class VirtualConfig:
    base: str
    minimum_uid: int = 100
    limit: int = 51200000
    extensions: Extensions = Extensions()
    locking: Locking = Locking()
    strict_owner: bool = True
    original_recipients: bool = True

    @classmethod
    def from_settings(cls, settings: Settings) -> VirtualConfig:
        """``settings``: with the service's -o options in them.  Raises ConfigError."""
        return cls(
            settings.text("virtual_mailbox_base"),
            settings.number("virtual_minimum_uid"),
            settings.number("virtual_mailbox_limit"),
            Extensions.of(settings),
            Locking.of(settings, "virtual_mailbox_lock"),
            settings.flag("strict_mailbox_ownership"),
            settings.flag("enable_original_recipient"),
        )


@dataclass(slots=True, frozen=True)
class VirtualTables:
    mailboxes: Sequence[ILookupTable]
    uids: Sequence[ILookupTable]
    gids: Sequence[ILookupTable]


@implementer(ITransport)
class VirtualTransport:
    """``clock``: IReactorTime."""

    program = "virtual"

    def __init__(
        self, config: VirtualConfig, tables: VirtualTables, store: Store, contents: IContentSource, log: Log, clock: Any
    ) -> None:
        self._config = config
        self._tables = tables
        self._store = store
        self._contents = contents
        self._log = log
        self._clock = clock

    async def stop(self) -> None:
        """Nothing is kept between deliveries."""

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        content = await self._contents.content(request.entry.id, request.entry.where)
        try:
            return [await self._one(request, at, content) for at in range(len(request.indexes))]
        finally:
            content.close()

    async def _one(self, request: Request, at: int, content: Content) -> Result:
        started = self._clock.seconds()
        recipient = unquote(request.addresses[at])
        try:
            found = await self._box(recipient)
        except TableError as error:
            self._log.warning("virtual", f"{request.entry.id}: {error}")
            found = Failure("4.3.0", "mail system configuration error")
        if isinstance(found, Box):
            what = "maildir" if found.is_maildir else "mailbox"
            if request.entry.envelope.trace == "verify":
                return _sent(f"delivers to {what}", started)
            failure = await self._store.keep(found, self._stored_form(request, at, recipient, content, found))
            if not isinstance(failure, Failure):
                return _sent(f"delivered to {what}", started)
            if failure.hint:
                self._log.warning("virtual", failure.hint)
            before = "maildir delivery failed" if found.is_maildir else f"delivery failed to mailbox {found.path}"
            found = Failure(failure.dsn, f"{before}: {failure.text}")
        status = DEFERRED if found.dsn.startswith("4") else BOUNCED
        return Result(status, found.dsn, found.text, RELAY, started)

    async def _box(self, recipient: str) -> Box | Failure:
        """Raises TableError."""
        config, tables = self._config, self._tables
        path = await self._lookup(tables.mailboxes, recipient)
        if path is None:
            return Failure("5.1.1", f'unknown user: "{recipient.lower()}"')
        numbers = []
        for kind, asked, least in (("uid", tables.uids, max(1, config.minimum_uid)), ("gid", tables.gids, 1)):
            text = await self._lookup(asked, recipient)
            number = _number(text)
            if number < least:
                why = "not found" if text is None else f"bad {kind} {text}"
                self._log.warning("virtual", f"recipient {quote(recipient)}: {why} in virtual_{kind}_maps")
                return _MISCONFIGURED
            numbers.append(number)
        uid, gid = numbers
        if ".." in path.split("/"):
            self._log.warning("virtual", f'recipient {quote(recipient)}: ".." in virtual_mailbox_maps')
            return _MISCONFIGURED
        owner = uid if config.strict_owner else None
        return Box(f"{config.base}/{path}", Identity(uid, gid), config.limit, unusable="4.2.0", owner=owner)

    async def _lookup(self, tables: Sequence[ILookupTable], recipient: str) -> str | None:
        """By address, by the address without extension, by @domain."""
        plain, extension = self._config.extensions.strip(recipient)
        keys = [quote(recipient), *([quote(plain)] if extension else []), "@" + recipient.rpartition("@")[2]]
        for key in keys:
            for table in tables:
                if key is not keys[0] and table.whole_keys:
                    continue
                found: str | None = await table.lookup(key.lower())
                if found is not None:
                    return found
        return None

    def _stored_form(self, request: Request, at: int, recipient: str, content: Content, box: Box) -> Any:
        sender = unquote(request.entry.envelope.sender)
        top = b"" if box.is_maildir else message.from_line(sender, time_of_day(self._clock))
        top += message.return_path(sender)
        if self._config.original_recipients:
            top += message.original_to(unquote(request.recipients[at].original))
        form = message.PLAIN if box.is_maildir else message.MBOX
        return message.encode(content, top + message.delivered_to(recipient), form)


def _sent(reason: str, started: float) -> Result:
    return Result(SENT, "2.0.0", reason, RELAY, started, details={"action": "delivered"})


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
