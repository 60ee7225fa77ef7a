"""Recipients that are neither alias nor user: fallback_transport, luser_relay, and the bounce."""

from __future__ import annotations

from dataclasses import replace

from gateway.addresses.tokens import internal, scan
from transports.local import expansion
from transports.local.passing import pass_on
from transports.local.place import Delivery, Place, ask


async def deliver(delivery: Delivery, place: Place) -> None:
    """Raises TableError."""
    config, tools = delivery.config, delivery.tools
    if not delivery.first_time(f"unknown {place.local}"):
        return
    service = await ask(tools.fallback_maps, place.user) or config.fallback_transport
    if service:
        await pass_on(delivery, place, service)
    elif config.luser_relay:
        delivery.relayed = place
        # One address, whatever strangers have written into it.
        address = internal(scan(place.fill(config.luser_relay, None)))
        await expansion.to_address(delivery, replace(place, unmatched=""), address or expansion.EMPTY)
    elif place.user in ("postmaster", "mailer-daemon"):
        tools.log.warning("local", f"required alias not found: {place.user}")
        delivery.sent(place, "discarded")
    else:
        delivery.failed(place, "5.1.1", f'unknown user: "{place.user}"')

