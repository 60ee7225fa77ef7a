"""smtpd_reject_filter_maps: tables that put another refusal in the place of one; postconf(5) of Postfix 3.11.

A table is asked for a whole reply with 4XX or 5XX, as it would be sent (lines parted by LF, without a footer), whoever
it comes from: a restriction, a milter, a filter in front of the queue.  What it answers is sent instead, if it is a
refusal of one line; else, or when the table does not answer, the reply stays, with a warning.  The log has told of the
refusal before that, in its own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config import Settings
from gateway.interfaces import Log, TableError
from gateway.tables import Maps, Tables

MAPS = "smtpd_reject_filter_maps"
_STATUS = r"\.\d{1,3}\.\d{1,3}(?: |\Z)"
_REFUSAL = re.compile(rf"([45])\d\d (?:\1{_STATUS}|(?![245]{_STATUS}))[^\r\n]*\S[^\r\n]*\Z", re.ASCII)


@dataclass(slots=True)
class RejectFilter:
    """That of one service."""

    maps: Maps
    log: Log
    program: str

    @classmethod
    def of(cls, settings: Settings, tables: Tables, log: Log, program: str) -> RejectFilter | None:
        """None: there is none."""
        words = settings.words(MAPS)
        if not words:
            return None
        return cls(tables.maps(words, settings, title=MAPS, program=program), log, program)

    async def changed(self, reply: str) -> str:
        try:
            found = await self.maps.find(reply)
        except TableError as error:
            self.log.warning(self.program, f"{MAPS}: {error}")
            return reply
        if found is None:
            return reply
        value = found.value.strip()
        if not _REFUSAL.match(value):
            self.log.warning(self.program, f'{MAPS}: no refusal: "{value[:100]}", ignored')
            return reply
        return value
