"""How much a link takes: bytes a message, bytes a day, bytes that may wait for a neighbour.

``take`` counts a message in, or says why it must not go now; ``give_back`` counts it out again if it could not be
queued.  What the SMTP server has to know of it stands in ``uucp/limits`` below queue_directory (see
gateway.policy.links): per service the message size, per neighbour what is full and until when.  Days are local ones;
what has been used today survives a restart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.interfaces import BOUNCED, DEFERRED
from transports.guard import Refusal
from transports.uucp.service import UucpService

TOO_LARGE, FULL = "5.3.4", "4.4.5"


@dataclass(slots=True)
class Use:
    day: str = ""
    today: int = 0
    waiting: int = 0


class Limits:
    """Of one service."""

    def __init__(self, service: UucpService) -> None:
        self._service = service
        self._use: dict[str, Use] = {}
        # What attachments stay here of a message is not known before.
        self._largest = 0 if service.attachments else service.largest

    @property
    def any(self) -> bool:
        return bool(self._service.largest)

    def restore(self, said: Mapping[str, Any]) -> None:
        """What was used before a restart: our part of the file."""
        for site, one in said.get("use", {}).items():
            self._use[site] = Use(str(one["day"]), int(one["today"]))

    def recount(self, waiting: Mapping[str, int]) -> None:
        """Bytes that wait, by neighbour."""
        for use in self._use.values():
            use.waiting = 0
        for site, size in waiting.items():
            self._use.setdefault(site, Use()).waiting = size

    def take(self, site: str, size: int, now: float) -> Refusal | None:
        service, use = self._service, self._of(site, now)
        if 0 < self._largest < size:
            return too_large(site, size, self._largest)
        if service.daily and use.today + size > service.daily:
            return Refusal(FULL, self._spent(site), DEFERRED)
        if service.queued and use.waiting + size > service.queued:
            return Refusal(FULL, self._full(site, use), DEFERRED)
        use.today += size
        use.waiting += size
        return None

    def count(self, site: str, size: int, now: float) -> None:
        """More of what was taken."""
        use = self._of(site, now)
        use.today += size
        use.waiting += size

    def give_back(self, site: str, size: int, now: float) -> None:
        use = self._of(site, now)
        use.today = max(0, use.today - size)
        use.waiting = max(0, use.waiting - size)

    def published(self, now: float) -> dict[str, Any]:
        """Our part of the file."""
        service = self._service
        sites: dict[str, list[Any]] = {}
        for site, use in self._use.items():
            if service.daily and use.today >= service.daily and use.day == _day(now):
                sites[site] = [self._spent(site), _midnight(now)]
            elif service.queued and use.waiting >= service.queued:
                sites[site] = [self._full(site, use), 0]
        return {
            "size": self._largest,
            "sites": sites,
            "left": {
                site: service.daily - use.today for site, use in self._use.items()
                if service.daily and use.day == _day(now)
            },
            "until": _midnight(now),
            "use": {site: {"day": use.day, "today": use.today} for site, use in self._use.items()},
        }

    def _of(self, site: str, now: float) -> Use:
        use = self._use.setdefault(site, Use())
        if use.day != _day(now):
            use.day, use.today = _day(now), 0
        return use

    def _spent(self, site: str) -> str:
        return f"the link to {site} has used up the {self._service.daily} bytes of today"

    def _full(self, site: str, use: Use) -> str:
        return f"{use.waiting} bytes wait for {site} already, of {self._service.queued}"


def too_large(site: str, size: int, largest: int) -> Refusal:
    text = f"message size {size} exceeds the limit of the link to {site}: {largest}"
    return Refusal(TOO_LARGE, text, BOUNCED)


def _day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(now))


def _midnight(now: float) -> float:
    year, month, day = time.localtime(now)[:3]
    return time.mktime((year, month, day + 1, 0, 0, 0, 0, 0, -1))
