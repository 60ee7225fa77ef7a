"""alias_maps; aliases(5).  A list with an owner-LIST alias sends on that owner's behalf.

Programs and files of a table that is not root's get the rights of the table's owner.
"""

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
    if place.level + 3 > DEEPEST:
        delivery.tools.log.warning("local", f"alias database loop for {name}")
        delivery.failed(place, "5.4.6", f"alias database loop for {name}")
        return True
    found = await _search(delivery, name, partial)
    if found is None:
        return False
    text, owner_uid = found
    rights = None
    if owner_uid:
        user = await delivery.tools.accounts.of_uid(owner_uid)
        if user is None:
            delivery.tools.log.warning("local", f"cannot find alias database owner: uid {owner_uid}")
            delivery.failed(place, "4.3.0", "cannot find alias database owner")
            return True
        rights = Rights.of(user)
    inner = replace(
        place, expanded_from=name, within="alias", level=place.level + 2, rights=rights,
        delivered=place.delivered if config.frozen_delivered else place.recipient,
    )
    owner = f"owner-{name}"
    expanded = None
    if config.owner_special:
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
    if not await expansion.deliver(delivery, inner, text):
        delivery.tools.log.warning("local", f"no recipient in alias lookup result for {name}")
        delivery.failed(place, "4.3.0", "alias database unavailable")
    return True


async def _search(delivery: Delivery, name: str, partial: bool) -> tuple[str, int] | None:
    """What the alias says, and in whose table."""
    for table in delivery.tools.alias_maps:
        text = await ask([table], name, partial=partial)
        if text is not None:
            return text, delivery.tools.owner_of(table)
    return None
