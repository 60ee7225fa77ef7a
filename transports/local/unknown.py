"""Recipients that are neither alias nor user: fallback_transport, luser_relay, and the bounce."""

from __future__ import annotations

from dataclasses import replace

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
        address = place.fill(config.luser_relay, None)
        await _relay(delivery, replace(place, unmatched=""), address)
    elif place.user in ("postmaster", "mailer-daemon"):
        tools.log.warning("local", f"required alias not found: {place.user}")
        delivery.sent(place, "discarded")
    else:
        delivery.failed(place, "5.1.1", f'unknown user: "{place.user}"')


async def _relay(delivery: Delivery, place: Place, text: str) -> None:
    """To the one address that luser_relay gives; strangers have written part of it, so that it may be nothing else."""
    members = expansion.destinations(text)
    if len(members) == 1 and members[0]:
        await expansion.to_address(delivery, place, members[0])
    else:
        delivery.failed(place, "5.1.3", f"bad recipient address syntax: {text}")
