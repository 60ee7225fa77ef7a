"""What the SMTP server has to know of services that keep to limits: a part each of the file ``limits`` in the medium's
folder.  Counts of today stand in it as well, so that a restart forgets none.
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
