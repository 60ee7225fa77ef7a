"""The example virtual-mailboxes: who gets what, whose it is, and that other programs can read it."""

from __future__ import annotations

import mailbox
import os
import pwd

import pytest

pytestmark = pytest.mark.system

UID = 54321


@pytest.fixture
def site(either, folder):
    gateway = either("virtual-mailboxes")
    boxes = folder / "boxes"
    (boxes / "mboxes").mkdir(parents=True)
    uid = UID
    if not gateway.split:
        uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        gateway.set(alias_maps="")
    gid = pwd.getpwuid(uid).pw_gid if uid != UID else UID
    if os.geteuid() == 0:
        for path in (boxes, boxes / "mboxes"):
            os.chown(path, uid, gid)
    gateway.set(virtual_mailbox_base=str(boxes), virtual_uid_maps=f"static:{uid}", virtual_gid_maps=f"static:{gid}",
                virtual_minimum_uid="1")
    gateway.append("mailboxes", "mbox@example.com mboxes/mbox\n")
    gateway.start()
    return gateway, boxes, uid


def test_mailboxes(site):
    gateway, boxes, uid = site
    gateway.send(["team@example.com", "any.body@example.net", "JOE@Example.NET"], "Subject: one\n\nFrom here\n")
    with gateway.client() as client:
        client.docmd("MAIL FROM:<a@b.example>")
        code, text = client.docmd("RCPT TO:<nobody-here@example.com>")
    assert code == 550 and b"User unknown in virtual mailbox table" in text
    gateway.wait_until_empty()
    names = ["example.com/joe", "example.com/ann", "example.net/others", "example.net/joe"]
    for name in names:
        (message,) = mailbox.Maildir(boxes / name, create=False)
        assert message["Subject"] == "one" and message.get_payload() == "From here\n"
        assert (boxes / name / "new").stat().st_uid == uid
    members = [message["Delivered-To"] for name in names[:2] for message in mailbox.Maildir(boxes / name, create=False)]
    assert members == ["joe@example.com", "ann@example.com"]


def test_an_mbox(site):
    gateway, boxes, uid = site
    for text in ("one", "two"):
        gateway.send("mbox@example.com", f"Subject: {text}\n\nFrom here\n\nFrom there\n")
    gateway.wait_until_empty()
    messages = list(mailbox.mbox(boxes / "mboxes" / "mbox", create=False))
    assert sorted(message["Subject"] for message in messages) == ["one", "two"]
    assert all(message.get_payload() == ">From here\n\n>From there\n" for message in messages)
    assert (boxes / "mboxes" / "mbox").stat().st_uid == uid
