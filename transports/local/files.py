"""Mail to a file: /file, /maildir/, and the user's own mailbox; local(8) EXTERNAL FILE DELIVERY, MAILBOX DELIVERY."""

from __future__ import annotations

from gateway.clock import time_of_day
from transports import message
from transports.local.place import Delivery, Place
from transports.store import Box, Failure

MAILBOX = "mailbox"


async def deliver(delivery: Delivery, place: Place, path: str) -> None:
    """A file that an alias or a .forward file names."""
    config = delivery.config
    identity = place.identity(config.default_rights)
    if place.within not in config.files_in:
        delivery.failed(place, "5.7.1", "mail to file is restricted")
    elif delivery.first_time(f"file {identity.uid} {path}"):
        await keep(delivery, place, Box(path, identity, config.size_limit, lenient=True), f"file: {path}")


async def keep(delivery: Delivery, place: Place, box: Box, what: str) -> None:
    """``what``: MAILBOX, or what the file is called in results."""
    what = "maildir" if box.is_maildir else what
    if delivery.only_asked:
        delivery.sent(place, f"delivers to {what}")
        return
    form = message.PLAIN if box.is_maildir else message.MBOX
    kept = await delivery.tools.store.keep(box, message.encode(delivery.content, top(delivery, place, box), form))
    if not isinstance(kept, Failure):
        delivery.sent(place, f"delivered to {what}")
        if what == MAILBOX and delivery.tools.tell_user is not None:
            delivery.tools.tell_user(place.user, kept)
        return
    if kept.hint:
        delivery.tools.log.warning("local", kept.hint)
    if box.is_maildir:
        before = "maildir delivery failed: "
    elif what == MAILBOX:
        before = f"cannot update mailbox {box.path} for user {place.user}. "
    else:
        before = f"cannot append message to file {box.path}: "
    delivery.failed(place, kept.dsn, before + kept.text)


def top(delivery: Delivery, place: Place, box: Box) -> bytes:
    """The lines in front of the message."""
    lines = b"" if box.is_maildir else message.from_line(place.sender, time_of_day(delivery.tools.clock))
    lines += message.return_path(place.sender) + delivery.original_to(place)
    return lines + (message.delivered_to(place.delivered) if "file" in delivery.config.delivered_in else b"")
