"""What stands in a job: one message for rmail, or several as batched SMTP.

``Letter`` is a message on its way to one neighbour; ``rmail_input`` and ``batch_input`` give the bytes for uux's
standard input, of which ``input_file`` makes a file, ``grade_of`` the job's grade.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from gateway.addresses.forms import quote
from gateway.compression import packed
from gateway.interfaces import Request
from spool.interfaces import Content
from transports import message
from transports.uucp.addressing import bang_sender
from transports.uucp.service import Grades, UucpService

_DOTTED = message.Form(stuff_dots=True)
_URGENT = frozenset(("urgent", "high", "1", "special-delivery", "first-class"))
_BULK = frozenset(("bulk", "junk", "list", "low", "non-urgent", "5"))
_PRIORITY_FIELDS = (b"precedence", b"priority", b"importance", b"x-priority")


@dataclass(slots=True)
class Letter:
    request: Request
    sender: str
    """Internal form; "" for the empty one."""
    recipients: list[str]
    """As the neighbour gets them."""
    content: Content


def rmail_input(service: UucpService, letter: Letter, now: float) -> Iterator[bytes]:
    flags = service.pipe.flags
    form = message.Form(">" in flags, "." in flags, service.pipe.eol, "B" in flags)
    top = b""
    if service.bang:
        path = bang_sender(letter.sender) or service.pipe.null_sender
        line = message.from_line("", now).replace(b"MAILER-DAEMON", _text(path), 1)
        top = line.rstrip(b"\n") + b" remote from " + _text(service.taylor.node) + b"\n"
    elif "F" in flags:
        top = message.from_line(letter.sender or service.pipe.null_sender, now)
    if "R" in flags:
        top += message.return_path(letter.sender or service.pipe.null_sender)
    return message.encode(letter.content, top, form)


def batch_input(service: UucpService, letters: Sequence[Letter]) -> Iterator[bytes]:
    yield b"HELO " + _text(service.taylor.node) + b"\n"
    for letter in letters:
        sender = bang_sender(letter.sender) if service.bang else letter.sender
        eight_bit = b" BODY=8BITMIME" if letter.request.entry.envelope.eight_bit else b""
        yield b"MAIL FROM:<" + _text(quote(sender) if sender else "") + b">" + eight_bit + b"\n"
        for recipient in letter.recipients:
            yield b"RCPT TO:<" + _text(recipient) + b">\n"
        yield b"DATA\n"
        yield from message.encode(letter.content, b"", _DOTTED)
        yield b".\n"
    yield b"QUIT\n"


def input_file(blocks: Iterable[bytes], kind: str, small: bool) -> IO[bytes]:
    """The blocks, packed, as a file; if it is ``small`` in memory."""
    file: IO[bytes] = open(os.memfd_create("mail"), "w+b") if small else tempfile.TemporaryFile()  # noqa: SIM115
    try:
        for block in packed(blocks, kind):
            file.write(block)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def grade_of(grades: Grades, letters: Sequence[Letter]) -> str:
    """Of a batch, that of its most urgent letter."""
    return min(_grade(grades, letter) for letter in letters)


def _grade(grades: Grades, letter: Letter) -> str:
    if grades.bulk or grades.urgent:
        said = _priority(letter.content)
        if grades.urgent and said & _URGENT:
            return grades.urgent
        if grades.bulk and said & _BULK:
            return grades.bulk
    for size, grade in grades.by_size:
        if letter.request.entry.envelope.size <= size:
            return grade
    return grades.plain


def _priority(content: Content) -> set[str]:
    values: set[str] = set()
    for name in _PRIORITY_FIELDS:
        for value in message.header_values(content, name):
            values.add(value.partition(" ")[0].lower())
    return values


def _text(text: str) -> bytes:
    """Nothing that would begin another line: the guard refuses such addresses, and this makes sure."""
    return text.encode("utf-8", "surrogateescape").replace(b"\n", b"?").replace(b"\r", b"?")
