"""A message on the wire: CRLF line ends, doubled dots, no line over the limit (RFC 5321 4.5.2, 4.5.3.1.6).

The input is content in its stored form (LF line ends), in blocks of any size; what is known of an unfinished line is
carried over from block to block, so that the split makes no difference.  A carriage return in the content becomes a
blank: sent on as it is, a later system could take it for a line end.  A line that is longer than the limit
(smtp_line_length_limit) is broken with CRLF and a blank, as Postfix does.
"""

from __future__ import annotations

from collections.abc import Callable


class DotEncoder:
    """Encodes one message: encode() each block, then end()."""

    __slots__ = ("_broken_line", "_column", "_limit")

    def __init__(self, limit: int = 998, broken_line: Callable[[], None] = lambda: None) -> None:
        """``broken_line`` is called whenever lines had to be broken."""
        self._limit, self._broken_line = limit, broken_line
        self._column = 0
        """Bytes sent of the current line; 0 = at its start."""

    def encode(self, block: bytes) -> bytes:
        if not block:
            return b""
        if b"\r" in block:
            block = block.replace(b"\r", b" ")
        first_dot = block[0] == 0x2E and not self._column
        if b"\n." in block:
            # A doubled dot is no part of the line that the receiver will see, but one byte more is no harm to it:
            # lines are measured before.
            lines = self._measured(block)
            encoded = b"\r\n".join([b"." + line if line.startswith(b".") else line for line in lines[1:]])
            encoded = lines[0] + b"\r\n" + encoded if len(lines) > 1 else lines[0]
        else:
            encoded = b"\r\n".join(self._measured(block))
        return b"." + encoded if first_dot else encoded

    def end(self) -> bytes:
        """What follows the last block."""
        return b"\r\n.\r\n" if self._column else b".\r\n"

    def _measured(self, block: bytes) -> list[bytes]:
        """The block's lines, none of them too long; the last one unfinished.  Keeps the column."""
        lines = block.split(b"\n")
        limit = self._limit
        if limit > 1 and (self._column + len(lines[0]) > limit or len(max(lines, key=len)) > limit):
            lines = self._broken(lines)
        elif len(lines) > 1:
            self._column = len(lines[-1])
        else:
            self._column += len(lines[0])
        return lines

    def _broken(self, lines: list[bytes]) -> list[bytes]:
        limit, column = self._limit, self._column
        self._broken_line()
        result: list[bytes] = []
        for line in lines:
            room = limit - column
            while len(line) > room:
                result.append(line[:room])
                line = b" " + line[room:]
                room = limit
                column = 0
            result.append(line)
            self._column = column + len(line)
            column = 0
        return result
