"""The changes of the spool, as jobs for spool.batch.

The order of their steps is what the table of states in spool.maildir rests on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from spool import format
from spool.batch import Job
from spool.envelope import Envelope
from spool.files import Files
from spool.interfaces import SpoolError


def forget(files: Files, path: str) -> None:
    """Unlink, if it can be."""
    try:
        files.unlink(path)
    except OSError:
        pass


def shut(files: Files, descriptor: int) -> None:
    """Close.  What close() itself could complain of has been seen by fdatasync()."""
    try:
        files.close(descriptor)
    except OSError:
        pass


class Commit(Job):
    """A new message, all of it in memory: temporary file, fdatasync, rename, fsync of the folder."""

    def __init__(self, temporary: str, final: str, blocks: list[bytes]) -> None:
        self._temporary = temporary
        self._final = final
        self._blocks = blocks
        self._descriptor = -1
        self._left = ""

    def write(self, files: Files) -> None:
        self._descriptor = files.create(self._temporary)
        self._left = self._temporary
        files.write(self._descriptor, self._blocks)

    def start(self, files: Files) -> None:
        files.start_sync(self._descriptor)

    def sync(self, files: Files) -> None:
        files.fdatasync(self._descriptor)

    def place(self, files: Files) -> Iterable[str]:
        files.rename(self._temporary, self._final)
        self._left = self._final
        return (os.path.dirname(self._final),)

    def undo(self, files: Files) -> None:
        if self._left:
            forget(files, self._left)

    def close(self, files: Files) -> None:
        if self._descriptor >= 0:
            shut(files, self._descriptor)


class CommitSpilled(Job):
    """A new message whose first part has gone to a temporary file already, behind ``room`` bytes for the envelope.  If
    the envelope has become larger than that, the message is copied to another file."""

    def __init__(
        self, temporary: str, final: str, descriptor: int, room: int, envelope: Envelope, rest: list[bytes]
    ) -> None:
        self._temporary = temporary
        self._final = final
        self._descriptor = descriptor
        self._room = room
        self._size = envelope.size
        self.head = format.encode(envelope, envelope.size, room)
        self._rest = rest
        self._left = [temporary]

    def write(self, files: Files) -> None:
        files.write(self._descriptor, self._rest)
        self._rest = []
        if len(self.head) > self._room:
            self._make_room(files)
        else:
            files.write_at(self._descriptor, self.head, 0)
        if files.status(self._descriptor).st_size != len(self.head) + self._size:
            raise SpoolError("file has not the size that was written")

    def _make_room(self, files: Files) -> None:
        wider = self._temporary + ".wider"
        target = files.create(wider)
        self._left.append(wider)
        try:
            files.write(target, [self.head])
            files.copy(self._descriptor, self._room, self._size, target)
        except BaseException:
            shut(files, target)
            raise
        shut(files, self._descriptor)
        self._descriptor = target
        files.unlink(self._temporary)
        self._left = [wider]

    def start(self, files: Files) -> None:
        files.start_sync(self._descriptor)

    def sync(self, files: Files) -> None:
        files.fdatasync(self._descriptor)

    def place(self, files: Files) -> Iterable[str]:
        files.rename(self._left[0], self._final)
        self._left = [self._final]
        return (os.path.dirname(self._final),)

    def undo(self, files: Files) -> None:
        for path in self._left:
            forget(files, path)

    def close(self, files: Files) -> None:
        shut(files, self._descriptor)


class Note(Job):
    """Records at the end of a journal.  ``new``: the journal may not be there yet, or its name not be durable.
    Not ``durable``: a power cut may take them."""

    def __init__(self, journal: str, data: bytes, new: bool, durable: bool = True) -> None:
        self._journal = journal
        self._data = data
        self._new = new
        self.durable = durable
        self._descriptor = -1

    def write(self, files: Files) -> None:
        self._descriptor = files.append(self._journal)
        files.write(self._descriptor, [self._data])

    def start(self, files: Files) -> None:
        if self.durable:
            files.start_sync(self._descriptor)

    def sync(self, files: Files) -> None:
        if self.durable:
            files.fdatasync(self._descriptor)

    def place(self, files: Files) -> Iterable[str]:
        return (os.path.dirname(self._journal),) if self._new and self.durable else ()

    def close(self, files: Files) -> None:
        if self._descriptor >= 0:
            shut(files, self._descriptor)


class Move(Job):
    """Another name or folder for a message; before that a note, if there is one, is put into its journal.  A note that
    need not be durable is left out if the disk does not take it.  ``result``: False if there is no such message any
    more."""

    def __init__(self, old: str, new: str, note: Note | None = None) -> None:
        self._old = old
        self._new = new
        self._note = note
        self.result = False

    def write(self, files: Files) -> None:
        if self._note is not None:
            try:
                files.status_of(self._old)
            except FileNotFoundError:
                self._note = None
            else:
                self._write_note(self._note, files)

    def _write_note(self, note: Note, files: Files) -> None:
        try:
            note.write(files)
        except OSError:
            if note.durable:
                raise
            note.close(files)
            self._note = None

    def start(self, files: Files) -> None:
        if self._note is not None:
            self._note.start(files)

    def sync(self, files: Files) -> None:
        if self._note is not None:
            self._note.sync(files)

    def place(self, files: Files) -> Iterable[str]:
        try:
            files.rename(self._old, self._new)
        except FileNotFoundError:
            return ()
        self.result = True
        return (os.path.dirname(self._new), *(self._note.place(files) if self._note is not None else ()))

    def close(self, files: Files) -> None:
        if self._note is not None:
            self._note.close(files)


class Unlink(Job):
    """A message's name goes, not durably yet.  ``result``: False if there was no such message."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.result = False

    def place(self, files: Files) -> Iterable[str]:
        try:
            files.unlink(self._path)
        except FileNotFoundError:
            return ()
        self.result = True
        return ()


class Settle(Job):
    """What has gone from a folder is gone for good; after that the journal (None = there is none) is not needed any
    more."""

    def __init__(self, folder: str, journal: str | None) -> None:
        self._folder = folder
        self._journal = journal
        self._failed = False

    def place(self, files: Files) -> Iterable[str]:
        return (self._folder,)

    def undo(self, files: Files) -> None:
        self._failed = True

    def close(self, files: Files) -> None:
        if self._journal is not None and not self._failed:
            forget(files, self._journal)


class Remove(Settle):
    """The end of a message.  Its journal (None = there is none) goes only after the message's going is durable: a
    message that a power cut brings back must not come without its journal.  ``result``: False if there was no such
    message."""

    def __init__(self, path: str, journal: str | None) -> None:
        super().__init__(os.path.dirname(path), journal)
        self._unlink = Unlink(path)
        self.result = False

    def place(self, files: Files) -> Iterable[str]:
        self._unlink.place(files)
        self.result = self._unlink.result
        return super().place(files) if self.result else ()

    def close(self, files: Files) -> None:
        if self.result:
            super().close(files)
