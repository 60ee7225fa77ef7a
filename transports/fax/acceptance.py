"""Numbers that cannot be, are not allowed, or cost too much are refused while the client is there: 550 for good, 452
when a budget of today is used up, 552 for a message that is too large to be drawn.  The rules are those that hold for
the sending itself.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import split_domain, unquote
from gateway.clock import time_of_day
from gateway.interfaces import BOUNCED, IAcceptance, Offer, TableError
from transports.fax.budget import Use
from transports.fax.rules import Caller, Rules
from transports.fax.service import FaxService
from transports.following.published import Published
from transports.guard import Refusal


@implementer(IAcceptance)
class FaxAcceptance:
    """``clock``: IReactorTime."""

    def __init__(self, service: FaxService, rules: Rules, published: Published, clock: Any) -> None:
        self._service = service
        self._rules = rules
        self._published = published
        self._clock = clock

    async def refuse(self, offer: Offer) -> tuple[int, str, str] | None:
        """See IAcceptance."""
        if offer.size > self._service.wish.max_bytes:
            return 552, "5.3.4", f"message size {offer.size} is more than is drawn: {self._service.wish.max_bytes}"
        try:
            use = Use.of(self._published.read())
        except (ValueError, TypeError, KeyError) as error:
            raise TableError(f"what was faxed today cannot be read: {error}") from None
        caller = Caller(unquote(offer.sender), offer.login, offer.client)
        found = await self._rules.judge(split_domain(offer.address)[0], caller, use, time_of_day(self._clock))
        if not isinstance(found, Refusal):
            return None
        return 550 if found.status == BOUNCED else 452, found.dsn, found.reason
