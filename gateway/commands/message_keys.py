"""The keys that header_checks and body_checks would make of a message: postmap -q - with -h, -b and -m.

Without ``mime`` the header ends at the first line that is no field, and all that follows is body.  With it, the fields
of parts and of messages within the message are headers as well, and no body.  The line between header and body is one
of the body, and there even if the message has none.  Lines come with their line feeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.content.header_scan import is_field
from gateway.content.mime_structure import Kind, MimeLimits, Structure

MAX_KEY = 100_000


def message_keys(lines: Iterable[str], *, headers: bool, body: bool, mime: bool) -> Iterator[str]:
    raw = (line.encode("utf-8", "surrogateescape") for line in lines)
    for is_header, key in _in_parts(raw) if mime else _plain(raw):
        if headers and key if is_header else body:
            yield key[:MAX_KEY].decode("utf-8", "surrogateescape")


def _plain(lines: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    field = b""
    in_body = False
    for line in lines:
        line = line.rstrip(b"\n")
        if in_body:
            yield False, line
        elif field and line[:1] in (b" ", b"\t"):
            field += b"\n" + line
        else:
            yield True, field
            field = line if line and is_field(line) else b""
            if not field:
                in_body = True
                yield False, b""
                if line:
                    yield False, line
    yield True, field


def _in_parts(lines: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    structure = Structure(MimeLimits(), report=False)
    for piece in structure.feed(b"".join(lines), complete=True):
        if piece.kind in (Kind.PART_HEADER, Kind.NESTED_HEADER):
            yield True, piece.data.rstrip(b"\n")
        else:
            for line in piece.data.removesuffix(b"\n").split(b"\n"):
                yield False, line
