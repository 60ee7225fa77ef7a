"""A spool out of a backup, put into a running gateway: what is in it is delivered."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter

import pytest

from tests.system.gateway import poll

pytestmark = [pytest.mark.system, pytest.mark.root]

COUNT = 3


@pytest.fixture
def gateway(make_gateway, make_sink):
    """Some of what it had in the queue is in ``backup``, and has been delivered since."""
    made = make_gateway("twistd")
    made.sink, made.spool, made.backup = make_sink(), made.folder / "spool", made.folder / "backup"
    made.set(transport_maps="inline:{far.example=smtp:[127.0.0.1]:1}")
    made.start()
    for number in range(COUNT):
        made.send(f"u{number}@far.example")
    poll(lambda: made.log.count("status=deferred") == COUNT, made.last_words)
    made.stop()
    subprocess.run(["cp", "-a", made.spool, made.backup], check=True)
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}")
    made.start()
    made.run("postqueue", "-f", check=True)
    made.sink.wait(COUNT)
    made.wait_until_empty()
    return made


def came(gateway):
    return Counter(recipient for one in gateway.sink.received for recipient in one.recipients)


def test_what_was_restored_is_delivered(gateway):
    for folder in ("deferred/new", "progress"):
        subprocess.run(["cp", "-a", f"{gateway.backup}/{folder}/.", f"{gateway.spool}/{folder}"], check=True)
    assert len(gateway.queue()) == COUNT
    gateway.run("postqueue", "-f", check=True)
    gateway.sink.wait(2 * COUNT)
    gateway.wait_until_empty()
    assert set(came(gateway).values()) == {2}


def test_what_was_restored_as_root_is_delivered_after_postsuper(gateway):
    copied = gateway.folder / "copied"
    copied.mkdir(mode=0o700)
    for path in (gateway.backup / "deferred/new").iterdir():
        shutil.copy(path, copied)  # owned by root
    for path in list(copied.iterdir()):
        path.rename(gateway.spool / "hold/new" / path.name)
    mended = gateway.run("postsuper", check=True)
    assert f"Repaired: {COUNT} files" in mended.stderr
    gateway.run("postsuper", "-H", "ALL", check=True)
    gateway.sink.wait(2 * COUNT)
    gateway.wait_until_empty()
    assert set(came(gateway).values()) == {2}


def test_what_is_no_message_is_put_aside_and_told(gateway):
    (gateway.spool / "deferred/new/notes.txt").write_text("not a message\n")
    gateway.run("postqueue", "-f", check=True)
    gateway.wait_for(r"warning: deferred/new/notes\.txt: not a message file of the gateway; moved to corrupt", 70)
    assert (gateway.spool / "corrupt/new/notes.txt").read_text() == "not a message\n"
