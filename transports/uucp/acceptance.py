"""What the link to a UUCP neighbour does not take is refused while the client is there.

A message that declares a larger SIZE than the link takes is refused with 552 5.3.4; if the day's bytes or the room for
what waits are used up, 452 4.4.5.  What is used up the keeper publishes (transports.uucp.limits); as long as it has
not, everything is taken.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from gateway.clock import time_of_day
from gateway.interfaces import IAcceptance, Offer
from transports.following.published import Published
from transports.uucp.limits import FULL, TOO_LARGE


@implementer(IAcceptance)
class UucpAcceptance:
    """``clock``: IReactorTime."""

    def __init__(self, published: Published, clock: Any) -> None:
        self._published = published
        self._clock = clock

    async def refuse(self, offer: Offer) -> tuple[int, str, str] | None:
        """See IAcceptance."""
        said, site = self._published.read(), offer.nexthop.partition("!")[0]
        if not said:
            return None
        now = time_of_day(self._clock)
        if 0 < said["size"] < offer.size:
            text = f"message size {offer.size} exceeds the limit of the link to {site}: {said['size']}"
            return 552, TOO_LARGE, text
        if site in said["sites"]:
            text, until = said["sites"][site]
            if not until or now < until:
                return 452, FULL, text
        left = said["left"].get(site)
        if left is not None and left < offer.size and now < said["until"]:
            return 452, FULL, f"the link to {site} takes {max(left, 0)} more bytes today"
        return None
