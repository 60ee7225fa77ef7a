"""Where the headers inside a body are: the parts of a multipart, the messages in a message; RFC 2045, RFC 2046 5.

    structure = Structure(MimeLimits(), report=True)
    structure.note(field)                               # each field of the message's own header
    for piece in structure.feed(body, complete=False):  # what is behind it, in blocks of any size and split
        piece.kind, piece.data

The pieces, put together, are the body as it came; only a header field that is too long is cut.  A PART_HEADER or
NESTED_HEADER piece is one logical field.  BODY is text in blocks, whole lines or not.  As in Postfix, the first line
that is no field ends a header, a line that only begins with a boundary counts as one, and the headers of a part are
seen whatever encoding it claims: who hides a header from this has to hide it from those who read the message, too.  A
body without parts costs nothing: its blocks pass as they are.

``encoding`` is what is said of the text at hand, and ``misused`` an encoding that its kind of content may not have.

TooDeep is raised by ``note`` and ``feed`` for parts within parts beyond mime_nesting_limit if ``report`` says so; else
what is nested deeper is text.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway.config import Settings
from gateway.content.header_scan import Field, first_field

LF = 0x0A
SEVEN_BIT = "7bit"
_EIGHT_BIT = frozenset(("8bit", "binary"))
_ENCODED = frozenset(("base64", "quoted-printable"))
_SEVEN_BIT_ONLY = dict.fromkeys((b"message/partial", b"message/external-body"), _EIGHT_BIT)
_DASHES = re.compile(rb"^--", re.MULTILINE)
_HEAD = 20
"""Bytes of a line that tell whether it can be a boundary."""
CONTINUED = b" "
"""Stands for the beginning of a line that continues a field, and is left out."""


class Kind(enum.Enum):
    PART_HEADER = enum.auto()
    NESTED_HEADER = enum.auto()
    BODY = enum.auto()
    BOUNDARY = enum.auto()
    """The line of text in front of a part."""
    CLOSING = enum.auto()
    """The one behind the last part."""


class Piece(NamedTuple):
    kind: Kind
    data: bytes


class MimeLimits(NamedTuple):
    """The parameters mime_nesting_limit, mime_boundary_length_limit, header_size_limit."""

    nesting: int = 100
    boundary: int = 2048
    field: int = 102400

    @classmethod
    def of(cls, settings: Settings) -> MimeLimits:
        number = settings.number
        return cls(number("mime_nesting_limit"), number("mime_boundary_length_limit"), number("header_size_limit"))


class TooDeep(ValueError):
    """Parts within parts beyond the limit; the text is the field that opened the last."""


class _Level(NamedTuple):
    mark: bytes
    """A line that begins so is a boundary."""
    digest: bool
    """Its parts are messages unless they say otherwise (RFC 2046 5.1.5)."""


class _Marks:
    """What lines begin with that are boundaries: those of all levels, the innermost first.  As texts and not as a
    pattern, which takes more time to make for long boundaries than all the rest of a message."""

    def __init__(self, marks: Iterable[bytes]) -> None:
        self.all = tuple(marks)
        self._size = min((_HEAD, *map(len, self.all)))
        self._heads = {mark[: self._size] for mark in self.all}

    def find(self, data: bytes, at: int) -> int:
        """Where the next of these lines begins; -1 = nowhere."""
        size, heads = self._size, self._heads
        for line in _DASHES.finditer(data, at):
            start = line.start()
            if data[start : start + size] in heads and data.startswith(self.all, start):
                return start
        return -1


class Structure:
    def __init__(self, limits: MimeLimits, *, report: bool) -> None:
        self._limits = limits
        self._report = report
        self._levels: list[_Level] = []
        self._marks = _Marks(())
        self.encoding = SEVEN_BIT
        """Of the text at hand; within a header, what has been said of what follows; of known encodings only."""
        self.misused = ""
        """The first encoding of a multipart, or of a message in a message, that hides its parts; RFC 2045 6.4."""
        self._kind = b""
        """What follows the header that is being read: "type/subtype"."""
        self._header: Kind | None = Kind.PART_HEADER
        """The kind of the header that is being read; None = within text."""
        self._message_follows = False
        """What is behind the header that is being read is a message with a header of its own."""
        self._waiting = b""
        """Read, but not enough to tell what it is."""
        self._open_line = False
        """The text that was passed on last ended within a line."""
        self._cut = False
        """The rest of the field at hand is left out."""

    def note(self, field: Field) -> None:
        """Take in what a field says about what follows its header."""
        if field.name == b"content-transfer-encoding":
            self.encoding = transfer_encoding(field.value) or self.encoding
        if field.name != b"content-type":
            return
        kind, boundaries = content_type(field.value)
        self._kind = kind
        self._message_follows = kind in (b"message/rfc822", b"message/global")
        if kind.partition(b"/")[0] != b"multipart":
            return
        for boundary in boundaries:
            if len(self._levels) <= self._limits.nesting + 1:
                mark = b"--" + boundary[: self._limits.boundary]
                self._levels.append(_Level(mark, kind == b"multipart/digest"))
            elif self._report:
                raise TooDeep(field.raw.decode("utf-8", "surrogateescape"))
        self._marks = _Marks(level.mark for level in reversed(self._levels))

    def feed(self, data: bytes, complete: bool) -> Iterator[Piece]:
        data = self._waiting + data if self._waiting else data
        self._waiting = b""
        if complete and self._header is not None and data and not data.endswith(b"\n"):
            data += b"\n"
        at = 0
        while at < len(data):
            if self._open_line:
                start, at = at, data.find(b"\n", at) + 1 or len(data)
                self._open_line = data[at - 1] != LF
                piece: Piece | None = Piece(Kind.BODY, data[start:at])
            elif self._header is not None:
                piece, at = self._in_header(data, at, complete)
            else:
                piece, at = self._in_text(data, at, complete)
            if piece is None:
                self._waiting = data[at:]
                return
            if piece.data:
                yield piece

    # --- within a header -----------------------------------------------------------------------------------------

    def _in_header(self, data: bytes, at: int, complete: bool) -> tuple[Piece | None, int]:
        """The field at that place and the place behind it; None if more is needed to tell."""
        if self._cut:
            return self._left_out(data, at)
        limit = self._limits.field
        field, end = first_field(data, at)
        if field is None and data.find(b"\n", at) < 0:
            if len(data) - at <= limit:
                return None, at
            field, _ = first_field(data[at : at + limit] + b"\n", 0)
            if field is not None:
                end, self._cut, self._waiting = len(data), True, CONTINUED
        if field is None:
            return self._end_of_header(data, at)
        if not self._cut and (end == len(data) or data[end] in b" \t"):  # there may be more of it
            if end - at > limit:
                self._cut = True
            elif not complete:
                return None, at
        self.note(field)
        assert self._header is not None
        return Piece(self._header, _shortened(field.raw, limit)), end

    def _left_out(self, data: bytes, at: int) -> tuple[Piece, int]:
        """Pass over the lines that continue a field which has been cut."""
        nothing = Piece(Kind.BODY, b"")
        while at < len(data) and data[at] in b" \t":
            end = data.find(b"\n", at) + 1
            if not end:
                self._waiting = CONTINUED
                return nothing, len(data)
            at = end
        self._cut = at == len(data)
        return nothing, at

    def _end_of_header(self, data: bytes, at: int) -> tuple[Piece, int]:
        """An empty line, or one that is no field."""
        empty = data[at] == LF
        self._judge_encoding()
        self._header = Kind.NESTED_HEADER if empty and self._message_follows else None
        self._message_follows = False
        return Piece(Kind.BODY, b"\n" if empty else b""), at + empty

    def _judge_encoding(self) -> None:
        """At the end of a header."""
        kind, encoding = self._kind, self.encoding
        self._kind = b""
        is_multipart = kind.partition(b"/")[0] == b"multipart"
        if is_multipart or self._message_follows:
            self.encoding = SEVEN_BIT  # each part says for itself
        wrong = _ENCODED if is_multipart or kind == b"message/rfc822" else _SEVEN_BIT_ONLY.get(kind, frozenset())
        if encoding in wrong:
            self.misused = self.misused or encoding

    # --- within text ---------------------------------------------------------------------------------------------

    def _in_text(self, data: bytes, at: int, complete: bool) -> tuple[Piece | None, int]:
        """Text up to the next boundary, or that boundary; ``at`` is at the beginning of a line."""
        if not self._marks.all:
            return Piece(Kind.BODY, data[at:]), len(data)
        found = self._marks.find(data, at)
        if found < 0:
            return self._text_to_the_end(data, at, complete)
        if found > at:
            return Piece(Kind.BODY, data[at:found]), found
        end = data.find(b"\n", at) + 1
        if not end and not complete and len(data) - at <= self._longest:
            return None, at
        end = end or len(data)
        mark = next(mark for mark in self._marks.all if data.startswith(mark, at))
        closing = data.startswith(b"--", at + len(mark))
        self._at_boundary(mark, closing)
        self._open_line = data[end - 1] != LF
        return Piece(Kind.CLOSING if closing else Kind.BOUNDARY, data[at:end]), end

    def _text_to_the_end(self, data: bytes, at: int, complete: bool) -> tuple[Piece | None, int]:
        last = data.rfind(b"\n") + 1
        begun = data[max(last, at) :]
        if not complete and begun and b"--".startswith(begun[:2]) and len(begun) <= self._longest:
            if last <= at:
                return None, at
            return Piece(Kind.BODY, data[at:last]), last
        self._open_line = bool(begun)
        return Piece(Kind.BODY, data[at:]), len(data)

    @property
    def _longest(self) -> int:
        """So much of a line is enough to tell whether it is a boundary."""
        return self._limits.boundary + 4

    def _at_boundary(self, mark: bytes, closing: bool) -> None:
        self.encoding = SEVEN_BIT
        before = len(self._levels)
        while self._levels[-1].mark != mark:
            self._levels.pop()
        if closing:
            self._levels.pop()
        else:
            self._header = Kind.PART_HEADER
            self._kind = b"message/rfc822" if self._levels[-1].digest else b""
            self._message_follows = self._levels[-1].digest
        if len(self._levels) != before:
            self._marks = _Marks(level.mark for level in reversed(self._levels))


def _shortened(raw: bytes, limit: int) -> bytes:
    return raw if len(raw) <= limit else raw[:limit].rstrip(b"\n") + b"\n"


# --- Content-Type (RFC 2045 5.1) -----------------------------------------------------------------------------------

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^\s()<>@,;:\\"/\[\]?=]+|[()<>@,;:\\/\[\]?=]', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(rb'\\.|[()"]', re.DOTALL)


def content_type(value: bytes) -> tuple[bytes, list[bytes]]:
    """"type/subtype" in lower case (as far as it is given), and the boundaries, which are not empty."""
    tokens = [match[0] for match in _TOKEN.finditer(_without_comments(value) if b"(" in value else value)]
    groups: list[list[bytes]] = [[]]
    for token in tokens:
        if token == b";":
            groups.append([])
        else:
            groups[-1].append(token)
    boundaries = []
    for group in groups[1:]:
        if len(group) > 2 and group[0].lower() == b"boundary" and group[1] == b"=":
            boundaries.append(_unquoted(group[2]) if group[2][:1] == b'"' else group[2])
    return b"".join(groups[0][:3]).lower(), [boundary for boundary in boundaries if boundary]


def _unquoted(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text[1:].removesuffix(b'"'))


def _without_comments(value: bytes) -> bytes:
    """Comments may be nested; quotes mean nothing in them, and brackets mean nothing in quotes (RFC 5322 3.2.2)."""
    kept, depth, quoted, at = [], 0, False, 0
    for match in _COMMENT_MARK.finditer(value):
        mark = match[0]
        if mark == b'"' and not depth:
            quoted = not quoted
        elif mark == b"(" and not quoted:
            if not depth:
                kept.append(value[at : match.start()])
            depth += 1
        elif mark == b")" and not quoted and depth:
            depth -= 1
            at = match.end()
    return b" ".join([*kept, b"" if depth else value[at:]])


# --- Content-Transfer-Encoding (RFC 2045 6) ----------------------------------------------------------------------


def transfer_encoding(value: bytes) -> str:
    """Of the known ones; "" = another."""
    token = _TOKEN.search(_without_comments(value) if b"(" in value else value)
    name = token[0].lower().decode("ascii", "replace") if token else ""
    return name if name == SEVEN_BIT or name in _EIGHT_BIT or name in _ENCODED else ""
