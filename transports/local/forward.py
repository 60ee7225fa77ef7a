"""Users' .forward files: forward_path; local(8) SYSTEM-WIDE AND USER-LEVEL ALIASING.

A file that is not the user's, or that everybody may write, is not trusted: it counts as if it were not there.
"""

from __future__ import annotations

from dataclasses import replace

from transports.local import expansion
from transports.local.place import Delivery, Place, Rights
from transports.local.reading import LARGEST_OF_USER, File, read_as


async def deliver(delivery: Delivery, place: Place) -> bool:
    """As the user's file says; False if there is none, or it says nothing."""
    config = delivery.config
    if not config.forward_path:
        return False
    user = await delivery.user(place.user)
    # Files that lead to one another must not be read again and again, however many others they name before.
    if user is None or not delivery.first_time(f"forward {user.name}", always=True):
        return False
    place = replace(place, rights=Rights.of(user))
    named = [pattern for pattern in config.forward_path if place.has_all(pattern)]
    patterns = {place.fill(pattern, config.forward_filter): pattern for pattern in reversed(named)}
    paths = [path for path in reversed(patterns) if path.startswith("/")]
    while path := await delivery.tools.accounts.first_present(paths):
        file = await read_as(delivery.tools.runner, user.identity, path, links=False, largest=LARGEST_OF_USER)
        if not file.missing:
            text = _trusted(delivery, path, file, user.identity.uid)
            return text is not None and await _expand(delivery, place, patterns[path], text)
        paths = paths[paths.index(path) + 1 :]
    return False


def _trusted(delivery: Delivery, path: str, file: File, uid: int) -> str | None:
    trouble = file.trouble
    if file.text is not None and file.uid not in (0, uid):
        trouble = f"has bad owner uid {file.uid}"
    if trouble:
        delivery.tools.log.warning("local", f"file {path} {trouble}")
        return None
    return file.text


async def _expand(delivery: Delivery, place: Place, pattern: str, text: str) -> bool:
    config = delivery.config
    unmatched = "" if "extension" in pattern or "forward" not in config.propagated else place.unmatched
    inner = replace(
        place, within="forward", level=place.level + 2, owner=place.user, unmatched=unmatched, expanded_from="",
        delivered=place.delivered if config.frozen_delivered else place.recipient,
    )
    if await expansion.lines(delivery, inner.taken_over(), text) == 0:
        return False
    delivery.expanded(place, "expanded")
    return True
