"""A message as it goes over the wire, to as many hosts as need be.

``Payload`` opens the content once.  A small message is held in memory and encoded in one piece; a larger one is read
and encoded in blocks while it is sent, so that memory does not grow with its size.  With ``downgraded`` the 8-bit parts
are made quoted-printable on the way (transports.smtp.downgrade).  With ``checks`` all of it passes through them
(smtp_header_checks and its like), in each attempt anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol

from spool.envelope import Envelope
from spool.interfaces import Content
from transports.smtp.dots import DotEncoder
from transports.smtp.downgrade import Downgrader

BLOCK = 65536
SMALL = 128 * 1024
_ASCENT = 64
"""Bytes a line assumed when a large message's line ends are guessed for SIZE=."""


class Check(Protocol):
    """See gateway.content.outgoing."""

    async def feed(self, data: bytes, complete: bool) -> bytes: ...


class Payload:
    """``close`` it in the end."""

    def __init__(self, envelope: Envelope, content: Content, line_limit: int) -> None:
        self.envelope = envelope
        self._content = content
        self._limit = line_limit
        self._encoded: bytes | None = None
        self._head = b""
        self._head_replaced = 0
        """In a large message: what is sent in the place of so many bytes at its beginning."""
        self.checks: Callable[[], Check] | None = None
        """Makes the checks of one attempt."""
        self.long_lines: Callable[[], None] = lambda: None
        """Called once when lines are longer than the limit."""
        self.small: bytes | None = content.read() if content.size <= SMALL else None
        self.eight_bit = envelope.eight_bit or envelope.encoding == "8bit"

    @property
    def may_have_8_bits(self) -> bool:
        """Nobody has said that it has not."""
        return self.envelope.encoding != "7bit"

    @property
    def is_ascii(self) -> bool:
        """Whether it is known to be so."""
        return self.small is not None and self.small.isascii()

    @property
    def wire_size(self) -> int:
        """Its size with CRLF line ends; exact for small messages, an estimate for large ones (RFC 1870 6.3)."""
        if self.small is not None:
            return len(self.small) + self.small.count(b"\n")
        return self._content.size + self._content.size // _ASCENT

    @property
    def needs_utf8(self) -> bool:
        """Whether a server without SMTPUTF8 cannot take it (RFC 6531): non-ASCII in the sender or in the header."""
        return self.envelope.smtputf8 and (not self.envelope.sender.isascii() or not self._header().isascii())

    def _header(self) -> bytes:
        """The header block with the LF of its last line."""
        data = self.small
        if self._head:
            return self._head
        if data is None:
            self._content.seek(0)
            data = self._content.read(BLOCK)
            while b"\n\n" not in data and (block := self._content.read(BLOCK)):
                data += block
        end = data.find(b"\n\n")
        return data if end < 0 else data[: end + 1]

    async def change_header(self, change: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Send another header block than the one that is stored; before anything is sent."""
        old = self._header()
        new = await change(old)
        if new is old:
            return
        if self.small is not None:
            self.small = new + self.small[len(old) :]
        else:
            self._head_replaced = self._head_replaced or len(old)
            self._head = new

    def whole(self, downgraded: bool) -> bytes | None:
        """The encoded message with its final dot, if it is a small one."""
        if self.small is None:
            return None
        if downgraded:
            return b"".join(self.blocks(True))
        if self._encoded is None:
            encoder = self._encoder()
            self._encoded = encoder.encode(self.small) + encoder.end()
        return self._encoded

    def blocks(self, downgraded: bool) -> Iterator[bytes]:
        """The encoded message in blocks, its final dot in the last one.  Raises what the content's read raises."""
        encoder = self._encoder()
        pieces = self._plain()
        for piece in Downgrader().convert(pieces) if downgraded else pieces:
            yield encoder.encode(piece)
        yield encoder.end()

    async def checked_blocks(self, downgraded: bool) -> AsyncIterator[bytes]:
        """The same, through the checks."""
        assert self.checks is not None
        check, encoder, downgrader = self.checks(), self._encoder(), Downgrader() if downgraded else None
        for piece in self._plain():
            piece = await check.feed(piece, False)
            yield encoder.encode(downgrader.feed(piece) if downgrader else piece)
        last = await check.feed(b"", True)
        if downgrader is not None:
            last = downgrader.feed(last) + downgrader.end()
        yield encoder.encode(last) + encoder.end()

    def _encoder(self) -> DotEncoder:
        return DotEncoder(self._limit, self._long_lines)

    def _long_lines(self) -> None:
        tell, self.long_lines = self.long_lines, lambda: None
        tell()

    def _plain(self) -> Iterator[bytes]:
        if self.small is not None:
            yield self.small
            return
        if self._head:
            yield self._head
        self._content.seek(self._head_replaced)
        while block := self._content.read(BLOCK):
            yield block

    def close(self) -> None:
        self._content.close()
