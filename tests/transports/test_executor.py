"""What crosses the line between scheduler and executor comes out as it went in; everything else is refused."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.interfaces import BOUNCED, SENT, IForwarder, ITransport, Request, Result
from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import Entry, RecipientState, SpoolError
from transports.executor import (
    DELIVER,
    FORWARD,
    PASS,
    Executor,
    ForwardDoor,
    RemoteForwarder,
    RemoteTransport,
    pack_request,
    unpack_request,
)

TEXT = st.text(max_size=12) | st.just("a\udcffb")


def some(kind: type, **given: Any) -> st.SearchStrategy[Any]:
    """Any dataclass of plain values."""
    plain = {"str": TEXT, "bool": st.booleans(), "int": st.integers(0, 9), "float": st.floats(0, 1e9)}
    parts = {each.name: plain[str(each.type)] for each in fields(kind) if each.name not in given}
    return st.builds(kind, **parts, **given)


ENVELOPES = some(
    Envelope, expanded=st.just(""), recipients=st.lists(some(Recipient), min_size=3, max_size=3), client=some(Client)
)


class Line:
    """Both ends in one place; values go through JSON as on the real line."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Any], Awaitable[Any]]] = {}

    async def call(self, name: str, value: Any) -> Any:
        return json.loads(json.dumps(await self.handlers[name](json.loads(json.dumps(value)))))


@implementer(ITransport)
class Recording:
    program = "pipe"

    def __init__(self, results: Sequence[Result]) -> None:
        self.requests: list[Request] = []
        self._results = results

    async def deliver(self, request: Request) -> Sequence[Result]:
        self.requests.append(request)
        return self._results

    async def stop(self) -> None:
        pass


@settings(max_examples=50)
@given(ENVELOPES, st.lists(st.integers(0, 2), unique=True, min_size=1))
def test_requests(envelope: Envelope, indexes: list[int]) -> None:
    entry = Entry("4jYkqr_1", envelope, [RecipientState()] * 3, attempts=2, where="active/new/4jYkqr_1")
    request = Request(entry, "uucp", "hub!leaf", indexes, [f"{index}@x" for index in indexes])
    back = unpack_request(json.loads(json.dumps(pack_request(request))))
    assert back.recipients == request.recipients
    assert (back.addresses, back.nexthop, back.service, back.entry.id, back.entry.attempts, back.entry.where) == (
        request.addresses, "hub!leaf", "uucp", "4jYkqr_1", 2, "active/new/4jYkqr_1")
    back.entry.envelope.recipients = envelope.recipients
    assert back.entry.envelope == envelope


def request() -> Request:
    envelope = Envelope("s@x", [Recipient("a@b"), Recipient("c@d", "o@d", "rfc822;o@d", 4)])
    return Request(Entry("ID", envelope, []), "uucp", "hub", [1], ["c@D"])


@ensureDeferred
async def test_results_come_back() -> None:
    results = [Result(SENT, "2.0.0", "x", "uucp", 12.5, details={"action": "relayed"}),
               Result(BOUNCED, "5.1.1", "ünknown", recipient=Recipient("z@y", "o@y", notify=4), others=(
                   Result(SENT, "2.0.0", "ok", recipient=Recipient("a@y")), Result(SENT, "2.0.0", "ok")))]
    line, transport = Line(), Recording(results)
    line.handlers[DELIVER] = Executor({"uucp": transport}).deliver
    remote = RemoteTransport(line, "pipe")
    verifyObject(ITransport, remote)
    assert await remote.deliver(request()) == results
    assert transport.requests[0].recipients == [Recipient("c@d", "o@d", "rfc822;o@d", 4)]


@ensureDeferred
async def test_what_is_passed_on_goes_the_other_way() -> None:
    line, transport = Line(), Recording([Result(SENT, "2.0.0", "x")])
    line.handlers[PASS] = Executor({"uucp": transport}).deliver
    assert await RemoteTransport(line, "lmtp", PASS).deliver(request()) == [Result(SENT, "2.0.0", "x")]


@implementer(IForwarder)
class Forwarder:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def forward(self, entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> str:
        self.seen.append((entry.id, entry.envelope.sender, prepend, sender, recipients))
        if sender == "full@x":
            raise SpoolError("no room", no_room=True)
        return "NEW"


@ensureDeferred
async def test_forwarding_goes_the_other_way() -> None:
    line, real = Line(), Forwarder()
    line.handlers[FORWARD] = ForwardDoor(real).forward
    remote = RemoteForwarder(line)
    verifyObject(IForwarder, remote)
    entry = request().entry
    assert await remote.forward(entry, b"X: \xff\n", "o@x", [Recipient("m@x", "o@x")]) == "NEW"
    assert real.seen == [("ID", "s@x", b"X: \xff\n", "o@x", [Recipient("m@x", "o@x")])]
    with pytest.raises(SpoolError, match="cannot be reached"):
        await RemoteForwarder(Line()).forward(entry, b"", "o@x", [])
    with pytest.raises(SpoolError, match="no room") as caught:
        await remote.forward(entry, b"", "full@x", [])
    assert caught.value.no_room


def without(name: str) -> Any:
    packed = pack_request(request())
    del packed[name]
    return packed


def changed(**parts: Any) -> Any:
    return {**pack_request(request()), **parts}


def changed_entry(**parts: Any) -> Any:
    packed = pack_request(request())
    packed["entry"] = {**packed["entry"], **parts}
    return packed


@pytest.mark.parametrize("value", [
    None, [], "x", {}, without("service"), without("entry"), changed(service="root"), changed(service=7),
    changed(addresses=["a", "b"]), changed(addresses=[1]), changed(addresses="c@D"),
    changed_entry(id="../../etc/passwd"), changed_entry(id=""), changed_entry(id=5), changed_entry(envelope={}),
    changed_entry(envelope={"sender": "x", "argv": "y"}), changed_entry(envelope={"sender": ["x"]}),
    changed_entry(where="../new/ID"), changed_entry(where="active/new/OTHER"), changed_entry(where=None),
    changed_entry(recipients=[{"nobody": 1}]), changed_entry(client={"name": None}), changed_entry(attempts="1"),
])
@ensureDeferred
async def test_nothing_malformed_is_taken(value: Any) -> None:
    transport = Recording([])
    with pytest.raises(ValueError):
        await Executor({"uucp": transport}).deliver(value)
    assert transport.requests == []
