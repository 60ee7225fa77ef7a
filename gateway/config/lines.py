"""Logical lines of main.cf, master.cf and everything else in their manner; postconf(5), master(5).

Blank lines and lines whose first visible character is "#" count for nothing, even between a line and its
continuation.  A line that begins with a blank continues the one before; the line break itself disappears, the blank
stays.  Bytes that are not UTF-8 survive as surrogates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BLANKS = " \t\n\v\f\r"


class Line(NamedTuple):
    """A logical line and where it begins and ends (numbers of physical lines, the first is 1)."""

    text: str
    first: int
    last: int


def logical_lines(text: str) -> Iterator[Line]:
    """The logical lines of a whole file.  One that begins with a blank had nothing to continue."""
    parts: list[str] = []
    first = last = 0
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(BLANKS)
        if not stripped or stripped[0] == "#":
            continue
        if parts and line[0] not in BLANKS:
            yield Line("".join(parts).rstrip(BLANKS), first, last)
            parts = []
        if not parts:
            first = number
        parts.append(line)
        last = number
    if parts:
        yield Line("".join(parts).rstrip(BLANKS), first, last)
