"""What an alias, a .forward file or a list's file says: addresses, "|command", /file, :include:/file; aliases(5).

Local addresses are delivered at once, one level deeper; others get a message of their own (indirect).
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from twisted.internet.task import deferLater

from gateway.addresses.forms import quote, unquote
from gateway.addresses.resolve import BAD_SYNTAX
from gateway.addresses.tokens import Address, internal, parse
from gateway.interfaces import DEFERRED, TableError
from transports.local import command, files, indirect
from transports.local.place import Delivery, Place, Rights
from transports.local.reading import LARGEST, LARGEST_OF_USER, read_as
from transports.process import Identity

INCLUDE = ":include:"
AT_ONCE = 100
"""Members that are looked at in one turn of the reactor."""
LONG = 4096
"""Characters of a line after which others have a turn, too."""
LONGEST_OF_USER = 65_536
"""Characters of a line in a user's file: it is read in one go, and takes some microseconds for each."""
EMPTY = "MAILER-DAEMON"
"""Who stands for an empty address."""


def destinations(text: str) -> list[str]:
    """The members of a list, in internal form."""
    return [internal(node.tokens) for node in parse(text) if isinstance(node, Address)]


async def deliver(delivery: Delivery, place: Place, text: str) -> int:
    """To everything that the text lists; the number of members.  Raises TableError."""
    members = destinations(text)
    for at, member in enumerate(members, 1):
        await _member(delivery, place, EMPTY if member in ("", "@") else member)
        if at % AT_ONCE == 0:
            await _others(delivery)
    return len(members)


async def _others(delivery: Delivery) -> None:
    """Let others have a turn."""
    await deferLater(delivery.tools.clock, 0)


async def lines(delivery: Delivery, place: Place, text: str) -> int:
    """The same for a file: line by line, without those that begin with "#".  What stands behind a line of which
    something is to be tried again waits for that: or it would be delivered at each attempt."""
    count, seen = 0, len(delivery.parts)
    for at, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            pass
        elif place.rights and len(line) > LONGEST_OF_USER:
            _misconfigured(delivery, place, f"a line of more than {LONGEST_OF_USER} characters", "4.3.5")
            count += 1
        else:
            count += await deliver(delivery, place, line)
        if any(part.status == DEFERRED for part in delivery.parts[seen:]):
            break
        seen = len(delivery.parts)
        if at % AT_ONCE == 0 or len(line) > LONG:
            await _others(delivery)
    return count


async def _member(delivery: Delivery, place: Place, member: str) -> None:
    if member.startswith("|"):
        await command.deliver(delivery, place, member[1:])
    elif member.startswith("/"):
        await files.deliver(delivery, place, member)
    elif member.startswith("~"):
        home = place.rights.home if place.rights else ""
        if home and member.startswith("~/"):
            await files.deliver(delivery, place, home + member[1:])
        else:
            trouble = "unknown home directory" if member.startswith("~/") else "bad home directory syntax"
            _misconfigured(delivery, place, f"{trouble} for: {member}")
    elif member.lower().startswith(INCLUDE):
        await _include(delivery, place, member[len(INCLUDE) :].strip())
    else:
        await to_address(delivery, place, member)


async def to_address(delivery: Delivery, place: Place, member: str) -> None:
    """Somebody (internal form): here, or elsewhere.  Raises TableError."""
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
    if (route.transport, route.nexthop) == ("error", BAD_SYNTAX):
        delivery.failed(place, "5.1.3", f"bad recipient address syntax: {route.recipient}")
    elif route.transport == delivery.request.service:
        await delivery.deliver(delivery, replace(place, recipient=unquote(route.recipient), level=place.level + 2))
    else:
        indirect.add(delivery, place, route.recipient)


def _misconfigured(delivery: Delivery, place: Place, warning: str, dsn: str = "5.3.5") -> None:
    delivery.tools.log.warning("local", warning)
    delivery.failed(place, dsn, "mail system configuration error")


async def _include(delivery: Delivery, place: Place, path: str) -> None:
    """The members of a list's file.  Root's aliases may name files that only root can read, and each brings the rights
    of its owner; in a user's list the rights stay that user's, or he could act as anybody whose file he names."""
    if not path.startswith("/"):
        _misconfigured(delivery, place, f":include:{path} uses a relative path")
        return
    if not delivery.first_time(f"include {path}", always=True):
        return
    default = delivery.config.default_rights
    reader = place.rights.identity if place.rights else Identity(os.geteuid(), os.getegid())
    largest = LARGEST_OF_USER if place.rights else LARGEST
    file = await read_as(delivery.tools.runner, reader, path, instead=default, largest=largest)
    if file.text is None:
        dsn = "4.3.5" if file.may_pass else "5.3.5"
        what = f":include: file {path}"
        what = f"unable to lookup {what}: {os.strerror(errno.ENOENT)}" if file.missing else f"{what} {file.trouble}"
        _misconfigured(delivery, place, what, dsn)
        return
    rights = place.rights
    if file.uid and not (rights and rights.identity.uid):
        owner = await delivery.tools.accounts.of_uid(file.uid)
        if owner is None:
            _misconfigured(delivery, place, f":include: file {path}: cannot find username for uid {file.uid}", "4.3.5")
            return
        rights = Rights.of(owner)
    inner = replace(
        place, within="include", level=place.level + 1, rights=rights, owner=place.owner or place.recipient
    )
    if "include" not in delivery.config.propagated:
        inner = replace(inner, unmatched="")
    await lines(delivery, inner, file.text)
