"""Replies of an SMTP or LMTP server: reading them, and what they mean (RFC 5321 4.2, RFC 2034).

``ReplyReader`` cuts what comes in into replies.  It keeps no more than LONGEST_LINE bytes of a line and MOST_LINES
lines of a reply, and reads on.  A line that does not begin with a three-digit code between 200 and 599 and a blank, a
hyphen or the line's end, or a reply that never ends, raises ProtocolError: whoever sends that is not to be trusted
with the question whether mail has been accepted.  The code and the enhanced code are those of the last line.
"""

from __future__ import annotations

import re

LONGEST_LINE = 2048
MOST_LINES = 100
LONGEST_REPLY = 1_000_000

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd\u2028\u2029]")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])|$)")
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


def printable(data: bytes) -> str:
    """What came from outside, as text that can do no harm in a log or a notice."""
    text = data.decode("utf-8", "replace")
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub("?", text)


def code_of(line: bytes) -> int | None:
    """The code that a line of a reply begins with."""
    match = _LINE.match(line)
    return int(match[1]) if match else None


class ProtocolError(Exception):
    """The server does not speak the protocol; the text is printable and says what came."""


class Reply:
    """A complete reply: its code and its lines, as they came without line ends."""

    __slots__ = ("code", "lines")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code, self.lines = code, lines

    @property
    def good(self) -> bool:
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """The lines in one, safe to print.  As in Postfix, those behind the first LONGEST_LINE bytes are left out: the
        text is kept for each recipient, and goes into the log and into notices."""
        size = count = 0
        while count < len(self.lines) and size < LONGEST_LINE:
            size += len(self.lines[count])
            count += 1
        return printable(b" ".join(self.lines[:count]))

    @property
    def dsn(self) -> str:
        """The enhanced code, if it agrees with the code; else the class alone.  5.5.0: a reply out of place."""
        kind = self.code // 100
        if kind == 3:
            return "5.5.0"
        found = _ENHANCED.match(self.lines[-1][4:].lstrip(b" ").decode("ascii", "replace"))
        if found and found[1][0] == str(kind):
            return found[1]
        return f"{kind}.0.0"


class ReplyReader:
    """Feed it bytes, take replies."""

    __slots__ = ("_at", "_buffer", "_lines", "_size", "_skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """How far the buffer has been taken."""
        self._lines: list[bytes] = []
        self._size = 0
        self._skipping = False
        """Within the part of a line that is not kept."""

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    @property
    def empty(self) -> bool:
        """Nothing is left that was not part of a reply taken before."""
        return self._at == len(self._buffer) and not self._lines

    def take(self) -> Reply | None:
        """The next complete reply.  Raises ProtocolError."""
        while True:
            end = self._buffer.find(b"\n", self._at)
            if end < 0:
                self._shorten()
                return None
            line, self._at = self._buffer[self._at : end], end + 1
            reply = self._add(line)
            if reply is not None:
                return reply

    def _add(self, line: bytes) -> Reply | None:
        self._size += len(line) + 1
        if self._skipping:
            self._skipping = False
            line = self._lines.pop()
        line = line.rstrip(b"\r")[:LONGEST_LINE]
        match = _LINE.match(line)
        if match is None:
            raise ProtocolError(printable(line[:200]))
        if self._size > LONGEST_REPLY:
            raise ProtocolError("a reply without end")
        if match[2] == b"-":
            if len(self._lines) < MOST_LINES:
                self._lines.append(line)
            return None
        lines, self._lines, self._size = self._lines, [], 0
        lines.append(line)
        return Reply(int(match[1]), lines)

    def _shorten(self) -> None:
        """An unfinished line that is too long: keep its beginning as if it were a line, forget the rest."""
        length = len(self._buffer) - self._at
        if length <= LONGEST_LINE:
            return
        self._size += length
        if self._size > LONGEST_REPLY:
            raise ProtocolError("a reply without end")
        if not self._skipping:
            self._skipping = True
            self._lines.append(self._buffer[self._at : self._at + LONGEST_LINE])
        self._buffer, self._at = b"", 0
