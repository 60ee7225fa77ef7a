"""Header and body checks on the way out: smtp_header_checks and its like, header_checks(5) with fewer actions.

    checks = OutgoingChecks.of(settings, tables, "smtp_", "smtp", log)      None if there are no tables
    message = checks.begin(queue_id, translate)
    data = await message.feed(block, complete=False)                        what is to be sent instead

Each message is looked at anew in each attempt, while it is sent.  IGNORE, STRIP, PREPEND, REPLACE, WARN, INFO, DUNNO
and OK are known: when mail is on its way nobody can be asked for another decision about it any more, so that all else
is warned of and changes nothing.  ``translate`` gets the header behind the checks, for smtp_generic_maps.  TableError
says that the message cannot go out now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from gateway.config import Settings
from gateway.content.checks import SHOWN, Checker, Checks
from gateway.content.header_scan import OPEN, scan_all
from gateway.content.mime_structure import Structure
from gateway.interfaces import Log, TableError
from gateway.tables import Tables

_KNOWN = frozenset(("DUNNO", "OK", "IGNORE", "STRIP", "WARN", "INFO", "PREPEND", "REPLACE"))

Translate = Callable[[bytes], Awaitable[bytes]]


@dataclass(slots=True)
class OutgoingChecks:
    """Those of one service."""

    checks: Checks
    prefix: str
    program: str
    log: Log

    @classmethod
    def of(cls, settings: Settings, tables: Tables, prefix: str, program: str, log: Log) -> OutgoingChecks | None:
        checks = Checks.of(settings, tables, prefix, program)
        return None if checks is None else cls(checks, prefix, program, log)

    def begin(self, queue_id: str, translate: Translate | None = None) -> Outgoing:
        return Outgoing(self, queue_id, translate)


class _Message:
    """What the checks know of a message: its name."""

    def __init__(self, queue_id: str) -> None:
        self.id = queue_id


class _Checker(Checker):
    def __post_init__(self) -> None:
        assert self.checks.mime_limits is not None
        self._structure = Structure(self.checks.mime_limits, report=False)

    def _act(self, action: str, argument: str, line: Any) -> list[bytes]:
        if action in _KNOWN:
            return Checker._act(self, action, argument, line)
        self.log.warning(self.program, f"unsupported command in {line.table} map: {action} {argument}".rstrip())
        return [line.raw]

    def _tell(self, action: str, line: Any, argument: str) -> None:
        text = f"{self.message.id}: {action}: {line.where} {line.text[:SHOWN]}"
        self.log.info(self.program, f"{text}: {argument}" if argument else text)


class Outgoing:
    """One message on its way."""

    def __init__(self, owner: OutgoingChecks, queue_id: str, translate: Translate | None) -> None:
        message = cast(Any, _Message(queue_id))
        self._checker = _Checker(owner.checks, message, owner.log, owner.program, owner.prefix)
        self._owner, self._id, self._translate = owner, queue_id, translate
        self._header: list[bytes] | None = []
        """What the header has become so far; None: it is over."""
        self._left = b""

    async def feed(self, data: bytes, complete: bool) -> bytes:
        """Blocks of any size and split; the last, ``complete``, ends a line."""
        header = b""
        if self._header is not None:
            try:
                header, data = await self._take_header(self._header, self._left + data, complete)
            except TableError:
                self._complain("header")
                raise
            if self._header is not None:
                return b""
        try:
            return header + await self._checker.body(data, complete)
        except TableError:
            self._complain("body")
            raise

    def _complain(self, where: str) -> None:
        owner = self._owner
        owner.log.warning(owner.program, f"{self._id}: {owner.prefix[:-1]} {where} checks lookup error")

    async def _take_header(self, done: list[bytes], data: bytes, complete: bool) -> tuple[bytes, bytes]:
        """The header, if it is over, and what is behind it."""
        fields, at, state = scan_all(data, complete)
        for field in fields:
            done += await self._checker.header(field)
        if state is OPEN:
            self._left = data[at:]
            return b"", b""
        self._left, self._header = b"", None
        header = b"".join(done)
        return header if self._translate is None else await self._translate(header), data[at:]
