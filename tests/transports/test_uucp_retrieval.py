"""Attachments that stayed here are asked for by mail."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gateway.interfaces import BOUNCED, DEFERRED, SENT, ITransport, Rejected, Result
from gateway.log import MemoryLog
from spool.envelope import Client
from spool.interfaces import SpoolError
from tests.transports.support import Bytes, Contents, request
from tests.transports.test_uucp_attachments import BIG, SMALL, message
from transports.uucp.retrieval import RetrieveTransport, _mails
from transports.uucp.shelf import Facts, Shelf, key_of, write

ADDRESS = "get@gw.my.domain"


class World:
    def __init__(self, folder: Path, *, piece: int = 100_000, kept: EmailMessage | None = None) -> None:
        self.folder, self.log, self.posted = folder, MemoryLog(), list[tuple[str, EmailMessage]]()
        self.trouble: Exception | None = None
        data = (kept or message(SMALL, BIG)).as_bytes()
        write(folder, "KEPT", Bytes(data), Facts(piece, ["beta"], ["Ann@b.example", "joe@b.example"]))
        self.key = key_of(folder, "KEPT")

    async def post(self, to: str, content: bytes) -> str:
        if self.trouble:
            raise self.trouble
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage) and not mail.defects
        self.posted.append((to, mail))
        return f"ID{len(self.posted)}"

    async def ask(
        self, subject: str = "", body: str = "", sender: str = "ann@b.example", to: str = ADDRESS, **facts: Any
    ) -> Result:
        contents = Contents({"ID": f"Subject: {subject}\n\n{body}\n".replace("KEY", self.key).encode()})
        transport = RetrieveTransport(
            "get", Shelf(self.folder, maybeDeferred), contents, self.post, self.log, Clock(), maybeDeferred)
        verifyObject(ITransport, transport)
        (result,) = await transport.deliver(request(to.replace("KEY", self.key), sender=sender, **facts))
        assert all(one.closed for one in contents.opened)
        return result


@pytest.mark.parametrize("how", [
    {"subject": "retrieve KEY.4"}, {"subject": "Re: RETRIEVE  KEY.4"}, {"body": "Hello,\nretrieve KEY.4 please"},
    {"to": "get+KEY.4@gw.my.domain"}, {"to": "get-KEY.4@gw.my.domain"},
    {"subject": "retrieve KEY.4", "body": "retrieve KEY.4"},
])
@ensureDeferred
async def test_a_request(how: dict[str, str], tmp_path: Path) -> None:
    world = World(tmp_path)
    result = await world.ask(**how)
    assert (result.status, result.reason) == (SENT, "queued as ID1")
    (to, mail), = world.posted
    assert to == "Ann@b.example" == mail["To"] and mail["From"].startswith("get")
    assert mail.get_content() == BIG and mail.get_content_type() == "application/pdf"
    assert mail.get_filename() == mail["Subject"] == "file_1.pdf" and mail["Auto-Submitted"] == "auto-replied"
    assert f"{world.key}.4 for <Ann@b.example>: 1 messages" in world.log.text


@ensureDeferred
async def test_in_pieces_that_fit_the_link(tmp_path: Path) -> None:
    world = World(tmp_path, piece=3000)
    await world.ask("retrieve KEY.4", sender="joe@B.example")
    assert all(to == "joe@b.example" and len(mail.as_bytes()) <= 3000 for to, mail in world.posted)
    assert len(world.posted) == 8
    assert b"".join(mail.get_content() for _, mail in world.posted) == BIG
    assert world.posted[1][1]["Subject"] == "file_1.pdf, piece 2 of 8"
    assert world.posted[1][1].get_filename() == "file_1.pdf.2"


@pytest.mark.parametrize("sender, facts", [
    ("eve@b.example", {}), ("beta!ann", {}), ("ann@elsewhere", {}),
    ("ann@beta", {"client": Client(name="gamma", protocol="UUCP")}),
    ("ann@beta", {"client": Client(name="beta", protocol="ESMTP")}),
    ("eve@beta", {"client": Client(name="beta", protocol="UUCP")}),
])
@ensureDeferred
async def test_nobody_else_gets_it(sender: str, facts: dict[str, Any], tmp_path: Path) -> None:
    world = World(tmp_path)
    result = await world.ask("retrieve KEY.4", sender=sender, **facts)
    assert (result.status, world.posted) == (BOUNCED, [])
    assert result.reason == f"nothing is kept for you under {world.key}.4"


@pytest.mark.parametrize("sender", ["ann@beta", "ann@beta.uucp", "beta!ann", "leaf!ann@beta"])
@ensureDeferred
async def test_the_name_at_the_neighbour(sender: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    result = await world.ask("retrieve KEY.4", sender=sender, client=Client(name="beta", protocol="UUCP"))
    assert result.status == SENT and world.posted[0][0] == "Ann@b.example"


@pytest.mark.parametrize("subject, reason", [
    ("", "no token"), ("retrieve", "no token"), ("retrieve ../../etc/passwd", "no token"),
    (f"retrieve {'a' * 16}.4", "nothing is kept"), ("retrieve KEY.9", "nothing is kept"),
    ("retrieve KEY.0", "no token"), ("retrieve KEY.99999999", "no token"),
])
@ensureDeferred
async def test_what_cannot_be_had(subject: str, reason: str, tmp_path: Path) -> None:
    result = await World(tmp_path).ask(subject)
    assert result.status == BOUNCED and reason in result.reason


@ensureDeferred
async def test_trouble_and_mail_that_asks_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert (await world.ask("retrieve KEY.4", sender="")).status == SENT
    assert (await world.ask("retrieve KEY.4", trace="verify")).status == SENT
    assert world.posted == []
    world.trouble = SpoolError("no room")
    assert (await world.ask("retrieve KEY.4")).status == DEFERRED
    world.trouble = Rejected(554, "5.7.1", "not that")
    assert (await world.ask("retrieve KEY.4")).status == BOUNCED


@ensureDeferred
async def test_several_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    result = await world.ask(body="retrieve KEY.3\nretrieve KEY.4\nretrieve KEY.7\n" + "retrieve KEY.1\n" * 50)
    assert [mail.get_content() for _, mail in world.posted[:2]] == [SMALL, BIG]
    assert result.status == BOUNCED and result.reason.endswith(".7")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["application/pdf", "text/html", "message/rfc822", "x/y", "nonsense"]),
       st.integers(0, 5000), st.integers(0, 3000))
def test_whatever_an_attachment_is_called(name: str, kind: str, size: int, piece: int) -> None:
    part = email.message_from_bytes(b"Content-Transfer-Encoding: 8bit\n\n" + b"x" * size)
    part["Content-Type"] = kind
    try:
        part.add_header("Content-Disposition", "attachment", filename=name)
        part.get_filename()
    except (ValueError, UnicodeError):
        return
    mails = list(_mails(Facts(piece), part, "get@gw", "\u00e4@b", 0.0))
    for one in mails:
        head = one.partition(b"\n\n")[0]
        assert all(32 <= byte < 127 or byte in b"\n\t" for byte in head)
        assert b"\n\n" not in head and b"Subject: " in head
