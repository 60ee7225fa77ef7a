"""Reading table files: logical lines, the format of postmap(1), and that of postalias(1) and aliases(5).

This is the only module that knows what a text table looks like.  read_table() gives a whole file as a dict; what is
wrong in it are Problems with line numbers, in the words of Postfix's postmap, and the line is left out: a bad line
never takes the rest of the table with it.  Files are UTF-8; other bytes are kept as surrogate escapes, and such lines
are refused where ``utf8`` is asked for (smtputf8_enable).

Files may be large: they are read in blocks() of whole logical lines, and a block of nothing but simple lines is cut by
one regular expression, simple_pairs(); parse_block() does the others line by line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gateway.tables.base import fold

MAX_PROBLEMS = 200
"""So many are kept of one file: a binary file taken for a table must not fill the memory."""

_SPACE = " \t\r\n\v\f"
_MAP_KEY = re.compile(r'(?:[^\\" \t\r\n\v\f]|\\.|\\$|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_UNQUOTE = re.compile(r"\\(.)", re.DOTALL)
_SQUEEZE = re.compile(r'("(?:[^"\\]|\\.)*"?)|[ \t\r\n\v\f]+', re.DOTALL)
_ALIAS_PART = re.compile(
    r'"((?:[^"\\]|\\.)*)"?'  # a quoted part
    r"|(\([^()]*\))"  # a comment
    r"|([:@<>])"  # the end of the name, or what may not be in one
    r"|((?:[^\\\":@<>( \t\r\n\v\f]|\\.)+|[(\\])"
    r"|[ \t\r\n\v\f]+",
    re.DOTALL,
)
_SURROGATE = re.compile("[\udc80-\udcff]")

BLOCK = 1 << 20
"""Bytes: so much of a file is read at a time."""
_LOGICAL_START = re.compile(rb"\n(?=[^ \t\r\n\v\f#])")
_SIMPLE_MAP = re.compile(rb"^([^\s\"#\\][^\s\"\\]*(?<!:))[ \t]+(\S(?:.*\S)?)[ \t\r]*\n", re.MULTILINE)
_SIMPLE_ALIAS = re.compile(rb"^([\w.+-]+):[ \t]*([!-~]+(?: [!-~]+)*)[ \t\r]*\n", re.MULTILINE)


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


def logical_lines(lines: Iterable[str], problems: list[Problem], first_number: int = 1) -> Iterator[Line]:
    """Join continuation lines, leave out comments and empty lines (postmap(1), "INPUT FILE FORMAT")."""
    text, start = "", 0
    for number, line in enumerate(lines, first_number):
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


def is_utf8(text: str) -> bool:
    """Whether there is nothing in it that was no UTF-8 when it was read."""
    return _SURROGATE.search(text) is None


def open_text(path: Path) -> Iterable[str]:
    """The physical lines of a file.  Only a line feed ends one."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        yield from file


def split_map_line(text: str) -> tuple[str, str]:
    """(key, value) of a line "key whitespace value".  Blanks in a key stand in double quotes, or behind a backslash;
    both stay part of the key, as they would be of an address with a quoted local part.  Raises BadLine."""
    match = _MAP_KEY.match(text)
    end = match.end() if match is not None else 0
    if text[end : end + 1] == '"':
        raise BadLine(f"unbalanced '\"' in '{text}' -- ignoring this line")
    key, value = text[:end], text[end:].strip(_SPACE)
    if not key or not value:
        raise BadLine("expected format: key whitespace value")
    return key, value


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
            words.append(comment or _UNQUOTE.sub(r"\1", plain))
    key, value = " ".join(words), text[at:].strip(_SPACE)
    if not key or not value:
        raise BadLine("need name:value pair")
    if "  " in value or not value.isprintable():
        value = _SQUEEZE.sub(lambda match: match.group(1) or " ", value)
    return key, value


class Block(NamedTuple):
    """Whole logical lines of a file, and the number of the first physical one.  It ends with a line feed."""

    line: int
    data: bytes


def blocks(file: BinaryIO) -> Iterator[Block]:
    line, rest = 1, b""
    while more := file.read(BLOCK):
        rest += more
        cut = _last_start(rest)
        if cut:
            yield Block(line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
    if rest:
        yield Block(line, rest if rest.endswith(b"\n") else rest + b"\n")


def _last_start(data: bytes) -> int:
    """Where the last logical line begins that certainly does."""
    at = len(data)
    while (at := data.rfind(b"\n", 0, at)) >= 0:
        if _LOGICAL_START.match(data, at):
            return at + 1
    return 0


def simple_pairs(data: bytes, *, alias: bool = False, folding: bool = True) -> list[tuple[bytes, bytes]] | None:
    """Keys and values of a block in which each line is an entry that needs no care; None if it is not so simple."""
    if not data.isascii():
        return None
    found: list[tuple[bytes, bytes]] = (_SIMPLE_ALIAS if alias else _SIMPLE_MAP).findall(data)
    if len(found) != data.count(b"\n"):
        return None
    return [(key.lower(), value) for key, value in found] if folding else found


def parse_block(
    block: Block, problems: list[Problem], *, alias: bool = False, folding: bool = True, utf8: bool = True
) -> Iterator[tuple[int, str, str]]:
    """(line, key, value) of each entry of a block."""
    lines = block.data.decode("utf-8", "surrogateescape").split("\n")
    return _entries(lines, problems, alias, folding, utf8, block.line)


def parse_table(lines: Iterable[str], *, alias: bool = False, folding: bool = True, utf8: bool = True) -> Content:
    """A whole table.  The first of several entries with the same key counts."""
    content = Content()
    _add(content, _entries(lines, content.problems, alias, folding, utf8))
    return content


def read_table(path: Path, *, alias: bool = False, utf8: bool = True) -> Content:
    """The table in that file.  Raises OSError."""
    content = Content()
    entries = content.entries
    with open(path, "rb") as file:
        for block in blocks(file):
            pairs = simple_pairs(block.data, alias=alias)
            if pairs is not None:
                fresh = {key.decode(): value.decode() for key, value in pairs}
                if len(fresh) == len(pairs) and entries.keys().isdisjoint(fresh):
                    entries.update(fresh)
                    continue
            _add(content, parse_block(block, content.problems, alias=alias, utf8=utf8))
    return content


def _add(content: Content, found: Iterable[tuple[int, str, str]]) -> None:
    for number, key, value in found:
        if key in content.entries:
            note(content.problems, number, duplicate(key))
        else:
            content.entries[key] = value


def duplicate(key: str) -> str:
    """What is wrong with a second entry for that key."""
    return f'duplicate entry: "{key}"'


def find_line(path: Path, key: str, *, alias: bool = False, utf8: bool = True) -> int | None:
    """The number of the line on which that (folded) key stands: read anew, as it is asked for rarely."""
    entries = _entries(open_text(path), [], alias, True, utf8)
    return next((number for number, found, _ in entries if found == key), None)


def _entries(
    lines: Iterable[str], problems: list[Problem], alias: bool, folding: bool, utf8: bool, first_number: int = 1
) -> Iterator[tuple[int, str, str]]:
    split: Callable[[str], tuple[str, str]] = split_alias_line if alias else split_map_line
    for number, text in logical_lines(lines, problems, first_number):
        plain = text.isascii()
        if not plain and utf8 and not is_utf8(text):
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
