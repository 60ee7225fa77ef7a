from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.edit import REMOVE, comment_out, edit, main_key, master_key, replace_file
from gateway.config.main_cf import parse

TEXT = "# head\nrelayhost = a\n# mid\n  b\n\nmyorigin = x\nrelayhost = c\n"


def test_set_keeps_comments_and_replaces_all_entries() -> None:
    changed = edit(TEXT, main_key, {"relayhost": "relayhost = new", "mydomain": "mydomain = z"})
    assert changed == "# head\nrelayhost = new\n# mid\n\nmyorigin = x\nrelayhost = new\nmydomain = z\n"


def test_remove() -> None:
    assert edit(TEXT, main_key, {"relayhost": REMOVE, "nobody": REMOVE}) == "# head\n# mid\n\nmyorigin = x\n"


def test_comment_out() -> None:
    changed = comment_out(TEXT, main_key, {"relayhost"})
    assert changed == "# head\n#relayhost = a\n# mid\n#  b\n\nmyorigin = x\n#relayhost = c\n"


def test_last_line_without_end() -> None:
    assert edit("a = 1", main_key, {"b": "b = 2"}) == "a = 1\nb = 2\n"


def test_services() -> None:
    text = "smtp inet n - n - - smtpd\n  -o a=b\nsmtp unix - - n - - smtp\n"
    assert edit(text, master_key, {("smtp", "inet"): "new"}) == "new\nsmtp unix - - n - - smtp\n"


@given(st.lists(st.sampled_from(["# c\n", "\n", "a = 1\n", "b=2\n", " more\n", "c = 3 # x\n", "\td\n"]), max_size=12))
@settings(max_examples=200)
def test_other_settings_stay(lines: list[str]) -> None:
    text = "first = 0\n" + "".join(lines)
    before, after = parse(text, ""), parse(edit(text, main_key, {"a": "a = new"}), "")
    wanted = {name: entry.value for name, entry in before.entries.items()} | {"a": "new"}
    assert {name: entry.value for name, entry in after.entries.items()} == wanted


@given(st.text(alphabet="ab= \n#", max_size=40))
def test_nothing_asked_nothing_changed(text: str) -> None:
    assert comment_out(text, main_key, set()) == text


def test_replace_file_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_text("old")
    path.chmod(0o640)
    replace_file(path, "new \udce4")
    assert path.read_bytes() == b"new \xe4"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["main.cf"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "main.cf"
    path.write_text("old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):
        replace_file(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["main.cf"]
