r"""The form of a message file: a header field with the envelope, then the message as it is.

    X-Gateway-Envelope: 1 0000000412 000000000012345
     {"sender":"ann@a.example","arrival":1795528584.25,"client":{"name":"…"}}
     {"address":"joe@b.example","original":"j@b.example"}
    Received: from …

So any mail reader can open a spool folder: to it this is a message with one more header field.  The field's first line
has a fixed width: version, where the message begins (bytes from the start of the file), how long it is; a file of
another length was cut off, or is still being written.  The continuation lines are ASCII JSON, the envelope first, then
one line a recipient; values that are the defaults are left out, names that are not known are skipped.  Blanks behind a
line count for nothing: the field can be made longer to fill the room that was kept for it.

Text is ``str`` as it comes from ``bytes.decode("utf-8", "surrogateescape")``; decode(encode(x)) == x for it.  Whatever
the bytes are, only SpoolError is raised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, fields
from math import isfinite
from operator import attrgetter
from typing import Any

from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import SpoolError

FIELD = b"X-Gateway-Envelope: 1 "
_FIRST = b"X-Gateway-Envelope: 1 %010d %015d\n"
HEAD = len(_FIRST % (0, 0))
"""Length of the first line."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_parse = json.JSONDecoder().raw_decode
_quoted = json.encoder.encode_basestring_ascii


def _plain_fields(kind: type, without: Iterable[str]) -> dict[str, Any]:
    """The fields that hold text, numbers or flags, with their defaults ("" where there is none)."""
    return {
        field.name: "" if field.default is MISSING else field.default
        for field in fields(kind)
        if field.name not in without
    }


# "size" stands in the first line.
_ENVELOPE = _plain_fields(Envelope, ("recipients", "client", "size"))
_CLIENT = _plain_fields(Client, ())
_RECIPIENT = _plain_fields(Recipient, ())
_OPTIONAL = tuple((name, default) for name, default in _ENVELOPE.items() if name not in ("sender", "arrival"))
_of_envelope = attrgetter(*(name for name, _ in _OPTIONAL))
_of_client = attrgetter(*_CLIENT)


def encode(envelope: Envelope, size: int, room: int = 0) -> bytes:
    """The header field for a message of ``size`` bytes, filled up to ``room`` bytes if it is shorter."""
    lines = [encode_envelope(envelope)]
    lines += [_recipient_line(recipient) for recipient in envelope.recipients]
    text = " " + "\n ".join(lines)
    offset = max(HEAD + len(text) + 1, room)
    return _FIRST % (offset, size) + text.ljust(offset - HEAD - 1).encode("ascii") + b"\n"


def encode_envelope(envelope: Envelope) -> str:
    """The envelope without its recipients, one line of JSON."""
    # By hand: an encoder for any JSON takes three times as long.
    text = f'{{"sender":{_quoted(envelope.sender)},"arrival":{float(envelope.arrival)!r}'
    for (name, default), value in zip(_OPTIONAL, _of_envelope(envelope), strict=True):
        if value != default:
            text += f',"{name}":{_quoted(value) if type(value) is str else _encode(value)}'
    facts = [
        f'"{name}":{_quoted(value)}'
        for name, default, value in zip(_CLIENT, _CLIENT.values(), _of_client(envelope.client), strict=True)
        if value != default
    ]
    return f'{text},"client":{{{",".join(facts)}}}}}' if facts else text + "}"


def _recipient_line(recipient: Recipient) -> str:
    """recipient_values() as JSON."""
    text = f'{{"address":{_quoted(recipient.address)}'
    if recipient.original:
        text += f',"original":{_quoted(recipient.original)}'
    if recipient.orcpt:
        text += f',"orcpt":{_quoted(recipient.orcpt)}'
    if recipient.notify:
        text += f',"notify":{recipient.notify}'
    return text + "}"


def recipient_values(recipient: Recipient) -> dict[str, Any]:
    """A recipient as JSON has it."""
    values: dict[str, Any] = {"address": recipient.address}
    if recipient.original:
        values["original"] = recipient.original
    if recipient.orcpt:
        values["orcpt"] = recipient.orcpt
    if recipient.notify:
        values["notify"] = recipient.notify
    return values


def measure(head: bytes) -> tuple[int, int]:
    """(where the message begins, its size), from the first bytes of a file."""
    if not head.startswith(FIELD):
        raise SpoolError("not a message file of the gateway" if head else "empty file")
    line = head[:HEAD]
    if len(line) < HEAD or line[-1:] != b"\n":
        raise SpoolError("broken first line")
    offset, blank, size = line[len(FIELD) : -1].partition(b" ")
    if not (blank and offset.isdigit() and size.isdigit()) or line != _FIRST % (int(offset), int(size)):
        raise SpoolError("broken first line")
    if int(offset) <= HEAD:
        raise SpoolError("no envelope")
    return int(offset), int(size)


def decode(block: bytes) -> Envelope:
    """The envelope from the first ``offset`` bytes of a file (see measure)."""
    offset, size = measure(block)
    if len(block) != offset or block[-1:] != b"\n":
        raise SpoolError("envelope is cut off")
    try:
        lines = block[HEAD:-1].decode("ascii").split("\n")
        if not all(line.startswith(" ") for line in lines):
            raise SpoolError("broken envelope")
        first, *others = map(_value, lines)
    except (ValueError, RecursionError):
        raise SpoolError("broken envelope") from None
    envelope = decode_envelope(first)
    envelope.size = size
    envelope.recipients = [decode_recipient(values) for values in others]
    return envelope


def _value(line: str) -> Any:
    """What json.loads() gives, in a third of the time for a line that we have written."""
    try:
        value, end = _parse(line, 1)
    except ValueError:
        return json.loads(line)
    return value if end == len(line) else json.loads(line)


def decode_recipient(values: Any) -> Recipient:
    """A recipient from what recipient_values made."""
    return Recipient(**_checked(values, _RECIPIENT, "address"))


def decode_envelope(values: Any) -> Envelope:
    """An envelope without recipients from what encode_envelope made, parsed."""
    envelope = Envelope(**_checked(values, _ENVELOPE, "sender"))
    client = values.get("client")
    if client is not None:
        envelope.client = Client(**_checked(client, _CLIENT, ""))
    if not isfinite(envelope.arrival):
        raise SpoolError("broken envelope: arrival")
    return envelope


def _checked(values: Any, known: dict[str, Any], needed: str) -> dict[str, Any]:
    """Those values that are known, if each has the type of its default."""
    if not isinstance(values, dict) or (needed and needed not in values):
        raise SpoolError(f"broken envelope: no {needed}" if needed else "broken envelope")
    found = {}
    for name, value in values.items():
        if name not in known:
            continue
        kind = type(known[name])
        if type(value) is not kind:
            value = _as_float(value) if kind is float else None
            if value is None:
                raise SpoolError(f"broken envelope: {name}")
        found[name] = value
    return found


def _as_float(value: Any) -> float | None:
    """A whole number as a float; None if it is none, or too large."""
    try:
        return float(value) if type(value) is int else None
    except OverflowError:
        return None
