"""Changing main.cf and master.cf without disturbing what else stands there: "postconf -e", "-X", "-#"; postconf(1).

``edit`` works on texts; comments and blank lines stay where they are, also those within a setting that goes.
``replace_file`` puts a new text in the place of a file at once: a reader sees the old one or the new one.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from gateway.config.lines import BLANKS

Key = TypeVar("Key")

REMOVE = None


def main_key(line: str) -> str | None:
    """The parameter that a logical line of main.cf sets."""
    name, equals, _ = line.partition("=")
    return name.strip(BLANKS) or None if equals else None


def master_key(line: str) -> tuple[str, str] | None:
    """Name and type of the service in a logical line of master.cf."""
    words = line.split(None, 2)
    return (words[0], words[1]) if len(words) > 1 else None


def edit(text: str, key_of: Callable[[str], Key | None], changes: Mapping[Key, str | None]) -> str:
    """``text`` with each entry in ``changes`` replaced by its new lines (REMOVE: gone); new ones go to the end."""
    found: set[Key] = set()
    lines: list[str] = []
    for key, line, first in _entries(text, key_of):
        if key is None or key not in changes:
            lines.append(line)
            continue
        found.add(key)
        change = changes[key]
        if first and change is not None:
            lines.append(change + "\n")
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    lines += [change + "\n" for key, change in changes.items() if change is not None and key not in found]
    return "".join(lines)


def comment_out(text: str, key_of: Callable[[str], Key | None], keys: set[Key]) -> str:
    """``text`` with each line of those entries behind a "#"."""
    return "".join("#" + line if key in keys else line for key, line, _ in _entries(text, key_of))


def _entries(text: str, key_of: Callable[[str], Key | None]) -> list[tuple[Key | None, str, bool]]:
    """Each physical line with the entry that it belongs to (None: a comment, nothing) and whether it begins it."""
    result: list[tuple[Key | None, str, bool]] = []
    key: Key | None = None
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        stripped = line.strip(BLANKS)
        if not stripped or stripped[0] == "#":
            result.append((None, line, False))
        elif line[0] in BLANKS:
            result.append((key, line, False))
        else:
            key = key_of(stripped)
            result.append((key, line, True))
    return result


def replace_file(path: Path, text: str) -> None:
    """Write beside it, then rename over it; owner and mode stay.  Raises OSError."""
    data = text.encode("utf-8", "surrogateescape")
    status = path.stat() if path.exists() else None
    handle, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), status.st_mode & 0o7777 if status else 0o644)
            if status is not None and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
