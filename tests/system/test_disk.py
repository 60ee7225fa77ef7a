"""A disk that is full: 452 and no 250, and when there is room again, on it goes.  The queue lies in a small file system
of its own, in a mount namespace of the gateway."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.gateway import poll

pytestmark = [pytest.mark.system, pytest.mark.root]

MEGABYTES = 4


@pytest.fixture
def gateway(make_gateway, make_sink):
    made, sink = make_gateway("twistd"), make_sink()
    made.sink = sink
    spool = made.folder / "spool"
    spool.mkdir()
    script = f'mount -t tmpfs -o size={MEGABYTES}m,mode=755 tmpfs {spool} && exec "$@"'
    made.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    if subprocess.run([*made.prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("mount namespaces are not to be had here")
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{sink.port}}}", message_size_limit="100000")
    made.start()
    return made


def seen(gateway):
    """The spool, as the gateway sees it."""
    return Path(f"/proc/{gateway.process.pid}/root{gateway.folder}/spool")


def answer(gateway, size):
    """The last reply to a message of so many bytes."""
    with gateway.client() as client:
        code, _ = client.docmd("MAIL FROM:<a@b.example>")
        if code == 250:
            code, _ = client.docmd("RCPT TO:<joe@far.example>")
        if code == 250:
            code, _ = client.data(b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * (size // 2))
        assert client.noop()[0] == 250
        return code


def test_a_full_disk(gateway):
    assert answer(gateway, 1000) == 250
    gateway.wait_until_empty()
    filler = seen(gateway) / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while file.write(b"\0" * 4096):
            pass
    assert answer(gateway, 20_000) == 452
    assert answer(gateway, 90_000) == 452
    assert len(gateway.sink.received) == 1
    assert [path for path in seen(gateway).glob("*/tmp/**/*") if path.is_file()] == []
    by_hand = gateway.run("sendmail", "joe@far.example", stdin="Subject: x\n\nx\n")
    assert by_hand.returncode == 75 and "No space left on device" in by_hand.stderr
    assert by_hand.stderr.count("\n") == 1

    filler.unlink()
    poll(lambda: answer(gateway, 90_000) == 250, "mail is accepted again")
    gateway.sink.wait(2)
    gateway.wait_until_empty()


def test_almost_full_answers_at_mail_from(gateway):
    filler = seen(gateway) / "filler"
    filler.write_bytes(b"\0" * (MEGABYTES * 1024 * 1024 - 120_000))
    with gateway.client() as client:
        assert client.docmd("MAIL FROM:<a@b.example> SIZE=90000")[0] == 452
    filler.unlink()
