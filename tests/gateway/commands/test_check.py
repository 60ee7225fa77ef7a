from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.commands.check import main

GOOD = "compatibility_level = 3.6\nmail_owner = nobody\n"
MASTER = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "master.cf").write_text(MASTER)
    write(tmp_path, "")
    return tmp_path


def write(directory: Path, text: str) -> None:
    places = f"queue_directory = {directory}/spool\ndata_directory = {directory}/data\n"
    (directory / "main.cf").write_text(GOOD + places + text)


def test_nothing_to_say(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], directory) == 0
    assert capsys.readouterr() == ("", "")


def test_warnings_do_not_fail(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, "no_such_parameter_here = 17\n")
    assert main([], directory) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"warning: {directory}/main.cf, line 5: unused parameter: no_such_parameter_here")


def test_errors_fail(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, "biff = maybe\n")
    assert main([], directory) == 1
    assert capsys.readouterr().out == (
        f"error: {directory}/main.cf, line 5: bad boolean configuration: biff = maybe: give yes or no\n"
    )


def test_notes_only_when_asked(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, "daemon_directory = /x\n")
    assert main([], directory) == 0
    assert capsys.readouterr().out == ""
    assert main(["-v"], directory) == 0
    assert capsys.readouterr().out.startswith("note: ")


def test_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(directory, "biff = \xff\n")
    assert main(["-j"], directory) == 1
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["severity"], found["line"]) == ("error", 5)


def test_missing_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tmp_path / "none") == 1
    assert "main.cf: cannot be read" in capsys.readouterr().out


def test_usage(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q"], directory) == 64
    assert main(["x"], directory) == 64
    assert main(["-c", str(directory / "none")], directory) == 1
