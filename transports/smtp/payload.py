"""A message as it goes over the wire, to as many hosts as need be.

``Payload`` opens the content once.  A small message is held in memory and encoded in one piece; a larger one is read
and encoded in blocks while it is sent, so that memory does not grow with its size.  With ``downgraded`` the 8-bit parts
are made quoted-printable on the way (transports.smtp.downgrade).
"""

from __future__ import annotations

from collections.abc import Iterator

from spool.envelope import Envelope
from spool.interfaces import Content
from transports.smtp.dots import DotEncoder
from transports.smtp.downgrade import Downgrader

BLOCK = 65536
SMALL = 128 * 1024
_ASCENT = 64
"""Bytes a line assumed when a large message's line ends are guessed for SIZE=."""


class Payload:
    """``close`` it in the end."""

    def __init__(self, envelope: Envelope, content: Content, line_limit: int) -> None:
        self.envelope = envelope
        self._content = content
        self._limit = line_limit
        self._encoded: bytes | None = None
        self.small: bytes | None = content.read() if content.size <= SMALL else None
        self.eight_bit = envelope.eight_bit or envelope.encoding == "8bit"

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
        data = self.small
        if data is None:
            self._content.seek(0)
            data = self._content.read(BLOCK)
        end = data.find(b"\n\n")
        return data if end < 0 else data[:end]

    def whole(self, downgraded: bool) -> bytes | None:
        """The encoded message with its final dot, if it is a small one."""
        if self.small is None:
            return None
        if downgraded:
            return b"".join(self.blocks(True))
        if self._encoded is None:
            encoder = DotEncoder(self._limit)
            self._encoded = encoder.encode(self.small) + encoder.end()
        return self._encoded

    def blocks(self, downgraded: bool) -> Iterator[bytes]:
        """The encoded message in blocks, its final dot in the last one.  Raises what the content's read raises."""
        encoder = DotEncoder(self._limit)
        pieces = self._plain()
        for piece in Downgrader().convert(pieces) if downgraded else pieces:
            yield encoder.encode(piece)
        yield encoder.end()

    def _plain(self) -> Iterator[bytes]:
        if self.small is not None:
            yield self.small
            return
        self._content.seek(0)
        while block := self._content.read(BLOCK):
            yield block

    def close(self) -> None:
        self._content.close()
