"""Reading table files: logical lines, the format of postmap(1), and that of postalias(1) and aliases(5).

This is the only module that knows what a text table looks like.  read_table() gives a whole file as a dict; what is
wrong in it are Problems with line numbers, in the words of Postfix's postmap, and the line is left out: a bad line
never takes the rest of the table with it.  Files are UTF-8; other bytes are kept as surrogate escapes, and such lines
are refused where ``utf8`` is asked for (smtputf8_enable).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.tables.base import fold

MAX_PROBLEMS = 200
"""So many are kept of one file: a binary file taken for a table must not fill the memory."""

_SPACE = " \t\r\n\v\f"
_QUOTED_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"')
_UNQUOTE = re.compile(r"\\(.)", re.DOTALL)
_SQUEEZE = re.compile(r'("(?:[^"\\]|\\.)*"?)|[ \t\r\n\v\f]+', re.DOTALL)
_ALIAS_PART = re.compile(
    r'"((?:[^"\\]|\\.)*)"?'  # a quoted part
    r"|(\([^()]*\))"  # a comment
    r"|([:@<>])"  # the end of the name, or what may not be in one
    r"|([^\":@<>( \t\r\n\v\f]+|\()"
    r"|[ \t\r\n\v\f]+",
    re.DOTALL,
)
_SURROGATE = re.compile("[\udc80-\udcff]")


class Problem(NamedTuple):
    """Something that is wrong on a line of a table file."""

    line: int
    what: str


class Line(NamedTuple):
    """A logical line: its continuation lines joined, blanks in front of them kept."""

    number: int
    text: str


@dataclass(slots=True)
class Content:
    """What a table file says."""

    entries: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class BadLine(ValueError):
    """A line that is no entry; the message says why."""


def logical_lines(lines: Iterable[str], problems: list[Problem]) -> Iterator[Line]:
    """Join continuation lines, leave out comments and empty lines (postmap(1), "INPUT FILE FORMAT")."""
    text, start = "", 0
    for number, line in enumerate(lines, 1):
        first = line[:1]
        if first in _SPACE:
            stripped = line.strip(_SPACE)
            if not stripped or stripped[0] == "#":
                continue
            if start:
                text += line.rstrip("\n")
            else:
                note(problems, number, f'logical line must not start with whitespace: "{line.rstrip()}"')
        elif first != "#":
            if start:
                yield Line(start, text)
            text, start = line.rstrip("\n"), number
    if start:
        yield Line(start, text)


def note(problems: list[Problem], line: int, what: str) -> None:
    if len(problems) < MAX_PROBLEMS:
        problems.append(Problem(line, what))


def open_text(path: Path) -> Iterable[str]:
    """The physical lines of a file.  Only a line feed ends one."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        yield from file


def split_map_line(text: str) -> tuple[str, str]:
    """(key, value) of a line "key whitespace value" or '"quoted key" value'.  Raises BadLine."""
    if text[0] == '"':
        match = _QUOTED_KEY.match(text)
        if match is None:
            raise BadLine(f"unbalanced '\"' in '{text}' -- ignoring this line")
        key, rest = _UNQUOTE.sub(r"\1", match.group(1)), text[match.end() :]
        value = rest.strip(_SPACE)
        if not value or rest[0] not in _SPACE:
            raise BadLine("expected format: key whitespace value")
        return key, value
    parts = text.split(None, 1) if text.isascii() else re.split(f"[{_SPACE}]+", text, maxsplit=1)
    if len(parts) < 2 or not parts[1]:
        raise BadLine("expected format: key whitespace value")
    return parts[0], parts[1].rstrip(_SPACE)


def split_alias_line(text: str) -> tuple[str, str]:
    """(key, value) of a line "name: value, value".  Raises BadLine."""
    words: list[str] = []
    at = 0
    while True:
        match = _ALIAS_PART.match(text, at)
        if match is None:
            raise BadLine("need name:value pair")
        at = match.end()
        quoted, comment, special, plain = match.groups()
        if quoted is not None:
            words.append(_UNQUOTE.sub(r"\1", quoted))
        elif special == ":":
            break
        elif special:
            raise BadLine("name must be local")
        elif comment or plain:
            words.append(comment or plain)
    key, value = " ".join(words), text[at:].strip(_SPACE)
    if not key or not value:
        raise BadLine("need name:value pair")
    if "  " in value or not value.isprintable():
        value = _SQUEEZE.sub(lambda match: match.group(1) or " ", value)
    return key, value


def parse_table(lines: Iterable[str], *, alias: bool = False, folding: bool = True, utf8: bool = True) -> Content:
    """A whole table.  The first of several entries with the same key counts."""
    content = Content()
    entries, problems = content.entries, content.problems
    for number, key, value in _entries(lines, problems, alias, folding, utf8):
        if key in entries:
            note(problems, number, f'duplicate entry: "{key}"')
        else:
            entries[key] = value
    return content


def read_table(path: Path, *, alias: bool = False, utf8: bool = True) -> Content:
    """The table in that file.  Raises OSError."""
    return parse_table(open_text(path), alias=alias, utf8=utf8)


def find_line(path: Path, key: str, *, alias: bool = False, utf8: bool = True) -> int | None:
    """The number of the line on which that (folded) key stands: read anew, as it is asked for rarely."""
    entries = _entries(open_text(path), [], alias, True, utf8)
    return next((number for number, found, _ in entries if found == key), None)


def _entries(
    lines: Iterable[str], problems: list[Problem], alias: bool, folding: bool, utf8: bool
) -> Iterator[tuple[int, str, str]]:
    split: Callable[[str], tuple[str, str]] = split_alias_line if alias else split_map_line
    for number, text in logical_lines(lines, problems):
        plain = text.isascii()
        if not plain and utf8 and _SURROGATE.search(text):
            shown = _SURROGATE.sub("?", text)
            note(problems, number, f'non-UTF-8 input "{shown}" -- ignoring this line')
            continue
        try:
            key, value = split(text)
        except BadLine as problem:
            note(problems, number, str(problem))
            continue
        if not alias and key[-1:] == ":":
            note(problems, number, 'record is in "key: value" format; is this an alias file?')
        if folding:
            key = key.lower() if plain else fold(key)
        yield number, key, value
