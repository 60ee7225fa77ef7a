"""Changing entries leaves everything else of a file as it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.tables.edit import add_entries, remove_entries

TEXT = "# head\n\nkey one\n  continued\n# between\n  still key\nOther two\nkey again\n# end\n"


def test_remove(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(TEXT)
    path.chmod(0o640)
    assert remove_entries(path, {"key", "nosuch"}, alias=False) == {"key"}
    assert path.read_text() == "# head\n\n# between\nOther two\n# end\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["map"]


def test_remove_nothing_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(TEXT)
    before = path.stat()
    assert remove_entries(path, {"nosuch"}, alias=False) == set()
    assert path.stat().st_ino == before.st_ino and path.read_text() == TEXT


def test_remove_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text('root: jane\n"two words": x\nbroken line\n')
    assert remove_entries(path, {"two words"}, alias=True) == {"two words"}
    assert path.read_text() == "root: jane\nbroken line\n"


def test_add(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a 1")
    add_entries(path, [("two words", "2"), ("#c", "\udce9")], alias=False)
    assert path.read_bytes() == b'a 1\n"two words"\t2\n"#c"\t\xe9\n'
    new = tmp_path / "new"
    add_entries(new, [("a@b", "1")], alias=True)
    assert new.read_text() == '"a@b":\t1\n'
    assert stat.S_IMODE(new.stat().st_mode) == 0o644


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a 1\n")
    link = tmp_path / "link"
    link.symlink_to("real")
    add_entries(link, [("b", "2")], alias=False)
    assert link.is_symlink() and (tmp_path / "real").read_text() == "a 1\nb\t2\n"


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map"
    path.write_text(TEXT)

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        remove_entries(path, {"key"}, alias=False)
    assert path.read_text() == TEXT
    assert os.listdir(tmp_path) == ["map"]
