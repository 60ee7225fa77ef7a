"""The user's mailbox: mailbox_transport, mailbox_command, home_mailbox, mail_spool_directory; local(8) MAILBOX
DELIVERY."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from transports.accounts import User
from transports.local import command, files
from transports.local.passing import pass_on
from transports.local.place import Delivery, Place, Rights, ask
from transports.process import Identity
from transports.store import Box


async def deliver(delivery: Delivery, place: Place) -> bool:
    """Into it; False if there is no such user.  Raises TableError."""
    config, tools = delivery.config, delivery.tools
    if not delivery.first_time(f"mailbox {place.local}"):
        return True
    service = await ask(tools.transport_maps, place.user) or config.mailbox_transport
    if service:
        await pass_on(delivery, place, service)
        return True
    user = await delivery.user(place.user)
    if user is None:
        return False
    place = replace(place, rights=Rights.of(user))
    if config.require_home and (trouble := await tools.accounts.trouble_with(user.home)):
        delivery.failed(place, "4.3.0", f"cannot access home directory {user.home}: {trouble}")
        return True
    line = await ask(tools.command_maps, place.user) or config.mailbox_command
    if line:
        await command.deliver(delivery, replace(place, within=""), line)
    else:
        await files.keep(delivery, place, await _box(delivery, user), files.MAILBOX)
    return True


async def _box(delivery: Delivery, user: User) -> Box:
    config = delivery.config
    if config.home_mailbox:
        return Box(f"{user.home}/{config.home_mailbox}", user.identity, config.size_limit, owner=_owner(delivery, user))
    folder = config.spool_directory
    path = f"{folder.rstrip('/')}/{user.name}" + ("/" if folder.endswith("/") else "")
    found = await delivery.tools.accounts.look_at(folder)
    identity, new_owner = _spool_rights(found, user.identity, maildirs=folder.endswith("/"))
    return Box(path, identity, config.size_limit, owner=_owner(delivery, user), user=new_owner)


def _owner(delivery: Delivery, user: User) -> int | None:
    return user.identity.uid if delivery.config.strict_owner else None


def _spool_rights(
    found: os.stat_result | None, user: Identity, *, maildirs: bool
) -> tuple[Identity, tuple[int, int] | None]:
    """With the least rights that do in that folder: the user's where everybody or a group may write, else root's; and
    whose the mailbox is to be, if it is root who makes it."""
    if found is None or maildirs or found.st_mode & stat.S_IWOTH:
        return user, None
    if found.st_mode & stat.S_IWGRP:
        return Identity(user.uid, found.st_gid), None
    if os.geteuid() != 0:
        return user, None
    return Identity(0, 0), (user.uid, user.gid)
