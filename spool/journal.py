"""The journal of a message: results of its recipients, recorded after the message file was written.

One JSON object a line, appended only, in ``progress/ID``:

    {"i":0,"done":true,"status":"sent","dsn":"2.0.0","reason":"250 ok","relay":"b.example[192.0.2.1]:25"}
    {"i":1,"status":"bounced",…,"recipient":{"address":…},"others":[{"status":"sent",…}]}      members of an alias
    {"envelope":{…}}        the envelope's flags have changed; recipients stay as they are in the message file

A later line overrides an earlier one.  Records are written between line ends, so that a line that was cut off by a
crash spoils itself only; such lines are skipped and counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spool import format
from spool.envelope import Envelope
from spool.interfaces import Progress, RecipientState, SpoolError

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_TEXTS = ("status", "dsn", "reason", "relay")


@dataclass(slots=True)
class Replayed:
    """An envelope and its recipients' states after all that is on record."""

    envelope: Envelope
    states: list[RecipientState]
    amended: bool = False
    damaged: int = 0
    """Lines that could not be understood."""


def results(progress: Sequence[Progress]) -> bytes:
    return _lines([{"i": one.index, **_record(one.state)} for one in progress])


def amendment(envelope: Envelope) -> bytes:
    return b'\n{"envelope":%b}\n' % format.encode_envelope(envelope).encode("ascii")


def replay(data: bytes, envelope: Envelope) -> Replayed:
    """``envelope`` is the one of the message file.  Never raises."""
    found = Replayed(envelope, [RecipientState() for _ in envelope.recipients])
    for line in data.split(b"\n"):
        if line:
            try:
                _apply(json.loads(line.decode("ascii")), found)
            except (ValueError, RecursionError, SpoolError):
                found.damaged += 1
    return found


def compact(replayed: Replayed) -> bytes:
    """The shortest journal that says the same."""
    blank = RecipientState()
    data = amendment(replayed.envelope) if replayed.amended else b""
    return data + _lines([{"i": i, **_record(state)} for i, state in enumerate(replayed.states) if state != blank])


def _lines(records: list[dict[str, Any]]) -> bytes:
    return ("\n" + "".join(f"{_encode(record)}\n" for record in records)).encode("ascii")


def _record(state: RecipientState) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if state.done:
        record["done"] = True
    for name in _TEXTS:
        value = getattr(state, name)
        if value:
            record[name] = value
    if state.details:
        record["details"] = state.details
    if state.recipient is not None:
        record["recipient"] = format.recipient_values(state.recipient)
    if state.others:
        record["others"] = [_record(other) for other in state.others]
    return record


def _apply(record: Any, found: Replayed) -> None:
    if not isinstance(record, dict):
        raise ValueError
    if "i" in record:
        index = record["i"]
        if type(index) is not int or not 0 <= index < len(found.states):
            raise ValueError
        found.states[index] = _state(record)
    elif "envelope" in record:
        changed = format.decode_envelope(record["envelope"])
        found.envelope = replace(changed, recipients=found.envelope.recipients, size=found.envelope.size)
        found.amended = True
    else:
        raise ValueError


def _state(record: dict[str, Any]) -> RecipientState:
    """Raises ValueError, SpoolError."""
    recipient, others = record.get("recipient"), record.get("others", [])
    if not isinstance(others, list) or not all(isinstance(other, dict) for other in others):
        raise ValueError
    details = record.get("details", {})
    texts = {name: record.get(name, "") for name in _TEXTS}
    if not isinstance(details, dict) or not all(isinstance(text, str) for text in (*texts.values(), *details.values())):
        raise ValueError
    return RecipientState(
        record.get("done") is True, **texts, details=details,
        recipient=None if recipient is None else format.decode_recipient(recipient),
        others=tuple(map(_state, others)),
    )
