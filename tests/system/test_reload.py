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
    assert list((gateway.folder / "spool").glob("*/tmp/*")) == []
