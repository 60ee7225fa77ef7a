"""Copies that are forwarded or requeued."""

from __future__ import annotations

import pytest

from gateway.content.forwarding import Forwarder
from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, RecipientState
from tests.gateway.content.support import Way, now

PLAIN, MIME = b"A: b\n\nx\n", b"MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nx\n"


def made(action: str, content: bytes, encoding: str) -> Envelope:
    way = Way()
    way.spool.add("OLD", content)
    envelope = Envelope("x@y", [Recipient("fwd@gw.my.domain")], encoding=encoding)
    entry = Entry("OLD", envelope, [RecipientState()])
    forwarder = Forwarder(way.cleanup, way.spool)
    if action == "forward":
        work = forwarder.forward(entry, b"Delivered-To: fwd@gw.my.domain\n", "x@y", [Recipient("a@far.example")])
    else:
        work = forwarder.requeue(entry, [])
    return way.spool.stored[now(work, way.clock)].envelope


@pytest.mark.parametrize("encoding", ["", "7bit", "8bit"])
def test_what_body_said_stays_with_the_first_message(encoding: str) -> None:
    assert made("forward", PLAIN, encoding).encoding == ""
    assert made("requeue", PLAIN, encoding).encoding == encoding


def test_the_header_tells_of_a_forwarded_message() -> None:
    envelope = made("forward", MIME, "")
    assert envelope.encoding == "8bit" or envelope.eight_bit
