"""What uux has written, brought to disk: it makes no fsync itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred


class GroupSync:
    """Brings the file system under a folder to disk, in a thread; callers that come while one sync runs share the next.

    ``in_thread``: runs a function in some thread pool; its failures are the callers'.  A folder that cannot be opened
    means a sync of everything.
    """

    def __init__(self, folder: str, in_thread: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._folder = folder
        self._in_thread = in_thread
        self._running = False
        self._waiting: list[Deferred[None]] = []

    async def __call__(self) -> None:
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._work())
        await turn

    async def _work(self) -> None:
        while self._waiting:
            served, self._waiting = self._waiting, []
            try:
                await self._in_thread(self._sync)
            except Exception as error:
                for turn in served:
                    turn.errback(error)
            else:
                for turn in served:
                    turn.callback(None)
        self._running = False

    def _sync(self) -> None:
        sync_file_system(self._folder)


def sync_file_system(folder: str) -> None:
    """syncfs(2) where the folder lies; sync(2) if that is not possible."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.sync()
        return
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
