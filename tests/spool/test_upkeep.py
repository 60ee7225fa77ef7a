"""Errors of the disk while a spool is cleaned up, mended or listed: nothing is lost by them."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from spool.interfaces import SpoolError
from spool.store import Store
from spool.upkeep import purge, repair
from tests.spool.faulty import FaultyFiles
from tests.spool.test_maildir import Rig, journals, temporary_files

CONTENT = b"Subject: precious\n\nbody\n"


def fill(directory: Path) -> Store:
    """A spool with messages, a journal without one, a leaving, and a foreign file."""
    rig = Rig(directory)
    for _ in range(2):
        rig.store(CONTENT)
    rig.store(CONTENT, hold=True)
    rig.put("progress/4jYkyd4mV7zNMs8ytbt", b"")
    rig.put("incoming/tmp/4/4jYkyd4mV7zNMs8ytbt", b"half")
    rig.put("deferred/new/notes.txt", b"foreign")
    return rig.spool.store


def precious(directory: Path) -> int:
    """How many messages there are, and foreign files."""
    found = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    return sum(data.endswith(CONTENT) for data in found) + found.count(b"foreign")


def attend(directory: Path, files: FaultyFiles) -> None:
    store = Store(directory, files=files, clock=lambda: time.time() + 200_000)

    def each(work: Any) -> None:
        try:
            work()
        except (OSError, SpoolError):
            pass

    each(lambda: repair(store))
    each(lambda: purge(store))
    each(lambda: list(store.listing()))
    each(lambda: store.smallest("incoming", 10))


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EROFS, errno.EACCES])
def test_an_error_at_each_step(tmp_path: Path, error: int) -> None:
    fill(tmp_path / "count")
    counting = FaultyFiles()
    attend(tmp_path / "count", counting)
    assert {"unlink", "rename", "open", "read", "scan"} <= set(counting.operations)
    assert len(counting.operations) > 40
    for number, name in enumerate(counting.operations):
        directory = tmp_path / str(number)
        fill(directory)
        attend(directory, FaultyFiles(fail_at=number, error=error))
        assert precious(directory) == 4, (name, number)


def test_without_errors_only_leavings_go(tmp_path: Path) -> None:
    fill(tmp_path)
    attend(tmp_path, FaultyFiles())
    assert temporary_files(tmp_path) == journals(tmp_path) == []
    assert precious(tmp_path) == 4
    assert os.listdir(tmp_path / "corrupt/new") == ["notes.txt"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_spool_whose_folders_cannot_be_made_does_not_start(tmp_path: Path, error: int) -> None:
    with pytest.raises(OSError):
        Rig(tmp_path / "spool", FaultyFiles(fail_at=0, error=error))
