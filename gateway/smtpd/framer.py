"""The one framer: bytes from a client in, command lines and message content out.

It is fed with whatever a read brings and asked for what is due: ``line()`` in command mode, ``decode()`` of a Data
object in DATA mode, ``take()`` for BDAT's exact byte counts.  What has not been asked for stays in the buffer, so that
nothing behind a command is looked at before that command is done.

Command mode: a line ends with LF; one CR in front of it (all of them where the old rules apply) belongs to the line
end.  Of a line longer than ``line_length_limit`` the rest is skipped while it arrives, never kept.

DATA mode works on blocks of any size with searches over the whole block, no loop over lines.  The end of data is CRLF
"." CRLF and nothing else (smtpd_forbid_bare_newline = normalize, reject; RFC 5321 4.1.1.4), unless ``lenient``: then
any line that consists of one dot, as in the days before SMTP smuggling (= no, or a client in the exclusions).  Out come
lines that end in LF, without the leading dots of RFC 5321 4.5.2; a line is never broken, however long.  A CR that is
not part of a line end becomes a space (cleanup_replace_stray_cr_lf), so that nobody behind us can take it for one.

Nothing here fails: any bytes are some lines or some content.
"""

from __future__ import annotations

import re

_END = b"\r\n.\r\n"
_LENIENT_END = re.compile(rb"\n\.\r*\n")
_LENIENT_UNDECIDED = re.compile(rb"\r*(?:\n\.?\r*)?\Z")
_LENIENT_LINE_END = re.compile(rb"(?<!\r)\r+\n")
"""Begins at the first CR of several, and at no other: else a run of them would be looked through from each."""
_MANY_CR = 100


class Framer:
    """Input of one connection.  ``limit``: line_length_limit.  ``lenient``: strip every CR in front of a LF."""

    def __init__(self, limit: int = 2048, lenient: bool = False) -> None:
        self.limit = limit
        self.lenient = lenient
        self.bare_lf = False
        """Whether the last line() ended in a LF without CR."""
        self._buffer = b""
        self._at = 0
        self._skipping = b""
        """The kept beginning of a line that is too long and whose end has not come yet."""

    def __len__(self) -> int:
        """Bytes that wait."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        if self._skipping and data:
            # Inside a line that is too long: only its end is of interest.
            at = data.find(b"\n")
            if at < 0:
                self._skipping = self._skipping[:-1] + data[-1:]
                return
            before = data[at - 1 : at] if at else self._skipping[-1:]
            self._buffer = self._skipping[:-1] + (b"\r" if before == b"\r" else b"") + data[at:]
            self._at, self._skipping = 0, b""
        elif self._at == len(self._buffer):
            self._buffer, self._at = data, 0
        else:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0

    def peek(self, count: int = 100) -> bytes:
        return self._buffer[self._at : self._at + count]

    def clear(self) -> None:
        self._buffer, self._at, self._skipping = b"", 0, b""

    def line(self) -> bytes | None:
        """The next command line without its end, cut at the limit; None: it has not come in full."""
        buffer, start = self._buffer, self._at
        end = buffer.find(b"\n", start)
        if end < 0:
            if len(buffer) - start > self.limit + 2:
                # One byte more than is kept: the last one seen, which may be the CR of the line end.
                self._skipping = buffer[start : start + self.limit] + buffer[-1:]
                self._buffer, self._at = b"", 0
            return None
        self._at = end + 1
        self.bare_lf = buffer[end - 1 : end] != b"\r" if end > start else True
        line = buffer[start:end]
        if self.lenient:
            line = line.rstrip(b"\r")
        elif not self.bare_lf:
            line = line[:-1]
        return line[: self.limit]

    def take(self, count: int) -> bytes:
        """Up to ``count`` bytes as they came."""
        block = self._buffer[self._at : self._at + count]
        self._at += len(block)
        if self._at == len(self._buffer):
            self._buffer, self._at = b"", 0
        return block

    def give_back(self, data: bytes) -> None:
        """Put bytes that were taken in front again."""
        self._buffer, self._at = data + self._buffer[self._at :], 0


class _Decoder:
    """The common part."""

    def __init__(self, lenient: bool, replace_cr: bool, watch: bool) -> None:
        self.lenient = lenient
        self.bare_lf = False
        """With ``watch``: whether a LF without CR was among the content; not told of lenient clients."""
        self._replace_cr = replace_cr
        self._watch = watch

    def _plain_ends(self, block: bytes) -> bytes:
        """With LF for CRLF; no CRLF is cut by the block's border."""
        plain = block.replace(b"\r\n", b"\n")
        if self._watch and not self.bare_lf and plain.count(b"\n") != len(block) - len(plain):
            self.bare_lf = True
        return plain


def _lenient_ends(block: bytes) -> bytes:
    """With LF for any number of CR and LF."""
    block = block.replace(b"\r\n", b"\n")
    return _LENIENT_LINE_END.sub(b"\n", block) if b"\r\n" in block else block


class Data(_Decoder):
    """The decoder of one message's DATA."""

    def __init__(self, lenient: bool = False, replace_cr: bool = True, watch: bool = False) -> None:
        super().__init__(lenient, replace_cr, watch)
        self.done = False
        self.rest = b""
        """When done: what came behind the end of data."""
        self.raw = 0
        """Bytes received so far, for the log."""
        self._held = b"\n" if lenient else b"\r\n"
        """Bytes at the end of the last block whose meaning depends on what follows; at first the line end of the
        DATA command, which is not part of the content."""
        self._first = True
        self._after_lf = False

    def decode(self, data: bytes) -> bytes:
        """Content as far as it is certain.  Call no more once ``done``."""
        self.raw += len(data)
        block = self._held + data
        if self.lenient:
            match = _LENIENT_END.search(block)
            at, end = match.span() if match else (-1, -1)
        else:
            at = block.find(_END)
            end = at + len(_END)
        if at >= 0:
            self.done = True
            self.rest = block[end:]
            self.raw -= len(self.rest)
            self._held = b""
            # The line end in front of the dot belongs to the content.
            return self._convert(block[: at + (1 if self.lenient else 2)])
        undecided = self._undecided(block)
        self._held = block[len(block) - undecided :] if undecided else b""
        return self._convert(block[:-undecided] if undecided else block)

    def _undecided(self, block: bytes) -> int:
        if self.lenient:
            match = _LENIENT_UNDECIDED.search(block, max(0, len(block) - _MANY_CR))
            return len(match.group()) if match and len(match.group()) < _MANY_CR else 0
        for count in (4, 3, 2, 1):
            if block.endswith(_END[:count]):
                return count
        return 0

    def _convert(self, block: bytes) -> bytes:
        if not block:
            return block
        if self.lenient:
            block = _lenient_ends(block)
        else:
            block = self._plain_ends(block)
        if self._replace_cr and b"\r" in block:
            block = block.replace(b"\r", b" ")
        if self._after_lf and block.startswith(b"."):
            block = block[1:]
        self._after_lf = block.endswith(b"\n") if block else False
        block = block.replace(b"\n.", b"\n")
        if self._first:
            self._first = False
            block = block[1:]
        return block


class Chunks(_Decoder):
    """The decoder of BDAT chunks: line ends as in DATA, but no dots and no end.  ``finish`` gives what is left."""

    def __init__(self, lenient: bool = False, replace_cr: bool = True, watch: bool = False) -> None:
        super().__init__(lenient, replace_cr, watch)
        self._held = b""

    def decode(self, data: bytes) -> bytes:
        block = self._held + data
        kept = block.rstrip(b"\r") if self.lenient else block.removesuffix(b"\r")
        self._held = block[len(kept) :]
        if len(self._held) > _MANY_CR:
            kept, self._held = block, b""
        return self._convert(kept)

    def finish(self) -> bytes:
        block, self._held = self._held, b""
        return self._convert(block)

    def _convert(self, block: bytes) -> bytes:
        block = _lenient_ends(block) if self.lenient else self._plain_ends(block)
        if self._replace_cr and b"\r" in block:
            block = block.replace(b"\r", b" ")
        return block
