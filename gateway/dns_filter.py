"""Answers of the DNS that a table takes away: smtp_dns_reply_filter, smtpd_dns_reply_filter.

Each record is looked up as one line, such as

    example.com. 3600 IN MX 10 mx.example.com.

(of a text, its first string), and left out if the table says IGNORE.  DNSError: nothing is left (``drops_all``), or the
table has no answer or another one; it is a temporary error, for it may not be the DNS's fault that the mail cannot go
out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from gateway.interfaces import DNSError, Log, TableError

Record = TypeVar("Record", bound=Any)

_UNSAFE = re.compile(r"[^ -~]")
DROPPED = "4.7.0"
DROPS_ALL = "DNS reply filter drops all results"


class RecordFilter:
    """``find``: asks the tables; ``title``: the parameter that names them."""

    def __init__(self, find: Callable[[str], Awaitable[str | None]], title: str, log: Log, program: str) -> None:
        self._find, self._title = find, title
        self._log, self._program = log, program

    async def kept(self, name: str, kind: str, ttl: float, records: Sequence[Record]) -> list[Record]:
        """Raises DNSError."""
        found = []
        for record in records:
            line = f"{name.rstrip('.')}. {max(0, round(ttl))} IN {kind} {_data(record)}"
            action = await self._action(line, name, kind)
            if not action:
                found.append(record)
            elif action.upper() == "IGNORE":
                self._log.info(self._program, f"ignoring DNS RR: {line}")
            else:
                self._log.warning(self._program, f'{self._title}: unknown DNS filter action: "{action[:100]}"')
                raise _error(name, kind, "Invalid DNS reply filter syntax")
        if not found:
            raise _error(name, kind, DROPS_ALL, DROPPED)
        return found

    async def _action(self, line: str, name: str, kind: str) -> str:
        try:
            return (await self._find(line) or "").strip()
        except TableError:
            raise _error(name, kind, "Invalid DNS reply filter syntax") from None


def drops_all(error: DNSError) -> bool:
    """There are records, but the table wants none of them to be seen."""
    return error.dsn == DROPPED


def short_reason(error: DNSError) -> str:
    """The last part of a resolver's text: "Host not found, try again"."""
    return "DNS reply filter policy" if drops_all(error) else str(error).rpartition(": ")[2]


def _data(record: Any) -> str:
    strings = getattr(record, "strings", ())
    return _UNSAFE.sub(" ", strings[0].decode("latin-1")) if strings else str(record.to_text())


def _error(name: str, kind: str, words: str, dsn: str = "") -> DNSError:
    return DNSError(f"Error looking up name={name} type={kind}: {words}", temporary=True, dsn=dsn)
