"""Changing entries of a text table: what postmap -i and -d do, as the text file is the table here.

Only the lines of the entries concerned change; comments and everything else stay.  The new file takes the old one's
place in one step, with its owner and mode, so that nobody ever reads a half-written table.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from gateway.tables.base import fold
from gateway.tables.text import BadLine, open_text, split_alias_line, split_map_line

_SPACE = " \t\r\n\v\f"
_PLAIN_MAP_KEY = re.compile(r'[^"\s#][^\s]*')
_PLAIN_ALIAS_KEY = re.compile(r"[^\s\"#:@<>(),;\\]+")


def remove_entries(path: Path, keys: Collection[str], *, alias: bool) -> set[str]:
    """Take out all entries with these (folded) keys.  Those that were there.  Raises OSError."""
    lines = list(open_text(path))
    found: set[str] = set()
    dropped: set[int] = set()
    for indexes in _entry_lines(lines):
        key = _key("".join(lines[index].rstrip("\n") for index in indexes), alias)
        if key is not None and key in keys:
            found.add(key)
            dropped.update(indexes)
    if found:
        _replace(path, "".join(line for index, line in enumerate(lines) if index not in dropped))
    return found


def add_entries(path: Path, entries: Iterable[tuple[str, str]], *, alias: bool) -> None:
    """Append entries; the file is made if need be.  Raises OSError."""
    text = "".join(open_text(path)) if path.exists() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    _replace(path, text + "".join(format_entry(key, value, alias=alias) + "\n" for key, value in entries))


def format_entry(key: str, value: str, *, alias: bool) -> str:
    """The line that says so."""
    plain = (_PLAIN_ALIAS_KEY if alias else _PLAIN_MAP_KEY).fullmatch(key)
    written = key if plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{written}:\t{value}" if alias else f"{written}\t{value}"


def _entry_lines(lines: list[str]) -> Iterable[list[int]]:
    """Of each logical line, the indexes of its physical ones; see text.logical_lines."""
    current: list[int] = []
    for index, line in enumerate(lines):
        stripped = line.strip(_SPACE)
        if not stripped or stripped[0] == "#":
            continue
        if line[0] in _SPACE:
            if current:
                current.append(index)
        else:
            if current:
                yield current
            current = [index]
    if current:
        yield current


def _key(text: str, alias: bool) -> str | None:
    try:
        return fold((split_alias_line if alias else split_map_line)(text)[0])
    except BadLine:
        return None


def _replace(path: Path, text: str) -> None:
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                old = os.stat(target)
            except FileNotFoundError:
                os.fchmod(file.fileno(), 0o644)
            else:
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), old.st_mode & 0o777)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
