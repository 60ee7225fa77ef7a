"""LMTP to a real Dovecot: over TCP and a UNIX socket, one reply a recipient, connections used again."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from tests.system.dovecot import Dovecot

pytestmark = [pytest.mark.system, pytest.mark.programs("dovecot", package="dovecot-lmtpd")]

MASTER = "lmtp      unix  -       -       n       -       -       lmtp\n"
DOMAIN = "box.example"


@pytest.fixture
def dovecot(folder):
    with Dovecot(folder / "dovecot") as running:
        yield running
        print(running.log[-3000:])


@pytest.fixture
def gateway(either, dovecot):
    """A site that has no users of its own; its mail goes to Dovecot."""
    one = either("stand-alone")
    one.append("master.cf", MASTER)
    one.set(mydestination="", relay_domains=DOMAIN, relay_transport=f"lmtp:unix:{dovecot.socket}")
    return one


def verdicts(gateway, queue_id=r"\S+"):
    """Recipient → (relay, code, status, reason)."""
    pattern = rf"lmtp\[\d+\]: {queue_id}: to=<([^>]*)>,.* relay=(\S+),.* dsn=(\S+), status=(\S+) \((.*)\)$"
    return {match[1]: match.groups()[1:] for match in re.finditer(pattern, gateway.log, re.MULTILINE)}


def test_each_recipient_has_a_reply_of_its_own(gateway, dovecot):
    gateway.start()
    gateway.send([f"{name}@{DOMAIN}" for name in ("joe", "ann+x", "nobody-here", "full")],
                 "Subject: all\n\n.dots\nFrom here\n" + "x" * 2000 + "\n")
    gateway.wait_until_empty()
    found = verdicts(gateway)
    relay = f"{gateway_name(gateway)}[{dovecot.socket}]"
    for name in ("joe", "ann+x"):
        assert found[f"{name}@{DOMAIN}"][:3] == (relay, "2.0.0", "sent")
    assert found[f"nobody-here@{DOMAIN}"][1:3] == ("5.1.1", "bounced")
    assert found[f"full@{DOMAIN}"][1:3] == ("5.2.2", "bounced")
    for name in ("joe", "ann"):
        (text,) = dovecot.messages(name)
        assert "\n.dots\nFrom here\n" in text and "Return-Path: <a@b.example>" in text
    assert dovecot.messages("full") == []


def gateway_name(gateway):
    return gateway.run("postconf", "-h", "myhostname", check=True).stdout.strip()


@pytest.mark.parametrize("by", ["tcp", "unix"])
def test_connections_are_used_again(gateway, dovecot, by):
    if by == "tcp":
        gateway.set(relay_transport=f"lmtp:inet:127.0.0.1:{dovecot.port}")
    gateway.set(lmtp_connection_cache_on_demand="yes", lmtp_connection_cache_destinations=DOMAIN)
    gateway.start()
    before = dovecot.sessions()
    for number in range(10):
        gateway.send(f"joe@{DOMAIN}", f"Subject: {number}\n\nx\n")
        gateway.wait_for(rf"(?s)(status=sent.*){{{number + 1}}}")
    gateway.wait_until_empty()
    assert len(dovecot.messages("joe")) == 10
    gateway.stop()
    assert dovecot.sessions() - before < 10, dovecot.log


def test_a_server_that_is_away(gateway, dovecot):
    gateway.start()
    dovecot.stop()
    gateway.send(f"joe@{DOMAIN}")
    gateway.wait_for(r"to=<joe@box\.example>, relay=none,.* dsn=4\.4\.1, status=deferred \(connect to ")
    dovecot.start()
    gateway.run("flush", check=True)
    gateway.wait_until_empty()
    assert len(dovecot.messages("joe")) == 1


def test_a_server_that_is_killed_in_the_middle(gateway, dovecot):
    """What it has not answered for is tried again; nothing is lost, and what it has answered for is not sent twice."""
    gateway.set(minimal_backoff_time="1s", queue_run_delay="1s")
    gateway.start()
    for number in range(60):
        gateway.send([f"joe@{DOMAIN}", f"ann@{DOMAIN}"], f"Subject: number {number}\n\nx\n")
        if number == 30:
            gateway.wait_for(r"to=<joe@.*status=sent")
            dovecot.kill()
    gateway.wait_for(r"status=deferred")
    told = set(re.findall(r" (\S+): to=<joe@.*status=sent", gateway.log))
    dovecot.start()
    gateway.run("flush", check=True)
    gateway.wait_until_empty()
    for name in ("joe", "ann"):
        found = Counter(re.search(r"Subject: number (\d+)", text)[1] for text in dovecot.messages(name))
        assert set(found) == set(map(str, range(60)))
    ids = Counter(re.findall(r" (\S+): to=<joe@.*status=sent", gateway.log))
    assert set(told) <= set(ids) and max(ids.values()) == 1


def test_a_full_mailbox_may_be_emptied(gateway, dovecot):
    dovecot.stop()
    dovecot.set("quota_full_tempfail", "yes")
    dovecot.start()
    gateway.start()
    gateway.send([f"full@{DOMAIN}", f"joe@{DOMAIN}"], "Subject: x\n\n" + "x" * 2000 + "\n")
    gateway.wait_for(r"to=<full@.* dsn=4\.2\.2, status=deferred \(host .* said: 45. 4\.2\.2 ")
    gateway.wait_for(r"to=<joe@.*status=sent")
    (entry,) = gateway.queue()
    assert [one["address"] for one in entry["recipients"]] == [f"full@{DOMAIN}"]


def test_as_the_mailbox_of_local_users(either, dovecot):
    """The example dovecot: aliases and .forward files are the gateway's, mailboxes Dovecot's."""
    gateway = either("dovecot")
    gateway.replace("main.cf", "/run/dovecot/lmtp", str(dovecot.socket))
    gateway.set(mydestination=DOMAIN, myorigin=DOMAIN, local_recipient_maps="")
    gateway.append("aliases", "team: joe, ann\n")
    gateway.start()
    gateway.send([f"team@{DOMAIN}", f"nobody-here@{DOMAIN}"])
    gateway.wait_until_empty()
    assert [len(dovecot.messages(name)) for name in ("joe", "ann")] == [1, 1]
    assert "User doesn't exist" in verdicts(gateway)[f"nobody-here@{DOMAIN}"][3]
    if gateway.split:
        scheduler = next(pid for pid, role in gateway.roles().items() if role == "scheduler")
        assert os.stat(f"/proc/{scheduler}").st_uid != 0
