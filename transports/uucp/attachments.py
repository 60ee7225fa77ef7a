"""Large attachments stay here: a note with a token goes over a narrow link in their place.

``reduced`` gives a message in which each attachment of more than ``limit`` bytes is a note, and how many there were;
``part`` finds one of them again in the original, by its number.  A part is an attachment if it says so, or is no text;
multipart/signed and multipart/encrypted go as they are, and so does a message that is a single part.  Messages are
read line by line (RFC 2046 5.1), and no more than ``limit`` bytes of a part are held in memory.  The token is
QUEUE-ID.NUMBER; what is kept under the queue ID is `mailgateway uucp-retrieve`'s to open.
"""

from __future__ import annotations

import email
import email.policy
import re
import tempfile
from collections.abc import Iterable, Iterator
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


def reduced(lines: Iterable[bytes], limit: int, token: str, host: str, into: IO[bytes]) -> int:
    """Write the message without its large attachments; how many these are."""
    count = 0
    number, header, held, size = 0, b"", bytearray(), 0

    def flush() -> None:
        nonlocal count
        if number and size > limit:
            count += 1
            into.write(_note(header, size, f"{token}.{number}", host))
        else:
            into.write(held)

    for at, is_header, line in _walk(lines):
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


def part(lines: Iterable[bytes], number: int) -> bytes | None:
    """The content, decoded, of a part; None if there is none of that number."""
    data = b"".join(line for at, _, line in _walk(lines) if at == number)
    if not data:
        return None
    payload = email.message_from_bytes(data, policy=email.policy.compat32).get_payload(decode=True)
    return payload if isinstance(payload, bytes) else data.partition(b"\n\n")[2]


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


def _walk(lines: Iterable[bytes]) -> Iterator[tuple[int, bool, bytes]]:
    """(part's number or 0 for what holds the parts together, it is of the part's header, line)."""
    stack: list[bytes] = []
    state, header, last, number = "top", bytearray(), 0, 0
    for line in lines:
        if stack and line.startswith(b"--") and (found := _delimiter(line, stack)) is not None:
            if header:  # a part that ends within its header
                yield 0, False, bytes(header)
            depth, is_last = found
            del stack[depth if is_last else depth + 1 :]
            state, header, number = ("between" if is_last else "header"), bytearray(), 0
            if not is_last:
                last += 1
            yield 0, False, line
            continue
        if state not in ("top", "header"):
            yield number, False, line
            continue
        header += line
        if line not in (b"\n", b"\r\n") and len(header) < LONGEST_HEADER:
            continue
        boundary = _boundary(bytes(header)) if len(stack) < DEEPEST else b""
        is_top = state == "top"
        if boundary:
            stack.append(boundary)
            last -= not is_top  # what holds parts is none
        number, state = (0 if boundary or is_top else last), "body"
        yield number, True, bytes(header)
        header = bytearray()
    if header:
        yield 0, False, bytes(header)


def _delimiter(line: bytes, stack: list[bytes]) -> tuple[int, bool] | None:
    text = line.rstrip()
    for depth in range(len(stack) - 1, -1, -1):
        if text == b"--" + stack[depth]:
            return depth, False
        if text == b"--" + stack[depth] + b"--":
            return depth, True
    return None


def _boundary(header: bytes) -> bytes:
    match = _BOUNDARY.search(_UNFOLD.sub(b" ", header))
    if match is None or match[1].lower() in _WHOLE:
        return b""
    return match[2] or match[3]


def _is_attachment(header: bytes) -> bool:
    header = _UNFOLD.sub(b" ", header)
    if _ATTACHED.search(header):
        return True
    found = _TYPE.search(header)
    return found is not None and found[1].lower() not in (b"text", b"multipart")


def _note(header: bytes, size: int, token: str, host: str) -> bytes:
    plain = _UNFOLD.sub(b" ", header)
    kind, name = _TYPE.search(plain), _NAME.search(plain)
    what = (name[1] or name[2]).decode("ascii", "replace") if name else "without a name"
    about = (kind[1] + b"/" + kind[2]).decode("ascii", "replace") if kind else "unknown"
    text = (
        "Content-Type: text/plain; charset=us-ascii\n\n"
        f"[An attachment did not fit the link and is kept at {host}.\n"
        f" Name: {what}\n Type: {about}\n Size: {size} bytes\n Token: {token}\n"
        f" Ask its postmaster to retrieve {token}]\n"
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


def reduce_content(content: Content, limit: int, token: str, host: str) -> Reduced | None:
    """None if nothing had to be replaced.  Blocks."""
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
    if reduced(lines_of(content), limit, token, host, file):
        return Reduced(file)
    file.close()
    return None
