"""The header of a message, as milters change it: fields by their number among those of the same name, or by place.

    header = Header(fields, hidden=True)
    header.add(…); header.insert(0, …); header.change(b"Subject", 1, …)
    header.encode()

``hidden``: the first Received field is our own; milters do not hear of it, and cannot change it.  Values are what is
behind the colon, with LF line ends where they are folded.  What would break the header is made harmless.
"""

from __future__ import annotations

import re

from gateway.content.header_scan import Field

_NAME = re.compile(rb"[!-9;-~]+\Z")
_BREAK = re.compile(rb"[\r\0]|\n(?![ \t])")


class Header:
    def __init__(self, fields: list[Field], *, hidden: bool) -> None:
        self.fields = fields
        self._hidden: Field | None = None
        if hidden:
            self._hidden = next((field for field in self.fields if field.name == b"received"), None)

    def shown(self) -> list[tuple[bytes, bytes]]:
        """Names and values, as milters are told of them."""
        return [_parts(field) for field in self.fields if field is not self._hidden]

    def add(self, raw: bytes) -> None:
        self.fields.append(_field(raw))

    def insert(self, place: int, raw: bytes) -> None:
        self.fields.insert(place, _field(raw))

    def change(self, name: bytes, number: int, raw: bytes | None) -> bool:
        """The ``number``-th field of that name, from 1, becomes ``raw``; None = it goes.  False: there is none."""
        wanted = name.lower()
        for at, field in enumerate(self.fields):
            if field.name == wanted and field is not self._hidden:
                number -= 1
                if number <= 0:
                    self.fields[at : at + 1] = [] if raw is None else [_field(raw)]
                    return True
        return False

    def encode(self) -> bytes:
        return b"".join([field.raw for field in self.fields])


def line(name: bytes, value: bytes, *, spaced: bool) -> bytes | None:
    """A field's line; None if the name is none.  ``spaced``: the value brings its own blank."""
    if not _NAME.match(name):
        return None
    value = _BREAK.sub(lambda match: b"\n\t" if match[0] == b"\n" else b"", value.rstrip(b"\r\n"))
    return name + (b":" if spaced else b": ") + value + b"\n"


def _field(raw: bytes) -> Field:
    return Field(raw.partition(b":")[0].strip().lower(), raw)


def _parts(field: Field) -> tuple[bytes, bytes]:
    name, _, value = field.raw.partition(b":")
    return name, value.removesuffix(b"\n")
