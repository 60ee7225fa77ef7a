"""A new configuration while clients are connected, and the end."""

from __future__ import annotations

import os
import signal
import smtplib

import pytest

from tests.system.gateway import hand_in, poll, processes

pytestmark = pytest.mark.system

MESSAGE = b"Subject: test\r\n\r\nHello.\r\n"


@pytest.fixture
def gateway(either):
    made = either("twistd")
    made.set(local_transport="discard:", smtpd_banner="$myhostname ESMTP first")
    made.start()
    return made


def greeting(gateway):
    """How a new client is greeted."""
    with smtplib.SMTP(timeout=30) as client:
        return client.connect("127.0.0.1", gateway.port)[1]


@pytest.mark.parametrize("how", ["SIGHUP", "reload"])
def test_a_reload_leaves_open_sessions_alone(gateway, how):
    with gateway.client() as idle, gateway.client() as busy:
        assert busy.docmd("MAIL FROM:<a@b.example>")[0] == 250
        gateway.set(smtpd_banner="$myhostname ESMTP second")
        if how == "SIGHUP":
            os.kill(gateway.process.pid, signal.SIGHUP)
        else:
            gateway.run("reload", check=True)
        poll(lambda: b"second" in greeting(gateway), gateway.last_words)
        assert busy.docmd("RCPT TO:<nobody@localhost>")[0] == 250
        assert busy.data(MESSAGE)[0] == 250
        hand_in(idle, "idle@b.example", ["nobody@localhost"], MESSAGE)
    gateway.wait_for(r"from=<idle@b\.example>")
    gateway.wait_until_empty()
    gateway.stop()


def test_a_broken_configuration_is_refused_whole(gateway):
    with gateway.client() as client:
        gateway.set(smtpd_banner="$myhostname ESMTP second", message_size_limit="many")
        gateway.run("reload")
        refused = gateway.wait_for("reload refused, the old configuration stays: .*")
        assert "main.cf" in refused[0] and "message_size_limit" in refused[0]
        hand_in(client, "a@b.example", ["nobody@localhost"], MESSAGE)
    assert b"first" in greeting(gateway)
    gateway.wait_until_empty()


def test_reloads_in_quick_succession_end_in_the_last_one(gateway):
    for name in ("second", "third", "last"):
        gateway.set(smtpd_banner=f"$myhostname ESMTP {name}")
        os.kill(gateway.process.pid, signal.SIGHUP)
    poll(lambda: b"last" in greeting(gateway), gateway.last_words)
    gateway.send("nobody@localhost")
    gateway.wait_until_empty()


def test_a_delivery_that_takes_long_keeps_nobody_waiting(either, make_sink):
    gateway, slow = either("twistd"), make_sink()
    slow.may_answer.clear()
    gateway.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{slow.port}}}", smtpd_banner="$myhostname ESMTP first"
    )
    gateway.start()
    gateway.send("joe@far.example")
    gateway.wait_for(r"nrcpt=1 \(queue active\)")
    gateway.set(smtpd_banner="$myhostname ESMTP second")
    gateway.run("reload", check=True)
    poll(lambda: b"second" in greeting(gateway), gateway.last_words)
    assert slow.received == []
    gateway.send("nobody@localhost")
    slow.may_answer.set()
    assert [one.recipients for one in slow.wait(1)] == [("joe@far.example",)]
    gateway.wait_for(r"to=<nobody@localhost>, .*status=")
    gateway.stop()
    assert len(slow.received) == 1


@pytest.fixture
def slow(either):
    """A gateway with a program that takes until it is allowed to end, and notes each message that it gets."""
    gateway = either("twistd")
    folder = gateway.folder / "slow"
    folder.mkdir()
    folder.chmod(0o777)
    script = gateway.folder / "slow.sh"
    script.write_text(
        f'#!/bin/sh\ncat >/dev/null\necho "$1" >>{folder}/begun\n'
        f'while [ ! -e {folder}/go ]; do sleep 0.1; done\necho "$1" >>{folder}/done\n'
    )
    script.chmod(0o755)
    user = "games" if gateway.split else "nobody"
    gateway.append("master.cf", f"slow unix - n n - 1 pipe user={user} argv={script} ${{user}}\n")
    gateway.set(
        transport_maps="inline:{slow.example=slow:, far.example=slow:}", local_transport="discard:",
        smtpd_banner="$myhostname ESMTP first", slow_destination_recipient_limit="1",
    )
    gateway.start()
    gateway.slow = folder
    return gateway


def noted(gateway, name):
    path = gateway.slow / name
    return path.read_text().split() if path.exists() else []


def test_the_queue_does_not_wait_for_a_delivery_of_before_the_reload(slow):
    gateway = slow
    gateway.send(["one@slow.example", "two@slow.example"])
    poll(lambda: noted(gateway, "begun"), "the delivery begins")
    gateway.send("three@far.example")  # waits for the only process
    for name in ("second", "third"):
        seen = gateway.log.count("reload finished")
        gateway.set(smtpd_banner=f"$myhostname ESMTP {name}", transport_maps="inline:{slow.example=slow:}",
                    relay_domains="far.example", relay_transport="discard:")
        gateway.run("reload", check=True)
        poll(lambda seen=seen: gateway.log.count("reload finished") > seen, gateway.last_words)
        gateway.send("nobody@localhost", sender=f"{name}@b.example")
        gateway.wait_for(rf"from=<{name}@b\.example>(.*\n)*.*to=<nobody@localhost>, .*status=sent")
    gateway.wait_for(r"to=<three@far\.example>, .*status=sent")
    active = [one for one in gateway.queue() if one["queue_name"] == "active"]
    assert [to["address"] for one in active for to in one["recipients"]] == ["one@slow.example", "two@slow.example"]
    assert noted(gateway, "done") == [] and noted(gateway, "begun") == ["one"]
    (gateway.slow / "go").touch()
    gateway.wait_until_empty()
    assert sorted(noted(gateway, "done")) == sorted(noted(gateway, "begun")) == ["one", "two"]
    assert gateway.log.count("to=<one@slow.example>") == gateway.log.count("to=<two@slow.example>") == 1
    gateway.stop()


def test_a_scheduler_that_dies_after_the_reload_does_what_it_had_in_hand(slow):
    gateway = slow
    if not gateway.split:
        pytest.skip("one process")
    gateway.send("one@slow.example")
    poll(lambda: noted(gateway, "begun"), "the delivery begins")
    (old,) = [pid for pid, role in gateway.roles().items() if role == "scheduler"]
    gateway.run("reload", check=True)
    gateway.wait_for("reload finished")
    os.kill(old, signal.SIGKILL)
    (gateway.slow / "go").touch()
    gateway.wait_until_empty()
    assert noted(gateway, "begun") == ["one", "one"]


def test_sigterm_ends_everything_and_leaves_nothing_half_done(gateway):
    client = smtplib.SMTP("127.0.0.1", gateway.port, timeout=20)
    client.ehlo()
    client.docmd("MAIL FROM:<a@b.example>")
    client.docmd("RCPT TO:<nobody@localhost>")
    gateway.send("nobody@localhost")
    roles = gateway.roles()
    gateway.stop()
    assert client.getreply()[0] == 421
    client.close()
    assert "did not end in time" not in gateway.log
    assert [pid for pid, _ in processes() if pid in roles] == []
    assert [path for path in (gateway.folder / "spool").glob("*/tmp/**/*") if path.is_file()] == []
