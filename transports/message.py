"""A message as a program or a mailbox wants it: lines on top, lines escaped, line ends.

``encode`` gives the bytes in blocks, so that no message is held in memory; ``header_values`` looks for one header
field. What each switch does: pipe(8) flags=, local(8) MAILBOX DELIVERY; RFC 4155 for the From_ line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from gateway.addresses.forms import quote, unquote
from spool.interfaces import Content

BLOCK = 65536
_HEADER_LIMIT = 1_048_576
_END_OF_HEADER = re.compile(rb"^(?![!-9;-~]+[ \t]*:|[ \t])", re.MULTILINE)


@dataclass(slots=True, frozen=True)
class Form:
    """How a message is written."""

    quote_from: bool = False
    """">" before "From " at the beginning of a line."""
    stuff_dots: bool = False
    """"." before "." at the beginning of a line."""
    eol: bytes = b"\n"
    blank: bool = False
    """An empty line behind it."""


MBOX = Form(quote_from=True, blank=True)
PLAIN = Form()


def from_line(sender: str, now: float) -> bytes:
    """``From SENDER  DATE``; the empty sender is MAILER-DAEMON.  ``sender``: internal form."""
    return _line(f"From {quote(sender) if sender else 'MAILER-DAEMON'}  {time.asctime(time.localtime(now))}")


def return_path(sender: str) -> bytes:
    return _line(f"Return-Path: <{quote(sender) if sender else sender}>")


def original_to(recipient: str) -> bytes:
    """``recipient``: internal form; nothing at all if it is not known."""
    return _line(f"X-Original-To: {quote(recipient)}") if recipient else b""


def delivered_to(recipient: str, *, quoted: bool = True) -> bytes:
    """``quoted``: not so in what local(8) forwards."""
    return _line(f"Delivered-To: {quote(recipient) if quoted else recipient}")


def _line(text: str) -> bytes:
    """One line, whatever the text holds."""
    return re.sub(r"[\r\n\0]", "?", text).encode("utf-8", "surrogateescape") + b"\n"


def encode(content: Content, top: bytes, form: Form = PLAIN) -> Iterator[bytes]:
    """``top`` (lines with LF) and the content, in the form wanted.  Ends with a line end whatever the content does."""
    content.seek(0)
    yield top.replace(b"\n", form.eol) if form.eol != b"\n" else top
    plain = form.eol == b"\n" and not (form.quote_from or form.stuff_dots)
    last = b"\n"
    for chunk in _blocks(content) if plain else _transformed(content, form):
        last = chunk
        yield chunk
    if not last.endswith(b"\n"):
        yield form.eol
    if form.blank:
        yield form.eol


def _blocks(content: Content) -> Iterator[bytes]:
    while block := content.read(BLOCK):
        yield block


def _transformed(content: Content, form: Form) -> Iterator[bytes]:
    """Whole lines where possible; of a line longer than a block, parts."""
    marks = [mark for mark, wanted in ((rb"From ", form.quote_from), (rb"\.", form.stuff_dots)) if wanted]
    pattern = re.compile(rb"^(?=" + rb"|^(?=".join(mark + rb")" for mark in marks), re.MULTILINE) if marks else None
    rest, in_line = b"", False
    for block in _blocks(content):
        data = rest + block
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) < BLOCK:
            rest = data
            continue
        chunk, rest = (data[:cut], data[cut:]) if cut else (data, b"")
        yield _escape(chunk, in_line, pattern, form.eol)
        in_line = not cut
    if rest:
        yield _escape(rest, in_line, pattern, form.eol)


def _escape(chunk: bytes, in_line: bool, pattern: re.Pattern[bytes] | None, eol: bytes) -> bytes:
    first = b""
    if in_line:  # the chunk goes on with a line that has begun before
        end = chunk.find(b"\n") + 1 or len(chunk)
        first, chunk = chunk[:end], chunk[end:]
    if pattern is not None:
        chunk = pattern.sub(lambda match: b">" if chunk[match.start() : match.start() + 1] == b"F" else b".", chunk)
    chunk = first + chunk
    return chunk.replace(b"\n", eol) if eol != b"\n" else chunk


def header(content: Content) -> bytes:
    """The header, as far as it goes (at most a megabyte); the position is the caller's to set again."""
    content.seek(0)
    data = b""
    while len(data) < _HEADER_LIMIT and (block := content.read(BLOCK)):
        data += block
        if data.startswith(b"\n") or b"\n\n" in data:
            break
    return b"" if data.startswith(b"\n") else data.partition(b"\n\n")[0]


def header_values(content: Content, name: bytes) -> list[str]:
    """The values of all fields of that name (lower-case), folded lines joined; a line that is no header ends it."""
    # No loop over lines: a header may have hundreds of thousands.
    data = header(content)
    end = _END_OF_HEADER.search(data)
    values = _field(name).finditer(data, 0, end.start() if end else len(data))
    return [match[1].replace(b"\n", b"").strip().decode("utf-8", "surrogateescape") for match in values]


@cache
def _field(name: bytes) -> re.Pattern[bytes]:
    pattern = rb"^" + re.escape(name) + rb"[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)"
    return re.compile(pattern, re.MULTILINE | re.IGNORECASE)


def has_been_at(content: Content, recipient: str) -> bool:
    """Whether a Delivered-To: names that recipient (internal form), letter case aside: the mail goes round."""
    wanted = recipient.lower()
    return any(unquote(value).lower() == wanted for value in header_values(content, b"delivered-to"))
