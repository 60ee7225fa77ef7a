"""How postmap, postalias and newaliases make and change the indexes of tables; postmap(1).

    path = build(change, "hash:/etc/mail/map")     # the text's index, made anew
    path = add(change, spec, standard_input)       # -i: entries added to what is in force
    found, path = delete(change, spec, keys)       # -d

What is in force is the newer one of text and index (gateway.tables.indexed), so that entries can be added to, or taken
out of, a text that has no index yet: the text stays as it is, and counts again once it is changed.  Each change is a
new file that takes the old one's place.  Whatever is wrong is Fatal, the last word of a command.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import Settings
from gateway.tables.index import IndexProblem, Writer, index_path, new_index, open_index
from gateway.tables.indexed import INDEXED_TYPES, in_force, is_alias_file
from gateway.tables.text import Problem

DEFAULT_MODE = 0o644


class Fatal(Exception):
    """Ends the command with this line."""


@dataclass
class Change:
    """How tables are to be made: the letters of the command's options, and where warnings go."""

    settings: Settings
    warn: Callable[[str], None]
    alias: bool = False
    flags: frozenset[str] | set[str] = frozenset()

    def is_alias(self, spec: str) -> bool:
        # A file that alias_maps names is read as aliases: postmap must not make anything else of it.
        type, _, name = spec.partition(":")
        return self.alias or is_alias_file(type, Path(name), self.settings)


def build(change: Change, spec: str) -> Path:
    """The index of a table, made from its text.  Gives the index's path."""
    path = _path(spec)
    with _complaining(path), open(path, "rb") as text:
        found = os.fstat(text.fileno())
        with _as_owner(found, change.flags), _made(change, spec, found.st_size, None, found.st_mtime_ns) as writer:
            writer.add(text)
            _tell(change, path, writer.problems)
    return index_path(path)


def add(change: Change, spec: str, text: bytes) -> Path:
    path = _path(spec)
    with _complaining(path), _changing(change, spec, len(text)) as writer:
        writer.problems.clear()
        writer.add(io.BytesIO(text))
        _tell(change, "standard input", writer.problems)
    return index_path(path)


def delete(change: Change, spec: str, keys: Collection[str]) -> tuple[bool, Path]:
    """Whether any of these (folded) keys was there."""
    path = _path(spec)
    with _complaining(path):
        if not in_force(path)[0].exists():
            raise FileNotFoundError(2, os.strerror(2))
        with _changing(change, spec, 0) as writer:
            found = [writer.delete(key) for key in keys]
    return any(found), index_path(path)


@contextmanager
def _changing(change: Change, spec: str, size: int) -> Iterator[Writer]:
    """A writer that begins with what is in force."""
    path = _path(spec)
    place, is_index = in_force(path)
    try:
        found = os.stat(place)
    except FileNotFoundError:
        found = None
    with _as_owner(found, change.flags):
        if found is None or is_index:
            with _made(change, spec, size, place if found else None) as writer:
                yield writer
            return
        with open(place, "rb") as text, _made(change, spec, size + found.st_size, None) as writer:
            writer.add(text)
            yield writer


@contextmanager
def _made(change: Change, spec: str, size: int, base: Path | None, time_ns: int | None = None) -> Iterator[Writer]:
    path = _path(spec)
    mode = DEFAULT_MODE
    if "p" not in change.flags:
        for source in (path, base):
            if source is not None and source.exists():
                mode = source.stat().st_mode & 0o666
                break
    options: dict[str, Any] = {
        "alias": change.is_alias(spec),
        "folding": "f" not in change.flags,
        "utf8": change.settings.flag("smtputf8_enable"),
        "replace": "r" in change.flags,
        "null": open_index(base).has_nulls if base else "N" in change.flags and "n" not in change.flags,
        "change": _file_contents if "F" in change.flags else None,
    }
    with new_index(path, size=size, mode=mode, time_ns=time_ns, base=base, **options) as writer:
        yield writer


def _file_contents(value: str) -> str:
    """-F: what is in the files that the value names, in a form that fits in a line."""
    names = value.replace(",", " ").split()
    return base64.b64encode(b"\n".join(Path(name).read_bytes() for name in names)).decode()


def _path(spec: str) -> Path:
    type, _, name = spec.partition(":")
    if type not in INDEXED_TYPES:
        raise Fatal(f"unsupported dictionary type: {type} does not support bulk-mode creation.")
    return Path(name)


def _tell(change: Change, place: object, problems: list[Problem]) -> None:
    for line, what in problems:
        if not (change.flags & {"w", "r"} and what.startswith("duplicate entry")):
            change.warn(f"{place}, line {line}: {what}")


@contextmanager
def _complaining(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Fatal(f"open {error.filename or path}: {error.strerror}") from None
    except IndexProblem as problem:
        raise Fatal(f"{path}: {problem}") from None


@contextmanager
def _as_owner(found: os.stat_result | None, flags: Collection[str]) -> Iterator[None]:
    """Root makes the index of somebody else's text with that user's rights only, as the folder may be his, too; -o:
    with its own."""
    if found is None or "o" in flags or os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        os.setgroups([])
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
