"""error(8), the services error and retry: every recipient is bounced or deferred, for the reason that the next hop is.

The next hop is text, with an enhanced status code in front or not: ``error:5.1.2 this domain has moved away``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zope.interface import implementer

from gateway.interfaces import BOUNCED, DEFERRED, ITransport, Request, Result

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|\Z)")


def split_text(text: str, dsn: str) -> tuple[str, str]:
    """Code and text of a next hop; ``dsn`` stands in for a code that is not there, or is of another class."""
    text = text.lstrip()
    match = _ENHANCED.match(text)
    if match is None:
        return dsn, text
    return match[1] if match[1][0] == dsn[0] else dsn, text[match.end() :]


@implementer(ITransport)
class ErrorTransport:
    """``defers``: for the service retry."""

    program = "error"

    def __init__(self, *, defers: bool = False) -> None:
        self._status, self._dsn = (DEFERRED, "4.0.0") if defers else (BOUNCED, "5.0.0")

    async def deliver(self, request: Request) -> Sequence[Result]:
        dsn, text = split_text(request.nexthop, self._dsn)
        return [Result(self._status, dsn, text) for _ in request.indexes]

    async def stop(self) -> None:
        """Nothing is kept between deliveries."""
