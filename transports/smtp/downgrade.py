"""8-bit text for servers that take 7 bits only: every 8-bit part becomes quoted-printable (RFC 2045 6.7, RFC 6152 3).

Text comes and goes in blocks with LF line ends.  The MIME structure is followed as far as boundaries and
Content-Type say.  A part that is declared 8bit or binary is encoded; its header then says quoted-printable, in the last
field, as Postfix writes it.  Multipart and message parts only get "7bit" in their header: what is inside is encoded
part by part.  What is declared 7bit, base64 and the like, or nothing, passes as it is, and so do all other fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

SOFT_BREAK = 72
LONGEST_PIECE = 65536
"""A line without end is taken apart, so that it takes no room."""
MOST_NESTED = 100

_NOT_LITERAL = re.compile(rb"[^\t -<>-~]")
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_FIELD = re.compile(rb"(content-type|content-transfer-encoding)[ \t]*:(.*)\Z", re.IGNORECASE | re.DOTALL)
MOST_HEADER = 256 * 1024


class Downgrader:
    """One message's conversion: ``convert`` it, or ``feed`` block by block and then ``end``."""

    def __init__(self) -> None:
        self._marks: tuple[bytes, ...] = ()
        """What lines begin with that are boundaries, the innermost last."""
        self._header: list[bytes] | None = []
        """Lines of the part header that is being read; None = within a body."""
        self._header_size = 0
        self._encode = False
        self._column = 0
        self._rest = b""
        """The beginning of a line."""

    def convert(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if output := self.feed(block):
                yield output
        if last := self.end():
            yield last

    def feed(self, block: bytes) -> bytes:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        output = [self._line(line + b"\n") for line in lines]
        if len(self._rest) > LONGEST_PIECE:
            output.append(self._line(self._rest))
            self._rest = b""
        return b"".join(output)

    def end(self) -> bytes:
        last = self._line(self._rest) if self._rest else b""
        return last if self._header is None else last + self._end_of_header()

    def _line(self, line: bytes) -> bytes:
        """``line``: with its LF, or a piece of one."""
        bare = line.rstrip(b"\n")
        if bare.startswith(self._marks):
            return (b"" if self._header is None else self._end_of_header(b"")) + self._begin_part(line, bare)
        if self._header is None:
            return self._body(line)
        if bare and self._header_size < MOST_HEADER:
            self._header_size += len(line)
            self._header.append(line)
            return b""
        return self._end_of_header(line)

    # --- structure

    def _begin_part(self, line: bytes, bare: bytes) -> bytes:
        while not bare.startswith(self._marks[-1]):
            self._marks = self._marks[:-1]
        self._encode, self._column = False, 0
        if bare.startswith(b"--", len(self._marks[-1])):
            self._marks = self._marks[:-1]
            self._header = None
        else:
            self._header, self._header_size = [], 0
        return line

    def _end_of_header(self, blank: bytes = b"\n") -> bytes:
        """The part header, changed where need be; the body follows."""
        assert self._header is not None
        fields = _unfold(self._header)
        self._header = None
        content_type, encoding = b"text/plain", b""
        for field in fields:
            match = _FIELD.match(field)
            if match and match[1].lower() == b"content-type":
                content_type = match[2].strip().lower()
                self._note_boundary(field)
            elif match:
                encoding = match[2].strip().lower()
        composite = content_type.startswith((b"multipart/", b"message/"))
        if content_type.startswith(b"message/rfc822"):
            self._header, self._header_size = [], 0
        if encoding in (b"8bit", b"binary"):
            fields = [field for field in fields if not field.lower().startswith(b"content-transfer-encoding")]
            word = b"7bit" if composite else b"quoted-printable"
            fields.append(b"Content-Transfer-Encoding: " + word + b"\n")
            self._encode = not composite
        return b"".join(fields) + blank

    def _note_boundary(self, field: bytes) -> None:
        match = _BOUNDARY.search(field)
        if match and b"multipart/" in field.lower() and len(self._marks) < MOST_NESTED:
            boundary = (match[1] if match[1] is not None else match[2])[:70].rstrip()
            if boundary:
                self._marks += (b"--" + boundary,)

    # --- the encoding

    def _body(self, line: bytes) -> bytes:
        if not self._encode:
            return line
        bare = line.rstrip(b"\n")
        pieces: list[bytes] = []
        for byte in bare:
            if self._column > SOFT_BREAK:
                pieces.append(b"=\n")
                self._column = 0
            piece = _TABLE[byte]
            pieces.append(piece)
            self._column += len(piece)
        if line != bare:
            if bare[-1:] in (b" ", b"\t"):
                pieces[-1] = b"=%02X" % bare[-1]
            pieces.append(b"\n")
            self._column = 0
        return b"".join(pieces)


_TABLE = [
    b"=%02X" % byte if _NOT_LITERAL.match(bytes([byte])) else bytes([byte])
    for byte in range(256)
]


def _unfold(lines: list[bytes]) -> list[bytes]:
    """Header fields with their continuation lines."""
    fields: list[bytes] = []
    for line in lines:
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += line
        else:
            fields.append(line)
    return fields
