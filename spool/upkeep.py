"""Cleaning up and mending a spool, while it is in use or not: postsuper -p, -s."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice

from spool.batch import spool_error
from spool.interfaces import SpoolError
from spool.names import CORRUPT, FOLDERS
from spool.store import NAMES_AT_ONCE, QUEUES, NotYet, Store


def purge(store: Store, age: float = 86_400.0) -> int:
    """Remove temporary files, and journals without a message, that have not changed for ``age`` seconds: nobody writes
    to them, and nobody was promised anything.  The number of files."""
    count = 0
    for directory in (*(f"{store.directory}/{folder}/tmp" for folder in FOLDERS), *store.temporary_folders()):
        count += sum(_purge(store, f"{directory}/{file}") for file in _older(store, directory, age))
    old = (file for directory in store.journal_folders() for file in _older(store, directory, age))
    while some := set(islice(old, NAMES_AT_ONCE)):
        for _ in range(2):  # a file that is renamed meanwhile can be missed once
            some.difference_update(store.find(some, (*QUEUES, CORRUPT)))
        count += sum(_purge(store, store.journal(id)) for id in some)
    return count


def _older(store: Store, directory: str, age: float) -> Iterator[str]:
    before = store.clock() - age
    for file in store.files.scan(directory):
        try:
            status = store.files.status_of(f"{directory}/{file}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mtime < before and status.st_ctime < before:
            yield file


def _purge(store: Store, path: str) -> bool:
    try:
        store.files.unlink(path)
    except OSError as error:
        store.report(str(spool_error(error)))
        return False
    return True


def repair(store: Store) -> int:
    """Make missing folders; give files back to the spool's owner (root only) with mode 0600; set aside what is no
    message file.  The number of files that were mended."""
    store.make_folders()
    count = 0
    for folder in QUEUES:
        strange: list[str] = []
        for place in store.scan(folder, strange):
            count += _mend(store, store.path(place))
            try:
                store.read(place)
            except NotYet:
                pass
            except SpoolError as error:
                count += store.set_aside(place, str(error))
        for file in strange:
            count += store.set_aside_file(folder, file, "not a message file of the gateway")
    for directory in store.journal_folders():
        for name in store.files.scan(directory):
            count += _mend(store, f"{directory}/{name}")
    return count


def _mend(store: Store, path: str) -> bool:
    owner = store.files.owner
    try:
        status = store.files.status_of(path)
        wrong = owner is not None and (status.st_uid, status.st_gid) != owner
        if not stat.S_ISREG(status.st_mode) or not (wrong or status.st_mode & 0o777 != 0o600):
            return False
        if wrong and owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
        os.chmod(path, 0o600)
    except OSError as error:
        store.report(str(spool_error(error)))
        return False
    return True
