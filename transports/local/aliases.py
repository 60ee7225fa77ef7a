"""alias_maps; aliases(5).  A list with an owner-LIST alias sends on that owner's behalf."""

from __future__ import annotations

from dataclasses import replace

from gateway.addresses.forms import quote, unquote
from transports.local import expansion
from transports.local.place import Delivery, Place, Rights, ask

DEEPEST = 100


async def deliver(delivery: Delivery, place: Place, name: str, *, partial: bool = False) -> bool:
    """Expand the alias of that name; False if there is none.  Raises TableError."""
    config, tables = delivery.config, delivery.tools.alias_maps
    if place.expanded_from.lower() == name.lower() and place.expanded_from:
        return False  # an alias that lists itself means the user
    if place.level > DEEPEST:
        delivery.tools.log.warning("local", f"alias database loop for {name}")
        delivery.failed(place, "5.4.6", f"alias database loop for {name}")
        return True
    text = await ask(tables, name, partial=partial)
    if text is None:
        return False
    inner = replace(
        place, expanded_from=name, within="alias", level=place.level + 1, rights=Rights(config.default_rights),
        delivered=place.delivered if config.frozen_delivered else place.recipient,
    )
    owner = f"owner-{name}"
    expanded = None
    if config.owner_special and not name.startswith("owner-"):
        expanded = await ask(tables, owner, partial=partial)
    if expanded is not None:
        address = expanded if config.expand_owner else owner
        canonical = unquote(delivery.tools.qualify(quote(address) if address == owner else address))
        inner = replace(inner, owner=canonical, sender=canonical, original="", orcpt="")
    elif config.reset_owner:
        inner = replace(inner, owner="")
    # For a list with an owner, the mail has arrived (RFC 3461 5.2.7.3); others go on with it.
    delivery.expanded(place, "expanded" if expanded is None else "delivered")
    inner = inner.taken_over()
    await expansion.deliver(delivery, inner, text)
    return True
