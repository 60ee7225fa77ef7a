"""`mailgateway restart`: a new program in the same process, on the same sockets.  Under load: test_overload."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.gateway import BIN, answers, environment, free_port, hand_in, poll, processes
from tests.system.test_reload import MESSAGE, gateway, greeting, noted, slow

__all__ = ["gateway", "slow"]

pytestmark = pytest.mark.system


def restart(gateway):
    seen = gateway.log.count("restart finished")
    gateway.run("restart", check=True)
    poll(lambda: gateway.log.count("restart finished") > seen, gateway.last_words)


def test_a_new_configuration_is_taken_up_and_another_port(gateway):
    pid, other = gateway.process.pid, free_port()
    gateway.set(smtpd_banner="$myhostname ESMTP second")
    gateway.append("master.cf", f"127.0.0.1:{other} inet n - n - - smtpd\n")
    restart(gateway)
    assert b"second" in greeting(gateway)
    assert answers(other)
    gateway.send("nobody@localhost")
    gateway.wait_until_empty()
    assert gateway.process.poll() is None and gateway.process.pid == pid
    restart(gateway)  # and once more
    gateway.send("nobody@localhost")
    gateway.wait_until_empty()
    gateway.stop()
    assert not answers(gateway.port)


def test_a_session_goes_on(make_gateway):
    if os.geteuid() != 0:
        pytest.skip("needs root rights")
    gateway = make_gateway("twistd")
    gateway.set(local_transport="discard:")
    gateway.start()
    with gateway.client() as client:
        assert client.docmd("MAIL FROM:<a@b.example>")[0] == 250
        restart(gateway)
        assert client.docmd("RCPT TO:<nobody@localhost>")[0] == 250
        assert client.data(MESSAGE)[0] == 250
        restart(gateway)
        hand_in(client, "again@b.example", ["nobody@localhost"], MESSAGE)
    gateway.wait_for(r"from=<again@b\.example>")
    gateway.wait_until_empty()


def test_a_broken_configuration_is_refused_and_everything_goes_on(gateway):
    before = gateway.roles()
    gateway.set(smtpd_banner="$myhostname ESMTP second", message_size_limit="many")
    gateway.run("restart")
    refused = gateway.wait_for("restart refused, everything stays as it is: .*")
    assert "main.cf" in refused[0] and "message_size_limit" in refused[0]
    assert b"first" in greeting(gateway)
    gateway.send("nobody@localhost")
    gateway.wait_until_empty()
    assert gateway.roles() == before
    gateway.set(message_size_limit="10000")
    gateway.run("reload", check=True)
    poll(lambda: b"second" in greeting(gateway), gateway.last_words)


def test_a_delivery_that_is_running_comes_to_its_end(slow):
    gateway = slow
    gateway.send("one@slow.example")
    poll(lambda: noted(gateway, "begun"), "the delivery begins")
    gateway.run("restart", check=True)
    gateway.wait_for("restart -- version")
    gateway.send("nobody@localhost")
    if gateway.split:
        gateway.wait_for("restart finished")
        gateway.wait_for(r"to=<nobody@localhost>, .*status=sent")
    assert noted(gateway, "done") == []
    (gateway.slow / "go").touch()
    gateway.wait_for("restart finished")
    gateway.wait_until_empty()
    assert noted(gateway, "begun") == noted(gateway, "done") == ["one"]
    assert gateway.log.count("to=<one@slow.example>") == 1
    gateway.stop()


def test_roles_of_a_master_that_is_killed_after_a_restart_end(gateway):
    restart(gateway)
    orphans = [pid for pid in gateway.roles() if pid != gateway.process.pid]
    gateway.process.kill()
    gateway.process.wait()
    gateway.process = None
    gateway.start()
    assert [pid for pid, words in processes() if pid in orphans and "gateway.role" in words] == []
    gateway.send("nobody@localhost")
    gateway.wait_until_empty()


def test_a_reload_that_is_asked_for_meanwhile_is_not_forgotten(gateway):
    gateway.run("restart", check=True)
    gateway.set(smtpd_banner="$myhostname ESMTP second")
    os.kill(gateway.process.pid, signal.SIGHUP)
    poll(lambda: b"second" in greeting(gateway), gateway.last_words)
    gateway.wait_for("restart finished")
    assert b"second" in greeting(gateway)


def _has_ended(pid: int) -> bool:
    """Where nobody takes note of a daemon's end, it stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_in_the_background_with_a_pid_file(gateway):
    gateway.stop()
    began = len(gateway.log)
    pid_file = gateway.folder / "twistd.pid"
    folder = gateway.folder / "run"
    folder.mkdir()
    folder.chmod(0o777)
    command = [BIN / "mailgateway", "start", f"--pidfile={pid_file}", "--rundir=.."]
    if gateway.user:
        gateway.folder.chmod(0o777)
        command = ["setpriv", "--reuid=nobody", "--clear-groups", *command]
    subprocess.run(command, cwd=folder, env={**environment(), "MAIL_CONFIG": str(gateway.directory)}, check=True)
    try:
        poll(lambda: "daemon started" in gateway.log[began:] and answers(gateway.port), gateway.last_words)
        pid = int(pid_file.read_text())
        restart(gateway)
        assert int(pid_file.read_text()) == pid
        assert (folder / "twistd.log").exists()
        gateway.send("nobody@localhost")
        gateway.wait_until_empty()
    finally:
        gateway.run("stop", check=True)
        poll(lambda: not pid_file.exists(), "the pid file goes")
        poll(lambda: _has_ended(pid), "the process ends")
