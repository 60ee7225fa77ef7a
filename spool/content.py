"""The message of an entry, to be read: spool.interfaces.Content, from a file or from memory."""

from __future__ import annotations

from collections.abc import Callable

from spool import format
from spool.files import Files
from spool.interfaces import SpoolError

_AHEAD = 1 << 20


class FileContent:
    """An open message file.  Reading keeps its own position, the descriptor's is free for whoever gets it."""

    def __init__(self, files: Files, path: str) -> None:
        """Raises OSError, SpoolError."""
        self._files = files
        self._descriptor = files.open(path)
        try:
            self.offset, self.size = format.measure(files.read(self._descriptor, format.HEAD, 0))
            if files.status(self._descriptor).st_size != self.offset + self.size:
                raise SpoolError("message file is cut off")
        except BaseException:
            self.close()
            raise
        self._at = 0

    def warm(self) -> None:
        """Bring the first megabyte into the page cache."""
        self._files.read(self._descriptor, _AHEAD, self.offset)

    def read(self, count: int = -1) -> bytes:
        left = max(self.size - self._at, 0)
        count = left if count < 0 else min(count, left)
        block = self._files.read(self._descriptor, count, self.offset + self._at)
        if len(block) < count:
            raise SpoolError("message file is cut off")
        self._at += count
        return block

    def seek(self, position: int) -> None:
        self._at = position

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1


class MemoryContent:
    """A message that is still in memory.  ``open_file`` gives its file if a descriptor is wanted after all."""

    def __init__(self, data: bytes, offset: int, open_file: Callable[[], FileContent]) -> None:
        self._data = data
        self.size = len(data)
        self.offset = offset
        self._open_file = open_file
        self._file: FileContent | None = None
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        end = self.size if count < 0 else self._at + count
        block = self._data[self._at : end]
        self._at += len(block)
        return block

    def seek(self, position: int) -> None:
        self._at = position

    def fileno(self) -> int:
        if self._file is None:
            self._file = self._open_file()
        return self._file.fileno()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
