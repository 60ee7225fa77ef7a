"""Whoever runs postmap, postalias or newaliases may count on the change when the command is done.

So the command comes back not before the running gateway, if there is one, has looked at the files again
(gateway.tables.watch): an index that was renamed into place is taken at once then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.config import Settings
from gateway.control import Control, Down
from gateway.tables.watch import CHECK_EVERY


def wait(
    paths: Iterable[Path],
    settings: Settings,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until these files are in use.  No longer than that takes when all clocks are right."""
    pause = max((_changed(path) + CHECK_EVERY - now() for path in paths), default=0.0)
    if pause > 0 and _gateway_runs(settings):
        sleep(min(pause, CHECK_EVERY))


def _changed(path: Path) -> float:
    try:
        found = os.stat(path)
    except OSError:
        return 0.0
    return max(found.st_mtime, found.st_ctime)


def _gateway_runs(settings: Settings) -> bool:
    try:
        with Control(settings.text("queue_directory")):
            return True
    except (Down, PermissionError):
        return False
