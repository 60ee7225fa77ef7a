"""reject_link_limits: what the link to a UUCP neighbour does not take is refused while the client is there.

The file ``uucp/limits`` below queue_directory is kept by the uucp services (transports.uucp.limits): per service the
largest message, per neighbour what is full.  A message that declares a larger SIZE is refused with 552 5.3.4; if the
day's bytes or the room for what waits are used up, 452 4.4.5.  A recipient for whom another transport is responsible
does not concern it, nor does a file that is not there.
"""

from __future__ import annotations

import json
import os
from typing import Any

from gateway.clock import time_of_day
from gateway.interfaces import IRestriction
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Verdict, refuse


class _File:
    """The file, read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._said: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                with open(self._path, encoding="utf-8") as file:
                    said = json.load(file)
                self._said, self._seen = said if isinstance(said, dict) else {}, seen
        except (OSError, ValueError):
            return {}
        return self._said


@restriction("reject_link_limits")
def link_limits(tools: Toolbox, arguments: Arguments) -> IRestriction:
    file = _File(os.path.join(tools.settings.text("queue_directory"), "uucp", "limits"))

    async def check(session: Session) -> Verdict:
        services = file.read()
        if not services or session.recipient is None:
            return DUNNO
        destination = await tools.destination(session, session.recipient)
        said = services.get(destination.transport)
        if said is None:
            return DUNNO
        return _judge(said, destination.nexthop.partition("!")[0], session, time_of_day(tools.clock))

    return Asking("reject_link_limits", check)


def _judge(said: dict[str, Any], site: str, session: Session, now: float) -> Verdict:
    about = f"<{session.recipient}>: Recipient address rejected:"
    if 0 < said["size"] < session.size:
        text = f"{about} message size {session.size} exceeds the limit of the link to {site}: {said['size']}"
        return refuse(552, "5.3.4", text)
    if site in said["sites"]:
        text, until = said["sites"][site]
        if not until or now < until:
            return refuse(452, "4.4.5", f"{about} {text}")
    left = said["left"].get(site)
    if left is not None and left < session.size and now < said["until"]:
        return refuse(452, "4.4.5", f"{about} the link to {site} takes {max(left, 0)} more bytes today")
    return DUNNO
