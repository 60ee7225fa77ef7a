"""The console script: finding commands, and how failures end."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from gateway.commands import install_links, main
from gateway.config import ConfigError


@pytest.fixture
def command(monkeypatch):
    """A command "try-it" that does what the test says."""
    module = types.ModuleType("gateway.commands.try_it")
    module.SUMMARY = "try it"
    module.calls = []

    def run(arguments, directory):
        module.calls.append((arguments, directory))
        if isinstance(module.result, BaseException):
            raise module.result
        return module.result

    module.main, module.result = run, 0
    monkeypatch.setitem(sys.modules, "gateway.commands.try_it", module)
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    monkeypatch.delenv("MAILGATEWAY_DEBUG", raising=False)
    return module


def called(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", list(words))
    return main.main()


def test_the_directory_comes_from_the_option_or_the_environment(command, monkeypatch):
    called(monkeypatch, "/x/mailgateway", "try-it", "-c", "/etc/a", "-c", "b")
    called(monkeypatch, "/x/mailgateway", "try-it", "x")
    monkeypatch.setenv("MAIL_CONFIG", "/etc/m")
    called(monkeypatch, "/x/mailgateway", "try-it")
    assert command.calls == [(["-c", "b"], Path("/etc/a")), (["x"], None), ([], Path("/etc/m"))]


def test_a_link_is_the_command_of_its_name(command, monkeypatch):
    command.result = 67
    assert called(monkeypatch, "/usr/sbin/try-it", "-c", "b") == 67
    assert command.calls == [(["-c", "b"], None)]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device"), 75, "try-it: fatal: [Errno 28] No space left on device\n"),
        (ConfigError("bad value", "mend it", file="main.cf", line=3), 78, "try-it: fatal: main.cf"),
        (ZeroDivisionError("oops"), 70, "try-it: fatal: internal error: ZeroDivisionError: oops\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_are_one_line(command, monkeypatch, capsys, error, status, said):
    command.result = error
    assert called(monkeypatch, "mailgateway", "try-it") == status
    output = capsys.readouterr().err
    assert output.startswith(said) and output.count("\n") == bool(said)


def test_the_traceback_comes_when_asked_for(command, monkeypatch, capsys):
    command.result = ZeroDivisionError("oops")
    monkeypatch.setenv("MAILGATEWAY_DEBUG", "1")
    assert called(monkeypatch, "mailgateway", "try-it") == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nosuch", "../x", "main", "sendmail_options", "os.path", ""])
def test_no_such_command(monkeypatch, capsys, name):
    assert called(monkeypatch, "mailgateway", name) == 64
    assert "no command" in capsys.readouterr().err


def test_usage_lists_the_commands(monkeypatch, capsys):
    assert called(monkeypatch, "mailgateway") == 64
    assert called(monkeypatch, "mailgateway", "--help") == 0
    text = capsys.readouterr().out
    assert "  sendmail      hand in a message" in text and "  install-links " in text and "sendmail-options" not in text


def test_a_reader_that_goes_away_is_no_traceback():
    script = "import sys; sys.argv = ['mailgateway', 'help']; from gateway.commands import main; sys.exit(main.main())"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_links(tmp_path, monkeypatch, capsys):
    program = tmp_path / "mailgateway"
    program.write_text('#!/bin/sh\necho "$0 $@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "install-links"])
    folder = tmp_path / "bin"
    assert install_links.main([str(folder)], None) == 0
    assert {path.name for path in folder.iterdir()} >= {"sendmail", "mailq", "newaliases", "rmail", "postqueue"}
    assert os.readlink(folder / "sendmail") == str(program)
    assert install_links.main([str(folder)], tmp_path / "a b") == 0  # ours may be replaced
    said = subprocess.run([folder / "sendmail", "-t", "x y"], capture_output=True, text=True, check=True).stdout
    assert said == f"{program} sendmail -c {tmp_path}/a b -t x y\n"
    (folder / "mailq").unlink()
    (folder / "mailq").write_text("somebody else's")
    assert install_links.main([str(folder)], None) == 1
    assert "mailq is not ours" in capsys.readouterr().err
    assert (folder / "mailq").read_text() == "somebody else's"
    assert install_links.main(["--force", str(folder)], None) == 0
    assert (folder / "mailq").is_symlink()
    assert install_links.main([], None) == 64
