"""A spool that takes no changes for a while: nothing is leased meanwhile, and what was done is not done again."""

import errno
import os
from pathlib import Path

import pytest

from spool.files import Files
from spool.interfaces import Progress, RecipientState, SpoolError
from tests.spool.test_maildir import Rig, temporary_files


class Unwritable(Files):
    error = 0

    def _refuse(self) -> None:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def create(self, path: str) -> int:
        self._refuse()
        return super().create(path)

    def append(self, path: str) -> int:
        self._refuse()
        return super().append(path)

    def rename(self, old: str, new: str) -> None:
        self._refuse()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        if self.error != errno.ENOSPC:
            self._refuse()
        super().unlink(path)


@pytest.fixture
def files() -> Unwritable:
    return Unwritable()


@pytest.fixture
def rig(tmp_path: Path, files: Unwritable) -> Rig:
    return Rig(tmp_path / "spool", files)


def test_what_was_delivered_goes_when_it_can(rig: Rig, files: Unwritable) -> None:
    done, other = rig.store(), rig.store()
    rig.claim(1)
    files.error = errno.EROFS
    rig.run(rig.spool.finish(done))
    assert [text for text in rig.troubles if "cannot remove" in text]
    for _ in range(3):
        rig.later()
        with pytest.raises(SpoolError, match="Read-only"):
            rig.claim()
    files.error = 0
    rig.later()
    assert [entry.id for entry in rig.claim()] == [other]
    assert not rig.path(f"incoming/new/{done}").exists()
    assert temporary_files(rig.path("")) == []


def test_nothing_is_leased_while_results_cannot_be_recorded(rig: Rig, files: Unwritable) -> None:
    first, second = rig.store(), rig.store()
    rig.claim(1)
    files.error = errno.EROFS
    with pytest.raises(SpoolError):
        rig.run(rig.spool.progress(first, [Progress(0, RecipientState(True, "sent"))]))
    rig.run(rig.spool.release(first, rig.reactor.seconds()))
    with pytest.raises(SpoolError):
        rig.claim()
    files.error = 0
    rig.later()
    assert {entry.id for entry in rig.claim()} == {first, second}


def test_a_full_disk_stops_nothing_that_makes_room(rig: Rig, files: Unwritable) -> None:
    first, second = rig.store(), rig.store()
    rig.claim(1)
    files.error = errno.ENOSPC
    with pytest.raises(SpoolError):
        rig.run(rig.spool.progress(first, [Progress(0, RecipientState(True, "sent"))]))
    assert [entry.id for entry in rig.claim()] == [second]
    for id in (first, second):
        rig.run(rig.spool.finish(id))
    assert list(rig.path("incoming/new").iterdir()) == []
