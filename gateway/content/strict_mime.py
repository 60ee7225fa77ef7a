"""Mail that says too little of its own encoding is refused, where a site wants that: strict_7bit_headers,
strict_8bitmime_body, strict_8bitmime (both), strict_mime_encoding_domain; RFC 2045, RFC 6152.

    strict = wanted()                   # one a message
    strict.header(fields)               # of the message's own header, as they come
    strict.body(data, complete=False)   # what is behind it
    strict.judge()                      # raises Rejected at the end, if there is something

What is wrong is logged when it is met, the first of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.config import Settings
from gateway.content.header_scan import Field
from gateway.content.mime_structure import SEVEN_BIT, Kind, MimeLimits, Piece, Structure, TooDeep
from gateway.interfaces import Rejected

DEPTH = "MIME nesting exceeds safety limit"
HEADER = "improper use of 8-bit data in message header"
BODY = "improper use of 8-bit data in message body"
DOMAIN = "invalid message/* or multipart/* encoding domain"
_ORDER = (DEPTH, HEADER, BODY, DOMAIN)

_HEADERS = frozenset((Kind.PART_HEADER, Kind.NESTED_HEADER))
_EDGES = frozenset((Kind.BOUNDARY, Kind.CLOSING))


@dataclass(frozen=True, slots=True)
class Strictness:
    """The parameters.  ``limits``: see MimeLimits."""

    headers: bool
    body: bool
    domain: bool
    limits: MimeLimits

    @classmethod
    def of(cls, settings: Settings) -> Strictness | None:
        """None if nothing is wanted."""
        flag = settings.flag
        both = flag("strict_8bitmime")
        made = cls(
            both or flag("strict_7bit_headers"), both or flag("strict_8bitmime_body"),
            flag("strict_mime_encoding_domain"), MimeLimits.of(settings),
        )
        wanted = made.headers or made.body or made.domain
        return made if wanted and not flag("disable_mime_input_processing") else None


class StrictMime:
    """``report``: called with what is wrong, and where, for the log."""

    def __init__(self, wanted: Strictness, report: Callable[[str, bytes], None]) -> None:
        self._wanted = wanted
        self._report = report
        self._structure: Structure | None = Structure(wanted.limits, report=True)
        self._found: set[str] = set()

    def header(self, fields: Iterable[Field]) -> None:
        for field in fields:
            if self._structure is not None:
                try:
                    self._structure.note(field)
                except TooDeep as problem:
                    self._too_deep(problem)
            self._look_at_header(field.raw)

    def body(self, data: bytes, complete: bool) -> None:
        structure = self._structure
        if structure is None:
            return
        try:
            for piece in structure.feed(data, complete):
                self._look_at(structure, piece)
        except TooDeep as problem:
            self._too_deep(problem)
        if self._wanted.domain and structure.misused:
            self._note(DOMAIN, structure.misused.encode())

    def judge(self) -> None:
        for problem in _ORDER:
            if problem in self._found:
                raise Rejected(550, "5.6.0", problem)

    def _look_at(self, structure: Structure, piece: Piece) -> None:
        if piece.kind in _HEADERS:
            self._look_at_header(piece.data)
        elif self._wanted.body and (structure.encoding == SEVEN_BIT or piece.kind in _EDGES) \
                and not piece.data.isascii():
            line = next(line for line in piece.data.split(b"\n") if not line.isascii())
            self._note(BODY, line)

    def _look_at_header(self, raw: bytes) -> None:
        if self._wanted.headers and not raw.isascii():
            self._note(HEADER, raw)

    def _too_deep(self, problem: TooDeep) -> None:
        self._structure = None
        self._note(DEPTH, str(problem).encode("utf-8", "surrogateescape"))

    def _note(self, problem: str, where: bytes) -> None:
        if problem not in self._found:
            self._found.add(problem)
            self._report(problem, where)
