"""Large attachments stay here: a note with a token goes over a narrow link in their place.

``reduced`` gives a message in which each attachment of more than ``limit`` bytes is a note, and how much was left out;
``part`` finds one of them again in the original, by its number.  A part is an attachment if it says so, or is no text;
multipart/signed and multipart/encrypted go as they are, and so does a message that is a single part.  With
``text_only`` what stands beside plain text in a multipart/alternative is left out without a note.  Messages are read
line by line (RFC 2046 5.1), and no more than ``limit`` bytes of a part are held in memory.

The token is KEY.NUMBER; what is kept under the key (transports.uucp.shelf) can be asked for by mail
(transports.uucp.retrieval), or taken with `mailgateway uucp-retrieve`.
"""

from __future__ import annotations

import email
import email.policy
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import IO

from spool.interfaces import Content

BLOCK = 65536
IN_MEMORY = 1_000_000
LONGEST_HEADER = 65536
DEEPEST = 50
_BOUNDARY = re.compile(
    rb"^content-type:\s*multipart/([^\s;]+)\s*;[^\n]*?\bboundary\s*=\s*(?:\"([^\"\n]+)\"|([^\s;\"]+))", re.I | re.M
)
_TYPE = re.compile(rb"^content-type:\s*([^\s;/]+)/([^\s;]+)", re.I | re.M)
_ATTACHED = re.compile(rb"^content-disposition:\s*attachment", re.I | re.M)
_NAME = re.compile(rb"\b(?:file)?name\s*=\s*(?:\"([^\"\n]+)\"|([^\s;\"]+))", re.I)
_WHOLE = (b"signed", b"encrypted")
_UNFOLD = re.compile(rb"\n[ \t]+")


@dataclass(slots=True, frozen=True)
class Notes:
    """What the notes say: ``key`` of the tokens, this ``host``, and how to ask, with "%s" in the token's place."""

    key: str
    host: str
    asking: str = "Ask its postmaster to retrieve %s"


def reduced(lines: Iterable[bytes], limit: int, notes: Notes, into: IO[bytes], *, text_only: bool = False) -> int:
    """Write the message without its large attachments; how many parts these are."""
    count = 0
    number, header, held, size = 0, b"", bytearray(), 0

    def flush() -> None:
        nonlocal count
        if number and size > limit:
            count += 1
            into.write(_note(header, size, number, notes))
        else:
            into.write(held)

    for at, is_header, line, spare in _walk(lines):
        if spare and text_only:
            count += is_header
            continue
        if at != number or (at == 0 and held):
            flush()
            number, header, held, size = at, b"", bytearray(), 0
        if at and is_header:
            header += line
        elif at:
            size += len(line)
            if size > limit and not _is_attachment(header):
                into.write(held + line)
                held, size = bytearray(), 0
                continue
        if size <= limit:
            held += line
    flush()
    return count


def part(lines: Iterable[bytes], number: int) -> Message | None:
    """A part; None if there is none of that number."""
    data = b"".join(line for at, _, line, _ in _walk(lines) if at == number)
    return email.message_from_bytes(data, policy=email.policy.compat32) if data else None


def payload(part: Message) -> bytes:
    """Its content, decoded."""
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else part.as_bytes().partition(b"\n\n")[2]


def lines_of(content: Content) -> Iterator[bytes]:
    """Of a message, with their line ends."""
    content.seek(0)
    rest = b""
    while block := content.read(BLOCK):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


@dataclass(slots=True)
class _Level:
    """A multipart within which we are."""

    boundary: bytes
    alternative: bool
    has_plain: bool = False


def _walk(lines: Iterable[bytes]) -> Iterator[tuple[int, bool, bytes, bool]]:
    """(part's number or 0 for what holds the parts together, it is of the part's header, line, it says again what
    stands in plain text already)."""
    stack: list[_Level] = []
    state, header, last, number = "top", bytearray(), 0, 0
    opening, spare_from = b"", DEEPEST + 1  # the delimiter of a part that begins; the level that spare parts are of
    for line in lines:
        if stack and line.startswith(b"--") and (found := _delimiter(line, stack)) is not None:
            if opening or header:  # a part that ends within its header
                yield 0, False, opening + bytes(header), len(stack) > spare_from
            depth, is_last = found
            del stack[depth if is_last else depth + 1 :]
            if depth <= spare_from:
                spare_from = DEEPEST + 1
            state, opening, header, number = ("between" if is_last else "header"), b"", bytearray(), 0
            if is_last:
                yield 0, False, line, depth > spare_from
            else:
                last, opening = last + 1, line
            continue
        if state not in ("top", "header"):
            yield number, False, line, len(stack) > spare_from
            continue
        header += line
        if line not in (b"\n", b"\r\n") and len(header) < LONGEST_HEADER:
            continue
        if stack and spare_from > DEEPEST and _is_spare(bytes(header), stack[-1]):
            spare_from = len(stack) - 1
        level = _level(bytes(header)) if len(stack) < DEEPEST else None
        is_top, spare = state == "top", len(stack) > spare_from
        if opening:
            yield 0, False, opening, spare
        if level is not None:
            stack.append(level)
            last -= not is_top  # what holds parts is none
        number, state = (0 if level is not None or is_top else last), "body"
        yield number, True, bytes(header), spare
        opening, header = b"", bytearray()
    if opening or header:
        yield 0, False, opening + bytes(header), len(stack) > spare_from


def _is_spare(header: bytes, level: _Level) -> bool:
    """Whether a part says again what plain text says already."""
    if not level.alternative:
        return False
    found = _TYPE.search(_UNFOLD.sub(b" ", header))
    plain = found is None or (found[1] + b"/" + found[2]).lower().rstrip(b";") == b"text/plain"
    level.has_plain = level.has_plain or plain
    return not plain and level.has_plain


def _delimiter(line: bytes, stack: Sequence[_Level]) -> tuple[int, bool] | None:
    text = line.rstrip()
    for depth in range(len(stack) - 1, -1, -1):
        if text == b"--" + stack[depth].boundary:
            return depth, False
        if text == b"--" + stack[depth].boundary + b"--":
            return depth, True
    return None


def _level(header: bytes) -> _Level | None:
    """What holds other parts, if this is the header of one."""
    match = _BOUNDARY.search(_UNFOLD.sub(b" ", header))
    if match is None or match[1].lower() in _WHOLE:
        return None
    return _Level(match[2] or match[3], match[1].lower() == b"alternative")


def _is_attachment(header: bytes) -> bool:
    header = _UNFOLD.sub(b" ", header)
    if _ATTACHED.search(header):
        return True
    found = _TYPE.search(header)
    return found is not None and found[1].lower() not in (b"text", b"multipart")


def _note(header: bytes, size: int, number: int, notes: Notes) -> bytes:
    plain = _UNFOLD.sub(b" ", header)
    kind, name = _TYPE.search(plain), _NAME.search(plain)
    what = (name[1] or name[2]).decode("ascii", "replace") if name else "without a name"
    about = (kind[1] + b"/" + kind[2]).decode("ascii", "replace") if kind else "unknown"
    token = f"{notes.key}.{number}"
    text = (
        "Content-Type: text/plain; charset=us-ascii\n\n"
        f"[An attachment did not fit the link and is kept at {notes.host}.\n"
        f" Name: {what}\n Type: {about}\n Size: {size} bytes\n Token: {token}\n"
        f" {notes.asking.replace('%s', token)}]\n"
    )
    return re.sub(r"[^\n\x20-\x7e]", "?", text).encode("ascii")


class Reduced:
    """The reduced message, as Content."""

    offset = 0

    def __init__(self, file: IO[bytes]) -> None:
        self.size = file.seek(0, 2)
        self._file = file

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    def seek(self, position: int) -> None:
        self._file.seek(position)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def reduce_content(content: Content, limit: int, notes: Notes, text_only: bool) -> Reduced | None:
    """None if nothing had to be left out.  Blocks."""
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
    if reduced(lines_of(content), limit, notes, file, text_only=text_only):
        return Reduced(file)
    file.close()
    return None
