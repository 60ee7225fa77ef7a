"""What an alias, a .forward file or a list's file says: addresses, "|command", /file, :include:/file; aliases(5).

Local addresses are delivered at once, one level deeper; others get a message of their own (indirect).
"""

from __future__ import annotations

from dataclasses import replace

from gateway.addresses.forms import quote, unquote
from gateway.addresses.tokens import Address, internal, parse
from gateway.interfaces import TableError
from transports.local import command, files, indirect
from transports.local.place import Delivery, Place, Rights
from transports.local.reading import read_as

INCLUDE = ":include:"


def destinations(text: str) -> list[str]:
    """The members of a list, in internal form."""
    return [internal(node.tokens) for node in parse(text) if isinstance(node, Address)]


async def deliver(delivery: Delivery, place: Place, text: str) -> int:
    """To everything that the text lists; the number of members.  Raises TableError."""
    members = destinations(text)
    for member in members:
        if member:
            await _member(delivery, place, member)
    return len(members)


async def lines(delivery: Delivery, place: Place, text: str) -> int:
    """The same for a file: line by line, without comments."""
    count = 0
    for line in text.split("\n"):
        if not line.lstrip().startswith("#"):
            count += await deliver(delivery, place, line)
    return count


async def _member(delivery: Delivery, place: Place, member: str) -> None:
    if member.startswith("|"):
        await command.deliver(delivery, place, member[1:].strip())
    elif member.startswith("/"):
        await files.deliver(delivery, place, member)
    elif member.startswith("~"):
        home = place.rights.home if place.rights else ""
        if home and member.startswith("~/"):
            await files.deliver(delivery, place, home + member[1:])
        else:
            delivery.failed(place, "5.3.5", f"bad home directory syntax for: {member}")
    elif member.lower().startswith(INCLUDE):
        await _include(delivery, place, member[len(INCLUDE) :].strip())
    else:
        await _address(delivery, place, member)


async def _address(delivery: Delivery, place: Place, member: str) -> None:
    """Somebody: here, or elsewhere."""
    address = delivery.tools.qualify(quote(member))
    if place.unmatched:
        local, at, domain = unquote(address).rpartition("@")
        address = quote(f"{local}{place.unmatched}{at}{domain}") if at else address
    try:
        route = await delivery.tools.router.resolve(delivery.request.entry.envelope.sender, address)
    except TableError as error:
        delivery.tools.log.warning("local", f"{delivery.request.entry.id}: {error}")
        delivery.failed(replace(place, recipient=unquote(address)), "4.3.0", "address resolver failure")
        return
    if route.transport == delivery.request.service:
        await delivery.deliver(delivery, replace(place, recipient=unquote(route.recipient), level=place.level + 1))
    else:
        indirect.add(delivery, place, route.recipient)


async def _include(delivery: Delivery, place: Place, path: str) -> None:
    """The members of a list's file, with the rights of its owner if that is not root."""
    if not path.startswith("/"):
        delivery.failed(place, "5.3.5", "mail system configuration error")
        delivery.tools.log.warning("local", f":include:{path} uses a relative path")
        return
    if not delivery.first_time(f"include {path}"):
        return
    file = await read_as(delivery.tools.runner, place.identity(delivery.config.default_rights), path)
    if file.text is None:
        delivery.failed(place, "5.3.5" if file.missing else "4.3.5", "mail system configuration error")
        delivery.tools.log.warning("local", f"cannot use :include: file {path}: {file.trouble}")
        return
    rights = place.rights
    if file.uid:
        owner = await delivery.tools.accounts.of_uid(file.uid)
        if owner is None:
            delivery.failed(place, "4.3.5", "mail system configuration error")
            delivery.tools.log.warning("local", f":include: file {path}: its owner has no account")
            return
        rights = Rights(owner.identity, owner.home, owner.shell)
    inner = replace(place, within="include", level=place.level + 1, rights=rights)
    if "include" not in delivery.config.propagated:
        inner = replace(inner, unmatched="")
    await lines(delivery, inner, file.text)
