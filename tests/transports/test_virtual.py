"""virtual(8): mailboxes by table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.config import Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT, ILookupTable, ITransport, TableError
from gateway.log import MemoryLog
from tests.transports.support import NOBODY, Contents, request
from transports.process import Runner
from transports.store import Locking, Store
from transports.virtual import VirtualConfig, VirtualTables, VirtualTransport


@implementer(ILookupTable)
class Table:
    name = "memory"
    folds_case = True
    whole_keys = False

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = entries

    async def lookup(self, key: str) -> str | None:
        if self._entries.get(key) == "AWAY":
            raise TableError("memory is away")
        return self._entries.get(key)


BOXES = {
    "joe@box.tld": "box.tld/joe/", "ann@box.tld": "ann", "tiny@box.tld": "tiny", "dots@box.tld": "../x",
    "away@box.tld": "AWAY", "nogid@box.tld": "x", "@other.tld": "all/",
}


def virtual(runner: Runner, folder: Path, *, message: bytes = b"Subject: x\n\nFrom y\n", **values: str) -> Any:
    settings = Settings({"virtual_mailbox_base": str(folder), "recipient_delimiter": "+", **values})
    ids = {key: str(NOBODY.uid) for key in BOXES} | {"tiny@box.tld": "5"}
    tables = VirtualTables([Table(BOXES)], [Table(ids)], [Table({**ids, "nogid@box.tld": "none"})])
    return VirtualTransport(VirtualConfig.from_settings(settings), tables, Store(runner, Locking(attempts=1)),
                            Contents({"ID": message}), MemoryLog(), reactor)


@ensureDeferred
async def test_deliveries(runner: Runner, anybodys: Path) -> None:
    transport = virtual(runner, anybodys)
    verifyObject(ITransport, transport)
    results = await transport.deliver(request("Joe+ext@BOX.tld", "ann@box.tld", "any@other.tld", sender=""))
    assert [(r.status, r.dsn, r.reason, r.relay) for r in results] == [
        (SENT, "2.0.0", "delivered to maildir", "virtual"), (SENT, "2.0.0", "delivered to mailbox", "virtual"),
        (SENT, "2.0.0", "delivered to maildir", "virtual")]
    (file,) = (anybodys / "box.tld" / "joe" / "new").iterdir()
    assert file.read_text() == ("Return-Path: <>\nX-Original-To: Joe+ext@BOX.tld\nDelivered-To: Joe+ext@BOX.tld\n"
                                "Subject: x\n\nFrom y\n")
    assert (anybodys / "ann").read_text().endswith("\n\n>From y\n\n")


@ensureDeferred
async def test_what_is_not_delivered(runner: Runner, anybodys: Path) -> None:
    transport = virtual(runner, anybodys)
    results = await transport.deliver(request(
        "Nobody@box.tld", '"No Body"@box.tld', "tiny@box.tld", "dots@box.tld", "away@box.tld", "nogid@box.tld"))
    assert [(r.status, r.dsn, r.reason) for r in results] == [
        (BOUNCED, "5.1.1", 'unknown user: "nobody@box.tld"'), (BOUNCED, "5.1.1", 'unknown user: "no body@box.tld"'),
        (DEFERRED, "4.3.5", "mail system configuration error"), (DEFERRED, "4.3.5", "mail system configuration error"),
        (DEFERRED, "4.3.0", "mail system configuration error"), (DEFERRED, "4.3.5", "mail system configuration error")]


@ensureDeferred
async def test_mail_that_was_in_the_mailbox_before(runner: Runner, anybodys: Path) -> None:
    """Nothing goes on from here, so there is no loop; people send themselves what they have got again."""
    (result,) = await virtual(runner, anybodys, message=b"Delivered-To: ann@box.tld\n\nx\n").deliver(
        request("ann@box.tld"))
    assert (result.status, result.reason) == (SENT, "delivered to mailbox")


@ensureDeferred
async def test_limit(runner: Runner, anybodys: Path) -> None:
    (result,) = await virtual(runner, anybodys, virtual_mailbox_limit="10").deliver(request("ann@box.tld"))
    assert (result.status, result.dsn, result.reason) == (
        BOUNCED, "5.2.2", f"delivery failed to mailbox {anybodys}/ann: error writing message: File too large")


@ensureDeferred
async def test_verify(runner: Runner, anybodys: Path) -> None:
    (result,) = await virtual(runner, anybodys).deliver(request("ann@box.tld", trace="verify"))
    assert result.reason == "delivers to mailbox" and not (anybodys / "ann").exists()


@ensureDeferred
async def test_a_mailbox_that_cannot_be_opened_will_be_one_day(runner: Runner, anybodys: Path) -> None:
    """As with Postfix, and unlike with local users."""
    (anybodys / "ann").mkdir()
    (result,) = await virtual(runner, anybodys).deliver(request("ann@box.tld"))
    assert (result.status, result.dsn, result.reason) == (
        DEFERRED, "4.2.0", f"delivery failed to mailbox {anybodys}/ann: cannot open file: Is a directory")
