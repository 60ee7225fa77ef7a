"""Processes that die: they are started again, and what got its 250 arrives."""

from __future__ import annotations

import os
import signal
import smtplib
import threading
from collections import Counter

import pytest

from tests.system.gateway import hand_in, poll

pytestmark = [pytest.mark.system, pytest.mark.root]

COUNT = 60
CLIENTS = 3


@pytest.fixture
def gateway(make_gateway, make_sink):
    made = make_gateway("twistd")
    made.sink = make_sink(delay=0.02)
    made.append("transport", f"far.example smtp:[127.0.0.1]:{made.sink.port}\nnear.example files:x\n")
    keep = made.folder / "keep"
    keep.write_text(f'#!/bin/sh\ncat > "{made.folder}/files/$1"\n')
    keep.chmod(0o755)
    made.append("master.cf", f"files unix - n n - - pipe user=games argv={keep} ${{user}}\n")
    (made.folder / "files").mkdir()
    (made.folder / "files").chmod(0o777)
    made.set(transport_maps="hash:$config_directory/transport", minimal_backoff_time="1s", queue_run_delay="1s")
    made.start()
    return made


class Load:
    """Clients that hand in ``COUNT`` messages to u0@DOMAIN … and know which of them were accepted."""

    def __init__(self, gateway, domain):
        self.gateway, self.domain = gateway, domain
        self.accepted = []
        self._left = list(range(COUNT))
        self._over = False
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._over = True
        for thread in self._threads:
            thread.join(30)

    def _work(self):
        while True:
            with self._lock:
                if not self._left or self._over:
                    return
                number = self._left.pop(0)
            try:
                with self.gateway.client() as client:
                    text = f"Subject: test\r\nMessage-ID: <{number}@test>\r\n\r\n{number}\r\n".encode()
                    hand_in(client, "a@b.example", [f"u{number}@{self.domain}"], text)
                    self.accepted.append(f"<{number}@test>")
            except (OSError, smtplib.SMTPException, AssertionError):
                if f"<{number}@test>" not in self.accepted:
                    self._left.append(number)

    def wait(self, count):
        poll(lambda: len(self.accepted) >= count, lambda: f"{count} messages are accepted, {len(self.accepted)} were")


def kill_role(gateway, role):
    """kill -9 of one process of a role, as soon as there is one."""
    victims = poll(lambda: [pid for pid, name in gateway.roles().items() if name == role], f"there is a {role}")
    os.kill(victims[0], signal.SIGKILL)


@pytest.mark.parametrize("role", ["receiver", "scheduler"])
def test_a_role_that_is_killed_is_started_again_and_loses_nothing(gateway, role):
    with Load(gateway, "far.example") as load:
        for share in (COUNT // 4, COUNT // 2):
            load.wait(share)
            kill_role(gateway, role)
        load.wait(COUNT)
    gateway.wait_until_empty()
    arrived = Counter(one.message["Message-ID"] for one in gateway.sink.received)
    assert set(arrived) >= set(load.accepted)
    assert max(arrived.values()) <= 3  # in flight at each of two kills, at most
    assert f"process {role}" in gateway.log
    everybody = 3 + len(os.sched_getaffinity(0))
    poll(lambda: len(gateway.roles()) == everybody, "all roles are back")


def test_an_executor_that_is_killed_is_started_again_and_loses_nothing(gateway):
    with Load(gateway, "near.example") as load:
        for share in (COUNT // 4, COUNT // 2):
            load.wait(share)
            kill_role(gateway, "executor")
        load.wait(COUNT)
    gateway.wait_until_empty()
    files = {path.name: path.read_text() for path in (gateway.folder / "files").iterdir()}
    assert sorted(files) == sorted(f"u{number}" for number in range(COUNT))
    assert all(f"<{name[1:]}@test>" in text for name, text in files.items())


def test_everything_killed_at_once_loses_nothing(gateway):
    with Load(gateway, "far.example") as load:
        load.wait(COUNT // 2)
        gateway.kill()
    gateway.start()
    gateway.wait_until_empty()
    arrived = Counter(one.message["Message-ID"] for one in gateway.sink.received)
    assert set(arrived) >= set(load.accepted)
    assert max(arrived.values()) <= 2


def test_a_role_comes_back_with_the_configuration_that_the_others_have(gateway):
    gateway.set(myhostname="half written", message_size_limit="nonsense")
    for pid, role in gateway.roles().items():
        if role != "master":
            os.kill(pid, signal.SIGKILL)
    poll(lambda: len(gateway.roles()) == 3 + len(os.sched_getaffinity(0)), "all roles are back")
    gateway.sink.delay = 0
    poll(lambda: load_one(gateway), "a message is accepted")
    gateway.sink.wait(1)


def load_one(gateway):
    try:
        gateway.send("u@far.example")
    except (OSError, smtplib.SMTPException):
        return False
    return True
