"""A server's replies as a table wants them to be: smtp_reply_filter.

Each line of a reply is looked up as it came, made printable; what the table has for it stands in its place.  For
working around servers that say the wrong thing, and for tests of what follows when they do.
"""

from __future__ import annotations

from gateway.interfaces import Log
from gateway.tables.maps import Maps
from transports.smtp.replies import ProtocolError, Reply, code_of, printable


class ReplyFilter:
    def __init__(self, maps: Maps, log: Log, program: str) -> None:
        self._maps, self._log, self._program = maps, log, program

    async def changed(self, reply: Reply, server: str) -> Reply:
        """``server``: for the log.  Raises TableError; ProtocolError if what the table says is no reply."""
        lines, new = list(reply.lines), False
        for number, line in enumerate(lines):
            text = printable(line)
            match = await self._maps.find(text)
            if match is not None:
                what = f'replacing server reply "{text}" with "{match.value}"'
                self._log.info(self._program, f"{server}: {what}")
                lines[number], new = match.value.encode("utf-8", "surrogateescape"), True
        if not new:
            return reply
        codes = [code_of(line) for line in lines]
        if None in codes:
            raise ProtocolError(printable(lines[codes.index(None)][:200]))
        return Reply(codes[-1] or 0, lines)
