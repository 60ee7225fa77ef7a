"""The header block of a message: where it ends, and what fields it has.

    fields, end = scan(b"Subject: x\nTo: a\n b\n\nbody\n", complete=True)
    fields, at, state = scan_some(data, 0, complete=False)      # a piece at a time: a header may have a million fields

Content has LF line ends.  A field is a line that begins with a name of printable ASCII characters but space and
colon, perhaps blanks, and a colon (RFC 5322 2.2, 4.5.8), with the lines behind it that begin with a blank.  The first
line that is none of both ends the block, be it empty or not: for whoever reads the message after us the header must
end just where it ended for us, so the writer puts an empty line there.  Names are compared in lower case.

Nothing is decoded, nothing is copied but the fields themselves, and every pattern is linear in the length of its input.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

# Atomic groups, as a possessive group "(…)*+" lets a half-matched member through in Python 3.11.
_FIELD = re.compile(rb"([!-9;-~]+)([ \t]*):[^\n]*+\n(?>(?:[ \t][^\n]*+\n){0,1000})")
_LINES_END = re.compile(rb"\n(?![ \t])")
_NO_FIELD = re.compile(rb"^(?![!-9;-~]+[ \t]*:|[ \t])|\A[ \t]", re.MULTILINE)
_BLANKS = (b" ", b"\t")
_NO_MAILBOX_LINE = re.compile(rb"^(?!>*From )", re.MULTILINE)


AT_ONCE = 1000
"""Fields that are taken in one piece; some milliseconds of work …"""
SIZE_AT_ONCE = 16384
"""… unless there are thousands of addresses in each: no field is begun behind so many bytes."""

MORE, OVER, OPEN = "more", "over", "open"
"""States of a scan: there may be more fields in the data, the header is over, more input is needed."""


@dataclass(slots=True)
class Field:
    """One field of a header: ``raw`` is all of it as it came, folding and last LF included, but without blanks in front
    of the colon (RFC 5322 4.5.8), which would hide the field from others."""

    name: bytes
    """In lower case."""
    raw: bytes

    @property
    def value(self) -> bytes:
        """What is behind the colon, without the blanks around it; folding stays."""
        return self.raw.partition(b":")[2].strip()


def scan(data: bytes, complete: bool) -> tuple[list[Field], int] | None:
    """The fields at the beginning of ``data`` and the position of the first byte behind them.

    None when more input is needed to tell: with ``complete`` false and no line yet that ends the header.
    """
    fields, end, state = scan_all(data, complete)
    return None if state is OPEN else (fields, end)


def scan_all(data: bytes, complete: bool) -> tuple[list[Field], int, str]:
    """The same as scan_some() for all fields that there are."""
    return scan_some(data, 0, complete, sys.maxsize, sys.maxsize)


def scan_some(
    data: bytes, at: int, complete: bool, most: int = AT_ONCE, size: int = SIZE_AT_ONCE
) -> tuple[list[Field], int, str]:
    """Up to ``most`` fields from that place on, none of them begun behind ``size`` bytes; the position of the first
    byte behind them; and how it stands (MORE, OVER, OPEN).  With ``complete`` false, the last one is left for the next
    time if more lines of it may follow."""
    fields: list[Field] = []
    last, enough = at, at + size
    match = _FIELD.match(data, at)
    while match is not None:
        last, at = at, match.end()
        if data.startswith(_BLANKS, at):
            at = _end_of_long(data, at)
        fields.append(_field(match, data, at))
        match = _FIELD.match(data, at) if len(fields) < most and at < enough else None
    state = MORE if len(fields) >= most or fields and at >= enough else OVER
    if not complete and _open_ended(data, at, state):
        state = OPEN
        if fields:
            fields.pop()
            at = last
    return fields, at, state


def first_field(data: bytes, at: int) -> tuple[Field | None, int]:
    """The field that begins at this place, and the place of the first byte behind it, as far as ``data`` goes."""
    match = _FIELD.match(data, at)
    if match is None:
        return None, at
    end = match.end()
    if data.startswith(_BLANKS, end):
        end = _end_of_long(data, end)
    return _field(match, data, end), end


def _end_of_long(data: bytes, at: int) -> int:
    """Of a field with more lines than the pattern takes, as each of them costs it memory."""
    match = _LINES_END.search(data, at)
    return match.end() if match is not None else max(at, data.rfind(b"\n", at) + 1)


def _field(match: re.Match[bytes], data: bytes, end: int) -> Field:
    name, blanks = match.groups()
    raw = match[0] if end == match.end() else data[match.start() : end]
    return Field(name.lower(), name + raw[len(name) + len(blanks) :] if blanks else raw)


def _open_ended(data: bytes, end: int, state: str) -> bool:
    """Whether what comes after ``data`` could still belong to the header; in the middle of it, to the last field."""
    if end == len(data):
        return True
    return data.find(b"\n", end) < 0 and (state is OVER or data[end : end + 1] in b" \t")


def end_of_header(data: bytes) -> int:
    """Where the header at the beginning of ``data`` is over, as far as it goes; at no more cost than a search."""
    end = _NO_FIELD.search(data)
    return end.start() if end is not None else len(data)


def end_of_mailbox_lines(data: bytes) -> int:
    """Where the "From " lines of a mailbox at the beginning end, also those marked with ">": no part of the header."""
    other = _NO_MAILBOX_LINE.search(data)
    return data.rfind(b"\n", 0, other.start() if other is not None else len(data)) + 1


def pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines in pieces of some SIZE_AT_ONCE bytes."""
    at = 0
    while at < len(lines):
        end = lines.rfind(b"\n", at, at + SIZE_AT_ONCE) + 1 or lines.find(b"\n", at) + 1 or len(lines)
        yield lines[at:end]
        at = end


def is_field(line: bytes) -> bool:
    """Whether a line can stand in a header by itself."""
    return _FIELD.fullmatch(line if line.endswith(b"\n") else line + b"\n") is not None
