"""Deliveries that another role makes: the scheduler asks, the executor, which may act as any user, delivers.

    scheduler                                       executor
    RemoteTransport ── "deliver" ──────────────▶    Executor → the service's transport
    ForwardDoor     ◀───────────── "forward" ──     RemoteForwarder (local aliases, .forward)
    Executor        ◀──────────────── "pass" ──     RemoteTransport (mailbox_transport and its like)

What crosses the line is JSON: a queue ID, facts of the envelope, the recipients concerned, a next hop, and the name
of a service.  The executor opens the message itself, by the queue ID (with a hint that may name a folder of the spool
and nothing else), and knows only the services of its own configuration; anything malformed is refused with ValueError
before it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from zope.interface import implementer

from gateway.interfaces import IForwarder, ITransport, Request, Result
from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import Entry, RecipientState, SpoolError

T = TypeVar("T")

DELIVER, FORWARD, PASS = "deliver", "forward", "pass"
_QUEUE_ID = re.compile(r"[A-Za-z0-9_]{1,100}\Z")
_NOT_PLAIN = frozenset(("recipients", "client", "expanded"))
"""Of an envelope: they travel otherwise, or not at all, as what is told of a list is the queue's affair and long."""
_PLACE = re.compile(r"[a-z]+/[a-z]+/[A-Za-z0-9_.:,=-]+\Z")


class Link(Protocol):
    """The part of gateway.link.Link that is used here."""

    def call(self, name: str, value: Any) -> Awaitable[Any]: ...


# --- the executor's side -------------------------------------------------------------------------------------------


class Executor:
    """``transports``: by service name; what is not in it cannot be asked for."""

    def __init__(self, transports: Mapping[str, ITransport]) -> None:
        self._transports = transports

    async def deliver(self, value: Any) -> list[dict[str, Any]]:
        """The handler of DELIVER and PASS calls.  Raises ValueError."""
        request = unpack_request(value)
        transport = self._transports.get(request.service)
        if transport is None:
            raise ValueError(f"no such service: {request.service}")
        return [pack_result(result) for result in await transport.deliver(request)]


@implementer(IForwarder)
class RemoteForwarder:
    """Asks the other side to queue a copy."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def forward(self, entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> str:
        value = {
            "entry": _pack_entry(entry, []), "prepend": prepend.decode("latin-1"), "sender": sender,
            "recipients": [pack(recipient) for recipient in recipients],
        }
        try:
            answer = await self._link.call(FORWARD, value)
        except Exception as error:
            raise SpoolError(f"the queue cannot be reached: {error}") from error
        if "error" in answer:
            raise SpoolError(str(answer["error"]), no_room=bool(answer.get("no_room")))
        return str(answer["id"])


# --- the scheduler's side --------------------------------------------------------------------------------------------


@implementer(ITransport)
class RemoteTransport:
    """A service that the executor has, or (PASS) the scheduler: what needs no rights must have none.  ``program``: for
    the log line."""

    def __init__(self, link: Link, program: str, call: str = DELIVER) -> None:
        self.program = program
        self._link = link
        self._call = call

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport.  Fails as the link fails."""
        answer = await self._link.call(self._call, pack_request(request))
        return [unpack_result(result) for result in answer]

    async def stop(self) -> None:
        """The other side has nothing that could be ended from here."""


class ForwardDoor:
    """Takes the executor's copies.  ``forwarder``: the real one."""

    def __init__(self, forwarder: IForwarder) -> None:
        self._forwarder = forwarder

    async def forward(self, value: Any) -> dict[str, Any]:
        """The handler of FORWARD calls.  Raises ValueError."""
        entry = _unpack_entry(_part(value, "entry", dict), [])
        recipients = [unpack(Recipient, recipient) for recipient in _part(value, "recipients", list)]
        prepend = _part(value, "prepend", str).encode("latin-1")
        try:
            queue_id = await self._forwarder.forward(entry, prepend, _part(value, "sender", str), recipients)
        except SpoolError as error:
            return {"error": str(error), "no_room": error.no_room}
        return {"id": queue_id}


# --- values as JSON ------------------------------------------------------------------------------------------------


def pack_request(request: Request) -> dict[str, Any]:
    """Only the recipients concerned travel; they are counted anew from 0."""
    return {
        "service": request.service, "nexthop": request.nexthop, "addresses": request.addresses,
        "bundle": request.bundle, "entry": _pack_entry(request.entry, request.recipients),
    }


def unpack_request(value: Any) -> Request:
    """Raises ValueError for anything that ``pack_request`` does not make."""
    addresses = _part(value, "addresses", list)
    packed = _part(value, "entry", dict)
    recipients = [unpack(Recipient, recipient) for recipient in _part(packed, "recipients", list)]
    if len(addresses) != len(recipients) or not all(isinstance(address, str) for address in addresses):
        raise ValueError("recipients and addresses do not agree")
    entry = _unpack_entry(packed, recipients)
    return Request(
        entry, _part(value, "service", str), _part(value, "nexthop", str), list(range(len(addresses))), addresses,
        _part(value, "bundle", int),
    )


def _pack_entry(entry: Entry, recipients: Sequence[Recipient]) -> dict[str, Any]:
    envelope = {name: getattr(entry.envelope, name) for name in _names(Envelope) if name not in _NOT_PLAIN}
    return {
        "id": entry.id, "where": entry.where, "attempts": entry.attempts,
        "envelope": envelope, "client": pack(entry.envelope.client),
        "recipients": [pack(recipient) for recipient in recipients],
    }


def _unpack_entry(value: Any, recipients: list[Recipient]) -> Entry:
    queue_id = _part(value, "id", str)
    if not _QUEUE_ID.match(queue_id):
        raise ValueError("bad queue ID")
    where = _part(value, "where", str)
    if where and not (_PLACE.match(where) and queue_id in where):
        raise ValueError("bad place of a message")
    envelope = unpack(Envelope, _part(value, "envelope", dict))
    envelope.client = unpack(Client, _part(value, "client", dict))
    envelope.recipients = recipients
    states = [RecipientState() for _ in recipients]
    return Entry(queue_id, envelope, states, attempts=_part(value, "attempts", int), where=where)


def pack_result(result: Result) -> dict[str, Any]:
    packed = pack(result)
    packed["recipient"] = pack(result.recipient) if result.recipient else {}
    packed["others"] = [pack_result(other) for other in result.others]
    return packed


def unpack_result(value: Any) -> Result:
    """Raises ValueError."""
    recipient, others = _part(value, "recipient", dict), _part(value, "others", list)
    result = unpack(Result, {name: each for name, each in value.items() if name not in ("recipient", "others")})
    result.recipient = unpack(Recipient, recipient) if recipient else None
    result.others = tuple(map(unpack_result, others))
    return result


def pack(value: Any) -> dict[str, Any]:
    """A flat dataclass."""
    return {name: getattr(value, name) for name in _names(type(value))}


def unpack(kind: type[T], value: Any) -> T:
    """The dataclass again.  Raises ValueError for unknown names and for values that are not plain."""
    if not isinstance(value, dict) or not set(value) <= set(_names(kind)):
        raise ValueError(f"not a {kind.__name__}")
    if not all(isinstance(each, (str, int, float, bool)) or name == "details" for name, each in value.items()):
        raise ValueError(f"bad value in a {kind.__name__}")
    try:
        return kind(**value)
    except TypeError:
        raise ValueError(f"not a whole {kind.__name__}") from None


def _names(kind: type) -> tuple[str, ...]:
    if kind not in _KNOWN:
        _KNOWN[kind] = tuple(each.name for each in fields(kind))
    return _KNOWN[kind]


_KNOWN: dict[type, tuple[str, ...]] = {}


def _part(value: Any, name: str, kind: type[T]) -> T:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise ValueError(f"{name} is missing or of the wrong kind")
    return found
