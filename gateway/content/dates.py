"""Dates as they stand in headers: "Tue, 24 Nov 2026 12:00:00 +0000 (UTC)"; RFC 5322 3.3, two digits for the day."""

from __future__ import annotations

import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def mail_date(moment: float) -> str:
    """The local date and time for a number of seconds since the epoch, whatever the locale is."""
    return _date(int(moment))


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    now = time.localtime(second)
    offset = now.tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    hours, minutes = divmod(abs(offset), 60)
    zone = "".join(character for character in now.tm_zone if character.isalnum() or character in "+-")
    return (
        f"{_DAYS[now.tm_wday]}, {now.tm_mday:02d} {_MONTHS[now.tm_mon - 1]} {now.tm_year} "
        f"{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} {sign}{hours:02d}{minutes:02d} ({zone})"
    )
