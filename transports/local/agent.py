"""LocalTransport, and the order of the ways to deliver: local(8).

An alias; then, for mail that comes by a list with an owner or by a list's file, a message of its own; then the user's
.forward; the user's mailbox; last what is said about unknown users.  Whatever the ways do, each recipient of the
request ends with one result, and further ones for the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zope.interface import implementer

from gateway.addresses.forms import quote, unquote
from gateway.interfaces import ITransport, Request, Result, TableError
from spool.interfaces import Content
from transports.accounts import AccountsAway
from transports.local import aliases, forward, indirect, mailbox, unknown
from transports.local.place import Delivery, Place, Tools
from transports.local.turns import Turns
from transports.message import header_values

__all__ = ["LocalTransport", "Tools", "deliver_to"]


@implementer(ITransport)
class LocalTransport:
    program = "local"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._turns = Turns()

    async def stop(self) -> None:
        """Nothing is kept between deliveries."""

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        content = await self._tools.contents.content(request.entry.id, request.entry.where)
        try:
            been_at = frozenset(unquote(value).lower() for value in header_values(content, b"delivered-to"))
            return [await self._one(request, position, content, been_at) for position in range(len(request.indexes))]
        finally:
            content.close()

    async def _one(
        self, request: Request, position: int, content: Content, been_at: frozenset[str]
    ) -> Result:
        delivery = Delivery(self._tools, request, position, content, been_at, self._turns.of(request.bundle))
        delivery.deliver = deliver_to
        asked = request.recipients[position]
        sender = unquote(request.entry.envelope.sender)
        place = Place(unquote(request.addresses[position]), sender, asked.original, asked.orcpt, asked.notify)
        await deliver_to(delivery, place)
        await indirect.finish(delivery, place)
        if delivery.relayed is not None and not delivery.parts:  # luser_relay has led round to who was unknown before
            delivery.failed(place, "5.1.1", f'unknown user: "{delivery.relayed.user}"')
        return delivery.result()


async def deliver_to(delivery: Delivery, place: Place) -> None:
    """Deliver to ``place.recipient``, an address of this machine."""
    if not delivery.first_time(f"recipient {place.level} {place.recipient.lower()}"):
        return
    place = place.at(place.recipient, delivery.config.extensions)
    if place.refused_extension:
        text = f"address with illegal extension: {place.user}{place.refused_extension}"
        delivery.tools.log.warning("local", f"{delivery.request.entry.id}: {text}")
    if place.recipient.lower() in delivery.been_at:
        delivery.failed(place, "5.4.6", f"mail forwarding loop for {place.recipient}")
    elif not place.user:
        delivery.failed(place, "5.1.3", f'null username in "{place.recipient}"')
    else:
        try:
            await _switch(delivery, place)
        except AccountsAway as error:
            delivery.tools.log.warning("local", f"{delivery.request.entry.id}: cannot look up accounts: {error}")
            delivery.failed(place, "4.3.0", f"error looking up passwd info for {place.user}: {error}")
        except TableError as error:
            delivery.tools.log.warning("local", f"{delivery.request.entry.id}: {error}")
            delivery.failed(place, "4.3.0", "alias database unavailable")


async def _switch(delivery: Delivery, place: Place) -> None:
    if place.recipient.startswith("\\"):  # \user: neither alias nor .forward
        place = place.bare()
        if not await mailbox.deliver(delivery, place):
            await unknown.deliver(delivery, place)
        return
    if await aliases.deliver(delivery, place, place.local):
        return
    if place.has_extension:
        unmatched = place.delimiter + place.extension
        propagated = unmatched if "alias" in delivery.config.propagated else ""
        if await aliases.deliver(delivery, replace(place, unmatched=propagated), place.user, partial=True):
            return
        place = replace(place, unmatched=unmatched)
    listed_for_another = bool(place.owner) and place.owner.lower() != place.user
    if listed_for_another or place.within == "include":
        indirect.add(delivery, place, quote(place.recipient))
    elif not (await forward.deliver(delivery, place) or await mailbox.deliver(delivery, place)):
        await unknown.deliver(delivery, place)
