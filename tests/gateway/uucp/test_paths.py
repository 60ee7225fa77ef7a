"""Tables of paths."""

import io
import sys

import pytest

from gateway.commands import uucp_paths
from gateway.uucp.paths import entries


def read(text):
    notes = []
    return list(entries(text.splitlines(), notes.append)), notes


@pytest.mark.parametrize("line, found", [
    ("leaf\thub!leaf!%s", [("leaf", "hub!leaf"), ("leaf.uucp", "hub!leaf")]),
    ("Hub hub!%s  # near", [("hub", "hub"), ("hub.uucp", "hub")]),
    ("420\tleaf\thub!leaf!%s", [("leaf", "hub!leaf"), ("leaf.uucp", "hub!leaf")]),
    ("leaf\thub!leaf!%s\t420", [("leaf", "hub!leaf"), ("leaf.uucp", "hub!leaf")]),
    (".edu\thub!gateway!%s", [(".edu", "hub!gateway")]),
    ("a.b.example\thub!a.b.example!%s", [("a.b.example", "hub!a.b.example")]),
    ("here\t%s", []), ("", []), ("# remark", []),
])
def test_lines(line, found):
    assert read(line) == (found, [])


@pytest.mark.parametrize("line", [
    "leaf", "leaf hub!%s@leaf", "leaf hub!leaf", "leaf hub!!%s", "le;af hub!%s", "leaf -x!%s", "leaf\x01 hub!%s",
    "a b c d", "leaf hub!$(id)!%s", "leaf " + "hub!" * 50_000 + "x",
])
def test_what_cannot_be_used(line):
    found, (note,) = read(line)
    assert found == [] and note.isprintable() and len(note) < 200


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("leaf\thub!leaf!%s\nbad\n"))
    assert uucp_paths.main(["--service", "wire"], None) == 0
    out, err = capsys.readouterr()
    assert out == "leaf\twire:hub!leaf\nleaf.uucp\twire:hub!leaf\n"
    assert err == "uucp-paths: warning: line 2: not understood: bad\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert (uucp_paths.main([], None), uucp_paths.main(["x"], None)) == (65, 64)
