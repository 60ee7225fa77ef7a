"""smtpd_reject_footer, smtpd_reject_footer_maps: what a site adds to its refusals; postconf(5).

The footer comes on lines of its own with the reply's codes in front; "\\c" at its beginning continues the reply's last
line, "\\n" begins another one.  $client_address, $server_name, $localtime and the like stand for facts of the session
(gateway.policy.macros).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config import Settings
from gateway.config.expand import ExpandError
from gateway.interfaces import Log, TableError
from gateway.policy.macros import Macros
from gateway.policy.session import Session
from gateway.tables import Maps, Tables

_LAST_LINE = re.compile(r"([45]\d\d)[ -]((?:[245]\.\d{1,3}\.\d{1,3} )?)[^\n]*\Z")
_MAPS = "smtpd_reject_footer_maps"


@dataclass(slots=True)
class Footers:
    """Those of one service."""

    footer: str
    maps: Maps
    macros: Macros
    log: Log
    program: str

    @classmethod
    def of(cls, settings: Settings, tables: Tables, log: Log, program: str) -> Footers | None:
        """None: there are none."""
        footer, words = settings.raw("smtpd_reject_footer"), settings.words(_MAPS)
        if not footer and not words:
            return None
        maps = tables.maps(words, settings, title=_MAPS, program=program)
        return cls(footer, maps, Macros(settings, log, program), log, program)

    async def added(self, reply: str, session: Session, now: float) -> str:
        """A refusal with its footer."""
        footer = self.footer
        try:
            found = await self.maps.find(reply)
        except TableError as error:
            self.log.warning(self.program, f"{_MAPS}: {error}")
        else:
            footer = found.value if found is not None else footer
        if not footer:
            return reply
        try:
            return _joined(reply, self.macros.expand(footer, session, now))
        except ExpandError as error:
            self.log.warning(self.program, f"smtpd_reject_footer: {error}")
            return reply


def _joined(reply: str, footer: str) -> str:
    match = _LAST_LINE.search(reply)
    if match is None:
        return reply
    if footer.startswith("\\c"):
        text, _, footer = footer[2:].partition("\\n")
        reply += text
    if not footer:
        return reply
    code, status = match.groups()
    *others, last = footer.split("\\n")
    middle = [f"{code}-{status}{line}\n" for line in others]
    return f"{reply[:match.start()]}{code}-{reply[match.start() + 4:]}\n{''.join(middle)}{code} {status}{last}"
