"""A program that takes another one's place; the whole is tested in tests/system/test_restart.py."""

import os
import socket

import pytest

from gateway import succession
from gateway.succession import Estate, command_line, inherited

DAEMON = ["--nodaemon", "--umask=077", "--logfile=twistd.log"]


@pytest.mark.parametrize(
    ("given", "added"),
    [
        (["--nodaemon", "--pidfile=", "mailgateway", "-c", "/etc/x"], []),
        (["-n", "mailgateway"], []),
        (["mailgateway", "-c", "/etc/x"], DAEMON),
        (["--syslog", "--umask", "027", "mailgateway"], ["--nodaemon"]),
        (["--logfile", "mailgateway", "mailgateway"], ["--nodaemon", "--umask=077"]),
        (["--no-such-option"], []),
    ],
)
def test_it_goes_on_in_the_foreground(given, added, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = ["/usr/bin/python3", "-O", "bin/twistd", *given]
    assert command_line(whole, ["bin/twistd", *given]) == ["-O", "bin/twistd", *added, *given]


@pytest.mark.parametrize(("content", "left"), [("own", False), ("1", True), ("x", True)])
def test_only_our_own_pid_file_is_removed(tmp_path, content, left):
    path = tmp_path / "twistd.pid"
    path.write_text(str(os.getpid()) if content == "own" else content)
    given = ["-n", f"--pidfile={path}", "mailgateway"]
    assert command_line(["python3", "twistd", *given], ["twistd", *given]) == ["twistd", *given]
    assert path.exists() is left


def test_everything_arrives(tmp_path, monkeypatch):
    monkeypatch.setattr(succession.signal, "signal", lambda *what: None)
    monkeypatch.chdir(tmp_path)
    seen = {}

    def execve(program, command, environment):
        seen.update(environment)

    monkeypatch.setattr(succession.os, "execve", execve)
    listener, lock = socket.create_server(("127.0.0.1", 0)), (tmp_path / "lock").open("w")
    port = listener.getsockname()[1]
    succession.succeed(Estate({"inet:x": listener}, [lock], ("a = b\n", ""), [{"pid": 1}], True), str(tmp_path))
    assert inherited() is None  # of nobody
    monkeypatch.setenv(succession.VARIABLE, seen[succession.VARIABLE])
    estate = inherited()
    assert estate.sockets["inet:x"].getsockname()[1] == port
    assert os.path.samestat(os.fstat(estate.locks[0].fileno()), os.stat(tmp_path / "lock"))
    assert (estate.texts, estate.roles, estate.reload) == (("a = b\n", ""), [{"pid": 1}], True)
    assert not os.get_inheritable(estate.sockets["inet:x"].fileno())
    assert succession.VARIABLE not in os.environ
    listener.detach()
    estate.sockets["inet:x"].close()
    os.dup2(os.open(os.devnull, os.O_WRONLY), lock.fileno())


def test_what_was_meant_for_another_process_is_left_alone(monkeypatch):
    monkeypatch.setenv(succession.VARIABLE, f"{os.getpid() + 1}:0")
    assert inherited() is None
    assert succession.VARIABLE not in os.environ
