"""Writes Maildirs: tmp → new by rename, file and folder forced to disk.  Runs in a worker, as the user.

Several messages are brought to the disk together: the write-out of all begins before the first of them is waited for,
so that the file system has one commit to do and not one for each.  Standard library only.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

from transports.tasks import Refused, Task, copy, trouble


class _Letter:
    """A message on its way."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.folder: str = task.spec["path"].rstrip("/")
        now = time.time()
        unique = f"{int(now)}.R{secrets.token_hex(8)}P{os.getpid()}M{int(now * 1e6) % 1_000_000}.{_host()}"
        self.temporary, self.final = f"{self.folder}/tmp/{unique}", f"{self.folder}/new/{unique}"
        self.descriptor = -1

    def write(self) -> None:
        """Raises Refused."""
        try:
            self.descriptor = self._create()
        except OSError as error:
            raise Refused("4.2.0", f"create maildir file {self.temporary}: {error.strerror}") from None
        copy(self.descriptor, self.task.message, self.task.spec["limit"] or None)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self.temporary, flags, 0o600)
        except FileNotFoundError:
            for name in ("tmp", "new", "cur"):
                os.makedirs(f"{self.folder}/{name}", 0o700, exist_ok=True)
            return os.open(self.temporary, flags, 0o600)

    def sync(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # some file servers say only now that there was no room

    def place(self) -> None:
        os.rename(self.temporary, self.final)

    def fail(self, refusal: Refused) -> None:
        self.task.refuse(refusal)
        if self.descriptor >= 0:
            os.close(self.descriptor)
        for path in (self.temporary, self.final):
            with suppress(OSError):
                os.unlink(path)


def deliver(tasks: Sequence[Task]) -> None:
    """spec: path (the folder), limit (bytes of the message, 0 = none).  Folders that are missing are made."""
    letters = list(map(_Letter, tasks))
    for step in (_Letter.write, _Letter.sync, _Letter.place):
        if step is _Letter.sync and len(letters) > 1:
            _begin_write_out(letters)
        letters = [letter for letter in letters if _done(step, letter)]
    for folder in {letter.folder for letter in letters}:
        try:
            _sync_folder(f"{folder}/new")
        except OSError as error:
            for letter in letters:
                if letter.folder == folder:
                    letter.fail(trouble("error writing message", error))
    for task in tasks:
        task.answer = task.answer or {"at": 0}


def _done(step: Callable[[_Letter], None], letter: _Letter) -> bool:
    try:
        step(letter)
    except Refused as refusal:
        letter.fail(refusal)
    except OSError as error:
        letter.fail(trouble("error writing message", error))
    else:
        return True
    return False


def _begin_write_out(letters: Sequence[_Letter]) -> None:
    for letter in letters:
        with suppress(OSError):
            os.posix_fadvise(letter.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@cache
def _host() -> str:
    return socket.gethostname().replace("/", "\\057").replace(":", "\\072")


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
