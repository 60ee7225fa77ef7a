"""Mail for others than this machine's users: a message of its own for all that one list or .forward file names.

So each of them has its own record in the queue, and what cannot be delivered to one is tried again for that one only.
local(8) MAIL FORWARDING.
"""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate

from gateway.addresses.forms import quote, unquote
from gateway.clock import time_of_day
from gateway.interfaces import DEFERRED
from spool.envelope import Recipient
from spool.interfaces import SpoolError
from transports.local.place import Delivery, Place
from transports.message import delivered_to


def add(delivery: Delivery, place: Place, address: str) -> None:
    """Remember an address (external form) for the end."""
    if not delivery.first_time(f"indirect {address.lower()}"):
        return
    if delivery.only_asked:
        delivery.sent(replace(place, recipient=unquote(address)), f"forwards to {address}")
        return
    # A list with an owner keeps to itself how the poster wrote to it.
    recipient = Recipient(address, place.original or address, place.orcpt, place.notify)
    delivery.forwards.setdefault((place.delivered, place.sender), []).append(recipient)


async def finish(delivery: Delivery, place: Place) -> None:
    """Queue the messages, and say so: one result each.  Not while something else is to be tried again: then the whole
    list is, and who is elsewhere would get the mail at each attempt."""
    if any(part.status == DEFERRED for part in delivery.parts):
        return
    for (delivered, sender), recipients in delivery.forwards.items():
        try:
            queue_id = await delivery.tools.forwarder.forward(
                delivery.request.entry, _top(delivery, delivered), quote(sender) if sender else "", recipients
            )
        except SpoolError as error:
            delivery.tools.log.warning("local", f"{delivery.request.entry.id}: cannot forward: {error}")
            delivery.failed(place, "4.3.0", "unable to forward message")
        else:
            delivery.sent(place, f"forwarded as {queue_id}", "passed")


def _top(delivery: Delivery, delivered: str) -> bytes:
    """In which b"%(id)s" stands for the new queue ID."""
    config = delivery.config
    date = formatdate(time_of_day(delivery.tools.clock), localtime=True)
    lines = f"Received: by {config.hostname} ({config.mail_name})\n\tid %(id)s; {date}\n".encode()
    return lines + (delivered_to(delivered.lower(), quoted=False) if "forward" in config.delivered_in else b"")
