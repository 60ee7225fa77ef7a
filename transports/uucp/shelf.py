"""Messages whose large attachments did not go along: whole, a file each, in ``uucp/kept/`` below queue_directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.interfaces import Content, IContentSource, Request

FOLDER = "kept"

InThread = Callable[..., Awaitable[Any]]


class Shelf:
    """``folder``: the register's."""

    def __init__(self, folder: Path, in_thread: InThread) -> None:
        self._folder = folder / FOLDER
        self._in_thread = in_thread
        self._new: set[str] = set()

    async def keep(self, request: Request, contents: IContentSource) -> None:
        """Durable when this returns.  Raises OSError, SpoolError: then nothing may be left out of the message."""
        content = await contents.content(request.entry.id, request.entry.where)
        try:
            if await self._in_thread(write, self._folder, request.entry.id, content):
                self._new.add(request.entry.id)
        finally:
            content.close()

    async def forget(self, request: Request) -> None:
        """It went whole, or not at all.  What was there before, for others of its recipients, stays."""
        if request.entry.id in self._new:
            self._new.discard(request.entry.id)
            await self._in_thread(remove, self._folder / request.entry.id)

    async def clear(self, before: float) -> None:
        """Remove what is older (seconds since the epoch).  Never raises."""
        self._new.clear()
        await self._in_thread(remove_old, self._folder, before)


def write(folder: Path, name: str, content: Content) -> bool:
    """Whether it was not there before."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, temporary = folder / name, folder / f"{name}.new"
    if path.exists():
        return False
    content.seek(0)
    with open(temporary, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        shutil.copyfileobj(content, file)
        file.flush()
        os.fdatasync(file.fileno())
    os.rename(temporary, path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def remove_old(folder: Path, before: float) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    remove(Path(entry.path))
    except OSError:
        pass
