"""What a spool keeps in mind of the last minutes: contents of new messages, and which messages have been dealt with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from spool import ids

FRESH = 60.0
"""Seconds after the making of an ID in which a message can be taken to be where its maker put it, and in the page
cache."""

LARGEST, ALL = 65_536, 4_194_304
"""Bytes of contents that are kept: of one message, of all together."""


class Contents:
    """Contents of small new messages, for their first delivery; each with the offset that it has in its file."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, id: str, data: bytes, offset: int) -> None:
        if len(data) > LARGEST:
            return
        self._kept[id] = (data, offset)
        self._bytes += len(data)
        while self._bytes > ALL:
            _, (old, _) = self._kept.popitem(last=False)
            self._bytes -= len(old)

    def get(self, id: str) -> tuple[bytes, int] | None:
        return self._kept.get(id)

    def drop(self, id: str) -> None:
        kept = self._kept.pop(id, None)
        if kept is not None:
            self._bytes -= len(kept[0])


class Settled:
    """Messages that this process knows to be more than just put into the spool; a late word of their coming must not
    make them new again."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        """``clock``: that of IDs; ``steady``: one that nobody sets."""
        self._clock = clock
        self._steady = steady
        self._since: OrderedDict[str, float] = OrderedDict()
        self._second = -1
        self._oldest_fresh = ""

    def is_fresh(self, id: str) -> bool:
        """Whether an ID was made in the last minute."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._oldest_fresh = ids.head(max(second - int(FRESH), 0))
        return id > self._oldest_fresh

    def is_new(self, id: str) -> bool:
        """Whether nothing can have happened to a message since it was put into the spool."""
        return id not in self._since and self.is_fresh(id)

    def add(self, id: str) -> None:
        now = self._steady()
        self._since.pop(id, None)
        self._since[id] = now
        while self._since:
            oldest = next(iter(self._since))
            if self._since[oldest] > now - 2 * FRESH:
                break
            del self._since[oldest]
