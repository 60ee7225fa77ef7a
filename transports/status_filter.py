"""Delivery status filters: another enhanced status code and text for what a transport answers; postconf(5)
default_delivery_status_filter.

    5.1.1 host mx.example[192.0.2.1] said: 550 5.1.1 mailbox full    is looked up, and may become
    4.2.2 mailbox full

Success stays success, and a failure a failure, but 4.x.x and 5.x.x may change into each other.  What is no such line,
and a table that does not answer, leaves the result as it is, with a warning: the mail has been delivered, or not,
already.  Results that another service has given (mailbox_transport) have been through that one's filter.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Protocol

from zope.interface import implementer

from gateway.interfaces import BOUNCED, DEFERRED, EXPANDED, SENT, ITransport, Log, Request, Result, TableError

_LINE = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+(.*))?\Z", re.DOTALL)
_FAILURES = {"4": (DEFERRED, "delayed"), "5": (BOUNCED, "failed")}


class Match(Protocol):
    @property
    def value(self) -> str: ...


class Maps(Protocol):
    """gateway.tables.maps.Maps."""

    def find(self, key: str) -> Awaitable[Match | None]: ...


@implementer(ITransport)
class FilteredTransport:
    """``inner``, with other results.  ``title``: the parameter that names the tables, for warnings."""

    def __init__(self, inner: ITransport, tables: Maps, title: str, log: Log) -> None:
        self.program = inner.program
        self.stop = inner.stop
        if hasattr(inner, "describe"):
            self.describe = inner.describe
        self._inner = inner
        self._tables = tables
        self._title = title
        self._log = log

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        return [await self._filtered(result) for result in await self._inner.deliver(request)]

    async def _filtered(self, result: Result) -> Result:
        others = tuple([await self._filtered(other) for other in result.others])
        result = replace(result, others=others) if others else result
        if result.program or result.status == EXPANDED:
            return result
        try:
            match = await self._tables.find(f"{result.dsn} {result.reason}")
        except TableError:
            return result
        return result if match is None else self._changed(result, match.value)

    def _changed(self, result: Result, text: str) -> Result:
        line = _LINE.match(text)
        if line is None or (line[1][0] == "2") != (result.status == SENT):
            self._log.warning(self.program, f"{self._title}: bad status code: {text}")
            return result
        status, reason = line[1], line[2] or ""
        if result.status == SENT:
            return replace(result, dsn=status, reason=reason)
        kind, action = _FAILURES[status[0]]
        return replace(result, status=kind, dsn=status, reason=reason, details={**result.details, "action": action})
