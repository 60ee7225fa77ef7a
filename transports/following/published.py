"""What the SMTP server has to know of services that keep to limits: a part each of the file ``limits`` in the medium's
folder.  Counts of today stand in it as well, so that a restart forgets none.  ``Published`` is the reader's side.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "limits"

_writing = threading.Lock()
"""All services of a medium share the file."""


class Published:
    """The part of one service, read again when the file has changed; {} if there is none."""

    def __init__(self, folder: Path, service: str) -> None:
        self._path = folder / FILE
        self._service = service
        self._seen: tuple[int, int, int] | None = None
        self._said: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        try:
            status = os.stat(self._path)
        except OSError:
            return {}
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            self._said, self._seen = read_part(self._path.parent, self._service), seen
        return self._said


def read_part(folder: Path, service: str) -> dict[str, Any]:
    found = _read(folder / FILE).get(service, {})
    return found if isinstance(found, dict) else {}


def write_part(folder: Path, service: str, part: Mapping[str, Any]) -> None:
    """Raises OSError."""
    with _writing:
        known = _read(folder / FILE)
        known[service] = part
        folder.mkdir(mode=0o700, exist_ok=True)
        temporary = folder / f"{FILE}.new"
        temporary.write_text(json.dumps(known))
        os.replace(temporary, folder / FILE)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}
