"""The spool's folders, read and changed with plain calls that wait for the disk.

spool.maildir does so from threads; the administrative commands do it directly when no gateway runs (with spool.changes
and spool.upkeep).  Several processes may work on the same folders: every change is one rename or unlink, and whoever
comes second finds that the file is gone.

Files that cannot be what they should be are moved to ``corrupt`` and reported, with two exceptions: a file that has
changed in the last minute may still be on its way in (somebody copies a spool here), and one that may not be read
belongs to the wrong user (``postsuper`` mends that).  Both are left alone and looked at again later.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from spool import format, ids, journal, names
from spool.batch import spool_error
from spool.envelope import Envelope
from spool.files import Files
from spool.interfaces import Listed, RecipientState, SpoolError
from spool.jobs import forget, shut
from spool.names import CORRUPT, DEFERRED, FOLDERS, HOLD, INCOMING, Place

JOURNALS = "progress"

SETTLE = 60.0
"""Seconds without a change after which a broken file counts as broken."""

FIRST_READ = 16_384
LONG_JOURNAL = 65_536
"""A journal that is longer is rewritten if that makes it much shorter."""

NAMES_AT_ONCE = 20_000
"""File names kept in memory at a time when a folder is put in order."""

SLICE = 200

_HEX = "0123456789abcdef"
"""Folders side by side where files are made, by the last letter of their IDs.  What is made is gone soon, and a file
system walks past what was deleted lately when it makes a file: with many folders, apart on the disk, the walk is short.
"""

QUEUES = (INCOMING, HOLD, DEFERRED)
"""Folders with messages that are ours to deal with.  Looking through them in this order misses nothing that is moved on
meanwhile: mail goes from incoming to hold or deferred, from hold to deferred."""


class NotYet(SpoolError):
    """A file that cannot be read now, but perhaps later."""


@dataclass(slots=True)
class Found:
    """A message as it is on disk."""

    place: Place
    envelope: Envelope
    states: list[RecipientState]
    journal: int
    """Bytes in its journal; 0 = there is none."""


class Store:
    """``directory`` holds the folders.  ``report`` is called with one line of text for each trouble."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        files: Files | None = None,
        clock: Callable[[], float] = time.time,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.files = files if files is not None else Files(foreign_owner(self.directory))
        self.clock = clock
        self.report = report

    # --- paths -------------------------------------------------------------------------------------------------

    def make_folders(self) -> None:
        """Make what is missing.  Raises OSError."""
        os.makedirs(self.directory, exist_ok=True)
        for folder in FOLDERS:
            self.files.make_dir(f"{self.directory}/{folder}")
            for sub in ("tmp", "new", "cur"):
                self.files.make_dir(f"{self.directory}/{folder}/{sub}")
        journals = f"{self.directory}/{JOURNALS}"
        self.files.make_dir(journals)
        for parent in (f"{self.directory}/{INCOMING}/tmp", journals):
            self.files.spread_folders(parent)
            for digit in _HEX:
                self.files.make_dir(f"{parent}/{digit}")
        for name in self.files.scan(journals):
            if name not in _HEX and not name.startswith("."):
                self._take_journal_over(journals, name)

    def _take_journal_over(self, journals: str, name: str) -> None:
        """One that an earlier version, or a backup of its spool, has put into the one folder there was."""
        try:
            if stat.S_ISREG(self.files.status_of(f"{journals}/{name}").st_mode):
                self.files.rename(f"{journals}/{name}", self.journal(name))
        except FileNotFoundError:
            pass  # another process did

    def path(self, place: Place) -> str:
        return f"{self.directory}/{place.folder}/{place.sub}/{place.name}"

    def journal(self, id: str) -> str:
        return f"{self.directory}/{JOURNALS}/{_HEX[ord(id[-1]) & 15]}/{id}"

    def temporary(self, id: str) -> str:
        """Where a file is made before it gets its name."""
        return f"{self.directory}/{INCOMING}/tmp/{_HEX[ord(id[-1]) & 15]}/{id}"

    def temporary_folders(self) -> list[str]:
        return [f"{self.directory}/{INCOMING}/tmp/{digit}" for digit in _HEX]

    def journal_folders(self) -> list[str]:
        return [f"{self.directory}/{JOURNALS}/{digit}" for digit in _HEX]

    # --- what is there -------------------------------------------------------------------------------------------

    def scan(self, folder: str, strange: list[str] | None = None) -> Iterator[Place]:
        """All messages in a folder, in no order; files that are none of ours are added to ``strange``."""
        for sub in ("new", "cur"):
            count = 0
            for file in self.files.scan(f"{self.directory}/{folder}/{sub}"):
                count += 1
                if count % 1000 == 0:
                    time.sleep(0)  # lets other threads have their turn
                if file.startswith("."):
                    continue
                place = names.place(folder, sub, file)
                if place is not None:
                    yield place
                elif strange is not None:
                    strange.append(f"{sub}/{file}")

    def smallest(self, folder: str, count: int, skip: Collection[str] = ()) -> list[tuple[float, Place]]:
        """The ``count`` messages of a folder, without ``skip``, that are due first, with the time when each is.  One
        that was never tried is due since it came."""
        strange: list[str] = []
        places = ((due_time(place), place) for place in self.scan(folder, strange) if place.id not in skip)
        found = heapq.nsmallest(count, places, key=lambda pair: (pair[0], pair[1].id))
        for file in strange:
            self.set_aside_file(folder, file, "not a message file of the gateway")
        return found

    def find(self, wanted: Collection[str], queues: Sequence[str] = QUEUES) -> dict[str, Place]:
        """Where these messages are.  Their names are looked for in whole folders: ask for many at once."""
        found: dict[str, Place] = {}
        for folder in queues:
            if len(found) == len(wanted):
                break
            for place in self.scan(folder):
                if place.id in wanted and place.id not in found:
                    found[place.id] = place
        return found

    def read(self, place: Place) -> Found | None:
        """A message's envelope and what is on record of it; None = it is gone.  Raises SpoolError if it is broken,
        NotYet if that may change."""
        try:
            descriptor = self.files.open(self.path(place))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble(error) from error
        try:
            envelope = self._envelope(descriptor)
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            shut(self.files, descriptor)
        return self._replayed(place, envelope)

    def _envelope(self, descriptor: int) -> Envelope:
        status = self.files.status(descriptor)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise SpoolError("not a regular file")
            block = self.files.read(descriptor, FIRST_READ, 0)
            offset, size = format.measure(block)
            if status.st_size != offset + size:
                raise SpoolError(f"file has {status.st_size} bytes instead of {offset + size}")
            if offset > len(block):
                block += self.files.read(descriptor, offset - len(block), len(block))
            return format.decode(block[:offset])
        except SpoolError as error:
            if status.st_ctime > self.clock() - SETTLE:
                raise NotYet(str(error)) from error
            raise

    def _replayed(self, place: Place, envelope: Envelope) -> Found:
        path = self.journal(place.id)
        try:
            descriptor = self.files.open(path)
        except FileNotFoundError:
            return Found(place, envelope, [RecipientState() for _ in envelope.recipients], 0)
        except OSError as error:
            raise self._trouble(error) from error
        try:
            size = self.files.status(descriptor).st_size
            data = self.files.read(descriptor, size, 0)
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            shut(self.files, descriptor)
        replayed = journal.replay(data, envelope)
        if replayed.damaged:
            self.report(f"{place.id}: {replayed.damaged} damaged lines in its journal are skipped")
        return Found(place, replayed.envelope, replayed.states, len(data))

    @staticmethod
    def _trouble(error: OSError) -> SpoolError:
        """Only what says that the file itself is bad is for ever."""
        if error.errno in (errno.EIO, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EUCLEAN):
            return spool_error(error)
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotYet(f"{error.filename or 'file'}: {error.strerror}; 'postsuper' run by root mends ownership")
        return NotYet(str(spool_error(error)))

    def shorten_journal(self, found: Found) -> None:
        """Rewrite a journal that has grown long.  Nobody else may be writing to it."""
        data = journal.compact(journal.Replayed(found.envelope, found.states, True))
        if found.journal < LONG_JOURNAL or found.journal < 4 * len(data):
            return
        temporary = self.temporary(f"{found.place.id}.journal")
        path = self.journal(found.place.id)
        try:
            descriptor = self.files.create(temporary)
            try:
                self.files.write(descriptor, [data])
                self.files.fdatasync(descriptor)
            finally:
                self.files.close(descriptor)
            self.files.rename(temporary, path)
            self.files.fsync_dir(os.path.dirname(path))
        except OSError as error:
            self.report(f"{found.place.id}: cannot shorten its journal: {spool_error(error)}")

    # --- the list --------------------------------------------------------------------------------------------------

    def listing(self, known: Collection[Place] = (), most: int = NAMES_AT_ONCE) -> Iterator[list[Listed]]:
        """All messages but those in "corrupt", oldest first, in slices.  ``known``: messages (leased ones) that move
        about and might be missed in the folders."""
        last = ""
        while True:
            after = last
            everywhere = (place for folder in QUEUES for place in self.scan(folder))
            places = (place for source in (everywhere, known) for place in source if place.id > after)
            batch = heapq.nsmallest(most, places, key=lambda place: place.id)
            unique = list({place.id: place for place in batch}.values())
            for start in range(0, len(unique), SLICE):
                yield self._listed(unique[start : start + SLICE])
            if len(batch) < most:
                return
            last = batch[-1].id

    def _listed(self, places: Sequence[Place]) -> list[Listed]:
        listed: list[Listed] = []
        gone: list[str] = []
        for place in places:
            if not self._list(place, listed):
                gone.append(place.id)
        if gone:
            # Moved between the look into the folder and the reading of the file, or really gone.
            for place in self.find(frozenset(gone)).values():
                self._list(place, listed)
            listed.sort(key=lambda one: one.id)
        return listed

    def _list(self, place: Place, listed: list[Listed]) -> bool:
        try:
            found = self.read(place)
        except SpoolError:
            return True
        if found is None:
            return False
        listed.append(Listed(place.id, place.folder, found.envelope, found.states, place.expire))
        return True

    # --- what is broken ------------------------------------------------------------------------------------------

    def set_aside(self, place: Place, why: str) -> bool:
        """Move a message to "corrupt"."""
        return self.set_aside_file(place.folder, f"{place.sub}/{place.name}", why)

    def set_aside_file(self, folder: str, file: str, why: str) -> bool:
        """Move a file to "corrupt", beside others of its name.  False if it is gone or cannot be moved."""
        name = os.path.basename(file)
        old, new = f"{self.directory}/{folder}/{file}", f"{self.directory}/{CORRUPT}/new/{name}"
        try:
            for number in range(1, 1000):
                try:
                    self.files.status_of(new)
                except FileNotFoundError:
                    break
                new = f"{self.directory}/{CORRUPT}/new/{name}.{number}"
            self.files.rename(old, new)
            self.files.fsync_dir(os.path.dirname(new))
        except FileNotFoundError:
            return False
        except OSError as error:
            self.report(f"cannot set {folder}/{file} aside: {spool_error(error)}")
            return False
        self.report(f"{folder}/{file}: {why}; moved to {CORRUPT}")
        return True

    def try_to_write(self) -> None:
        """Raises OSError if nothing can be written here."""
        path = self.temporary("probe")
        forget(self.files, path)
        shut(self.files, self.files.create(path))
        self.files.unlink(path)

    def free_bytes(self) -> int:
        """What is free on the spool's file system."""
        try:
            return self.files.free_bytes(self.directory)
        except OSError as error:
            raise spool_error(error) from error


def read_each(store: Store, places: list[Place]) -> list[tuple[Place, Found | SpoolError | None]]:
    """Read messages that are claimed; set those aside that are broken."""
    read: list[tuple[Place, Found | SpoolError | None]] = []
    for one in places:
        found: Found | SpoolError | None
        try:
            found = store.read(one)
        except (OSError, SpoolError) as error:
            found = error if isinstance(error, SpoolError) else NotYet(str(spool_error(error)))
            if not isinstance(found, NotYet):
                store.set_aside(one, str(found))
        else:
            if found is not None:
                store.shorten_journal(found)
        read.append((one, found))
    return read


def due_time(place: Place) -> float:
    """When a message is due: at the time in its name, or since its ID was made."""
    return float(place.due) if place.due else ids.time_of(place.id)


def foreign_owner(directory: str) -> tuple[int, int] | None:
    """Who must own what root makes in this spool; None = whoever makes it."""
    if os.geteuid() != 0:
        return None
    try:
        status = os.stat(f"{directory}/{INCOMING}")
    except OSError:
        return None
    return (status.st_uid, status.st_gid) if status.st_uid != 0 else None
