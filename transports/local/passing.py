"""Hands a recipient to another service: mailbox_transport, fallback_transport, and their tables."""

from __future__ import annotations

from dataclasses import replace

from gateway.interfaces import Request
from transports.local.place import Delivery, Place


async def pass_on(delivery: Delivery, place: Place, destination: str) -> None:
    """``destination``: "service" or "service:nexthop"."""
    request = delivery.request
    service, _, nexthop = destination.partition(":")
    transport = delivery.tools.transports.get(service)
    if transport is None:
        delivery.tools.log.warning("local", f"{request.entry.id}: there is no service {service}")
        delivery.failed(place, "4.3.0", "mail transport unavailable")
        return
    recipient = place.known
    delivery.tools.log.info("local", f"{request.entry.id}: passing <{recipient.address}> to transport={service}")
    entry = replace(request.entry, envelope=replace(request.entry.envelope, recipients=[recipient]))
    inner = Request(entry, service, nexthop or place.domain, [0], [recipient.address])
    try:
        async with delivery.turn:
            results = await transport.deliver(inner)
    except Exception as error:  # whatever becomes of it, others of this delivery have their mail, and a result
        delivery.tools.log.warning("local", f"{request.entry.id}: service {service}: {error}")
        delivery.failed(place, "4.3.0", "mail transport unavailable")
    else:
        for result in results:
            result.program = result.program or transport.program
        delivery.passed(place, results)
