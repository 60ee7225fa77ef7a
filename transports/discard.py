"""discard(8): every recipient counts as delivered; the next hop says why nobody gets the mail."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from gateway.interfaces import SENT, ITransport, Request, Result
from transports.error import split_text


@implementer(ITransport)
class DiscardTransport:
    program = "discard"

    async def deliver(self, request: Request) -> Sequence[Result]:
        dsn, text = split_text(request.nexthop, "2.0.0")
        return [Result(SENT, dsn, text, details={"action": "delivered"}) for _ in request.indexes]

    async def stop(self) -> None:
        """Nothing is kept between deliveries."""
