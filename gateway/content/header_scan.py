"""The header block of a message: where it ends, and what fields it has.

    fields, end = scan(b"Subject: x\nTo: a\n b\n\nbody\n", complete=True)

Content has LF line ends.  A field is a line that begins with a name of printable ASCII characters but space and
colon, perhaps blanks, and a colon (RFC 5322 2.2, 4.5.8), with the lines behind it that begin with a blank.  The first
line that is none of both ends the block, be it empty or not: for whoever reads the message after us the header must
end just where it ended for us, so the writer puts an empty line there.  Names are compared in lower case.

Nothing is decoded, nothing is copied but the fields themselves, and every pattern is linear in the length of its input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Atomic groups, as a possessive group "(…)*+" lets a half-matched member through in Python 3.11.
_FIELD = re.compile(rb"([!-9;-~]+)([ \t]*):[^\n]*+\n(?>(?:[ \t][^\n]*+\n)*)")
_MAILBOX_LINE = re.compile(rb">*From [^\n]*+\n")


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
    fields = []
    end = 0
    match = _FIELD.match(data)
    while match is not None:
        fields.append(_field(match))
        end = match.end()
        match = _FIELD.match(data, end)
    if not complete and _open_ended(data, end):
        return None
    return fields, end


def first_field(data: bytes, at: int) -> tuple[Field | None, int]:
    """The field that begins at this place, and the place of the first byte behind it, as far as ``data`` goes."""
    match = _FIELD.match(data, at)
    return (_field(match), match.end()) if match is not None else (None, at)


def _field(match: re.Match[bytes]) -> Field:
    name, blanks = match.groups()
    raw = match[0]
    return Field(name.lower(), name + raw[len(name) + len(blanks) :] if blanks else raw)


def _open_ended(data: bytes, end: int) -> bool:
    """Whether what comes after ``data`` could still belong to the header."""
    if end == len(data):
        return True
    return data.find(b"\n", end) < 0


def mailbox_lines(data: bytes) -> list[bytes]:
    """The "From " lines of a mailbox at the beginning, also those marked with ">": no part of the header."""
    lines: list[bytes] = []
    start = 0
    while match := _MAILBOX_LINE.match(data, start):
        lines.append(match[0])
        start = match.end()
    return lines


def is_field(line: bytes) -> bool:
    """Whether a line can stand in a header by itself."""
    return _FIELD.fullmatch(line if line.endswith(b"\n") else line + b"\n") is not None
