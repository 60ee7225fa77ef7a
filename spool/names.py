"""Where a message is: folders, and what its file name says.

    incoming/new/ID                  never tried yet
    deferred/new/DUE.ID.ATTEMPTS     to be tried again at DUE (seconds since the epoch, ten digits)
    deferred/new/DUE.ID.ATTEMPTSe    … and to be returned to its sender then (postsuper -e)
    deferred/new/DUE.ID.ATTEMPTSr    … and to be taken in anew then (postsuper -r)
    hold/new/…, corrupt/new/…        as it was named before

Either form may stand in any folder.  A mail reader that opens a folder moves what it has shown to ``cur`` and puts
":2,FLAGS" behind the name; we never do, but take such files as they are.  Names with a dot in front are somebody's
temporary files and not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import ceil

INCOMING, DEFERRED, HOLD, CORRUPT = "incoming", "deferred", "hold", "corrupt"
FOLDERS = (INCOMING, DEFERRED, HOLD, CORRUPT)

_NAME = re.compile(r"(?:([0-9]{1,12})\.)?([0-9A-Za-z_]{1,100})(?:\.([0-9]{1,9})(e?)(r?))?(?::2,[A-Za-z]*)?\Z")


@dataclass(slots=True, frozen=True)
class Place:
    """A message file: ``folder``/``sub``/``file``, and what the file's name says."""

    folder: str
    id: str
    due: int = 0
    attempts: int = 0
    expire: bool = False
    requeue: bool = False
    sub: str = "new"
    file: str = ""
    """The file's name as it is; "" = as we would name it."""

    @property
    def name(self) -> str:
        if self.file:
            return self.file
        if not (self.due or self.attempts or self.expire or self.requeue):
            return self.id
        return f"{self.due:010d}.{self.id}.{self.attempts}{'e' if self.expire else ''}{'r' if self.requeue else ''}"

    @property
    def where(self) -> str:
        """For at()."""
        return f"{self.folder}/{self.sub}/{self.name}"

    def moved(self, folder: str) -> Place:
        """The same in another folder, under our own kind of name."""
        return replace(self, folder=folder, sub="new", file="")

    def deferred(self, due: float, attempts: int) -> Place:
        return replace(self, folder=DEFERRED, due=max(ceil(due), 1), attempts=attempts, sub="new", file="")

    def expired(self) -> Place:
        return replace(self, expire=True, sub="new", file="")

    def requeued(self, due: float) -> Place:
        return replace(self.deferred(due, 0), requeue=True)


def place(folder: str, sub: str, file: str) -> Place | None:
    """What a file name says; None = it is not a name of ours."""
    match = _NAME.match(file)
    if match is None:
        return None
    due, id, attempts, expire, requeue = match.groups()
    if (due is None) != (attempts is None):
        return None
    found = Place(folder, id, int(due or 0), int(attempts or 0), bool(expire), bool(requeue), sub)
    return found if found.name == file else replace(found, file=file)


def at(where: str) -> Place | None:
    """What Place.where says."""
    parts = where.split("/")
    return place(*parts) if len(parts) == 3 else None
