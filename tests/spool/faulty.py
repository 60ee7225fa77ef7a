"""File operations that fail or end at a chosen one, and a disk that forgets what was not synced."""

import os
import shutil
from collections.abc import Sequence
from typing import Any

from spool.files import Files


class Crash(BaseException):
    """The process ends here; nothing of it runs any more."""


class FaultyFiles(Files):
    """``fail_at``: the number of the operation that raises ``error`` (an errno); ``crash_at``: the one after which
    everything ends.  Keeps account of what would be on the disk if the power failed now."""

    def __init__(self, fail_at: int = -1, error: int = 0, crash_at: int = -1, only: Sequence[str] = ()) -> None:
        super().__init__()
        self.operations: list[str] = []
        self._fail_at = fail_at
        self._error = error
        self._crash_at = crash_at
        self._only = only
        self._dead = False
        self._data: dict[int, bytes] = {}
        """Inode → synced content."""
        self._names: dict[str, int] = {}
        """Path → inode, as synced."""
        self._pending: list[tuple[str, str, int]] = []
        """Changes of names that are not synced: old path or "", new path or "", inode."""

    def _step(self, name: str, *arguments: Any) -> Any:
        if self._dead:
            raise Crash
        if not self._only or name in self._only:
            number = len(self.operations)
            self.operations.append(name)
            if number == self._fail_at:
                raise OSError(self._error, os.strerror(self._error))
        else:
            number = -1
        result = getattr(Files, name)(self, *arguments)
        if number == self._crash_at and number >= 0:
            self._note(name, arguments, result)
            self._dead = True
            raise Crash
        self._note(name, arguments, result)
        return result

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        if name in ("create", "append"):
            inode = os.fstat(result).st_ino
            if not any(new == arguments[0] for _, new, _ in self._pending) and arguments[0] not in self._names:
                self._pending.append(("", arguments[0], inode))
                self._data.pop(inode, None)
        elif name == "rename":
            self._pending.append((*arguments, os.lstat(arguments[1]).st_ino))
        elif name == "unlink":
            self._pending.append((arguments[0], "", 0))
        elif name == "fdatasync":
            status = os.fstat(arguments[0])
            with open(f"/proc/self/fd/{arguments[0]}", "rb") as file:
                self._data[status.st_ino] = file.read()
        elif name == "fsync_dir":
            self._sync(arguments[0])

    def _sync(self, folder: str) -> None:
        left = []
        for old, new, inode in self._pending:
            if folder in (os.path.dirname(old), os.path.dirname(new)):
                self._names.pop(old, None)
                left = [one for one in left if not (one[2] == inode and one[1] == old)]
                if new:
                    self._names[new] = inode
            else:
                left.append((old, new, inode))
        self._pending = left

    def power_cut(self, directory: str, names_survive: bool) -> None:
        """Leave on disk what was synced.  ``names_survive``: all names came to the disk, only data were lost."""
        names = dict(self._names)
        if names_survive:
            for old, new, inode in self._pending:
                names.pop(old, None)
                if new:
                    names[new] = inode
        for folder, subfolders, _ in os.walk(directory):
            if not subfolders:
                shutil.rmtree(folder)
                os.mkdir(folder)
        for path, inode in names.items():
            with open(path, "wb") as file:
                file.write(self._data.get(inode, b""))


def _wrapped(name: str) -> Any:
    def call(self: FaultyFiles, *arguments: Any) -> Any:
        return self._step(name, *arguments)

    return call


OPERATIONS = (
    "create", "append", "open", "write", "write_at", "copy", "read", "status", "status_of", "start_sync", "fdatasync",
    "close", "rename", "unlink", "fsync_dir", "make_dir", "free_bytes", "scan",
)
for _name in OPERATIONS:
    setattr(FaultyFiles, _name, _wrapped(_name))
