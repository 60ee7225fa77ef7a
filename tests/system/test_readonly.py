"""A spool that cannot be written to: 4xx, nothing lost, nothing restarted, one line in the log; and on it goes when it
can be written to again.  The queue lies in a small file system in a mount namespace of the gateway."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.system.gateway import poll

pytestmark = [pytest.mark.system, pytest.mark.root]


@pytest.fixture
def gateway(make_gateway, make_sink):
    made = make_gateway("twistd")
    made.sink = make_sink()
    made.spool = made.folder / "spool"
    made.spool.mkdir()
    script = f'mount -t tmpfs -o size=16m,mode=755 tmpfs {made.spool} && exec "$@"'
    made.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    if subprocess.run([*made.prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("mount namespaces are not to be had here")
    made.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}, late.example=smtp:[127.0.0.1]:1}}",
        minimal_backoff_time="1s", maximal_backoff_time="2s", queue_run_delay="1s",
    )
    made.start()
    return made


def remount(gateway, how):
    enter = ["nsenter", f"--target={gateway.process.pid}", "--mount", "--root"]
    subprocess.run([*enter, "mount", "-o", f"remount,{how}", gateway.spool], check=True, capture_output=True)


def answer(gateway):
    """The last reply to a message."""
    with gateway.client() as client:
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<joe@far.example>"):
            code, _ = client.docmd(command)
            if code != 250:
                return code
        return client.data(b"Subject: x\r\n\r\nx\r\n")[0]


def test_a_spool_that_is_mounted_read_only(gateway):
    gateway.send("joe@late.example")
    gateway.wait_for("status=deferred")
    roles = gateway.roles()
    remount(gateway, "ro")
    began = len(gateway.log)
    for _ in range(10):
        assert answer(gateway) == 451
    time.sleep(8)
    lines = [line for line in gateway.log[began:].splitlines() if "/qmgr[" in line]
    assert gateway.roles() == roles
    assert 1 <= len([line for line in lines if "warning" in line]) <= 6
    assert gateway.sink.received == []

    remount(gateway, "rw")
    poll(lambda: answer(gateway) == 250, "mail is accepted again")
    gateway.sink.wait(1)
    gateway.set(transport_maps=f"inline:{{late.example=smtp:[127.0.0.1]:{gateway.sink.port}}}")
    gateway.run("reload", check=True)
    gateway.sink.wait(2)
    gateway.wait_until_empty()
