"""Header and body checks: the actions of header_checks(5), looked up line by line while cleanup passes a message on.

A table's answer is an action with an argument: REJECT, DISCARD, HOLD, FILTER, REDIRECT, PREPEND, REPLACE, STRIP,
IGNORE, BCC, WARN, INFO, DUNNO, OK.  What is done, and to what line, goes to the log with the client and envelope:

    QID: reject: header Subject: x from localhost[127.0.0.1]; from=<a@b> to=<c@d> proto=ESMTP helo=<e>: 5.7.1 no

A header is looked up as one logical line, folded lines joined by LF; a body line without its LF, in pieces of at most
line_length_limit bytes, and only within the first body_checks_size_limit bytes of each part.  Which table a header is
looked up in depends on where it stands: fields about MIME and whatever heads a part in mime_header_checks, the header
of a message in a message in nested_header_checks.  What the tables have no answer for is asked of the plug-ins in
message_filters, whose answers are actions, too.  TableError passes through: the message is not accepted now.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.addresses.basis import Tables
from gateway.config import Settings
from gateway.content.header_scan import Field, is_field
from gateway.content.mime_structure import Kind, MimeLimits, Structure, TooDeep
from gateway.interfaces import IMessageFilter, Log, Rejected, TableError
from gateway.plugins import Filter, configured
from spool.envelope import Envelope

PROGRAM = "cleanup"
SHOWN = 200  # bytes of a line that stand in the log

_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")

_MIME_FIELDS = frozenset((
    b"content-description", b"content-disposition", b"content-id", b"content-transfer-encoding", b"content-type",
    b"mime-version",
))  # fmt: skip

Lookup = Callable[[str], Awaitable[str | None]]


@dataclass(slots=True)
class Checks:
    """The tables, each as a look-up, or None; ``body_limit`` is body_checks_size_limit, ``line_limit`` is
    line_length_limit."""

    header: Lookup | None = None
    mime: Lookup | None = None
    nested: Lookup | None = None
    body: Lookup | None = None
    body_limit: int = 51200
    line_limit: int = 2048
    mime_limits: MimeLimits | None = None
    """None: no structure is seen in bodies (disable_mime_input_processing)."""

    @classmethod
    def of(cls, settings: Settings, tables: Tables, prefix: str = "", program: str = PROGRAM) -> Checks | None:
        """What header_checks, body_checks and the like say; None if they say nothing.  ``prefix``: "smtp_" or "lmtp_"
        for those on the way out, which plug-ins have no part in."""

        named = [] if prefix else configured(IMessageFilter, "message_filters", settings)
        filters = [Filter(inner) for inner in named]

        def lookup(name: str) -> Lookup | None:
            parameter = prefix + name
            maps = tables.maps(settings.words(parameter), settings, title=parameter, program=program)
            if not maps and not filters:
                return None

            async def find(line: str) -> str | None:
                try:
                    match = await maps.find(line)
                except TableError:
                    raise TableError(f"{parameter} map lookup problem") from None
                if match or not filters:
                    return match.value if match else None
                return await _ask_filters(filters, line, parameter == "body_checks")

            return find

        checks = cls(
            header=lookup("header_checks"),
            mime=lookup("mime_header_checks"),
            nested=lookup("nested_header_checks"),
            body=lookup("body_checks"),
            body_limit=settings.number("body_checks_size_limit"),
            line_limit=settings.number("line_length_limit"),
        )
        if prefix or not settings.flag("disable_mime_input_processing"):
            checks.mime_limits = MimeLimits.of(settings)
        return checks if checks.headers or checks.body else None

    @property
    def headers(self) -> bool:
        """Whether there is a table for headers of any kind."""
        return bool(self.header or self.mime or self.nested)


async def _ask_filters(filters: Sequence[Filter], line: str, body: bool) -> str | None:
    """The first answer of message_filters."""
    raw = line.encode("utf-8", "surrogateescape")
    name, _, value = raw.partition(b":")
    for one in filters:
        answer = await (one.body(raw) if body else one.header(name.decode("ascii", "replace"), value.lstrip(b" ")))
        if answer is not None:
            return answer
    return None


class Message(Protocol):
    """What an action may change of the message that is checked."""

    id: str
    envelope: Envelope
    hold: bool
    discard: bool
    copies: list[str]


class _Line(NamedTuple):
    """A logical line that a table had an answer for."""

    raw: bytes
    text: str
    where: str
    """"header" or "body", as the log says."""
    table: str
    """The parameter."""


@dataclass(slots=True)
class Checker:
    """The checks of one message.  Lines come back as what is to be written instead: [] takes them out."""

    checks: Checks
    message: Message
    log: Log
    program: str = PROGRAM
    prefix: str = ""
    """Of the parameters' names."""
    _structure: Structure | None = None
    _body_seen: int = 0
    _line_begun: bytes = b""
    """The beginning of a body line whose end is still to come."""
    _over: bool = False
    """After DISCARD and REDIRECT nothing more of the message is looked at."""

    def __post_init__(self) -> None:
        if self.checks.mime_limits is not None:
            self._structure = Structure(self.checks.mime_limits, report=self.checks.headers)

    async def header(self, field: Field) -> list[bytes]:
        """A field of the message's own header."""
        if self._structure is not None:
            self._note(self._structure, field)
        if field.name in _MIME_FIELDS:
            return await self._look_up(self.checks.mime, field.raw, "header", "mime_header")
        return await self._look_up(self.checks.header, field.raw, "header", "header")

    async def milter_header(self, lookup: Lookup, raw: bytes) -> list[bytes]:
        """A field that a milter adds."""
        return await self._look_up(lookup, raw, "header", "milter_header")

    async def body(self, data: bytes, complete: bool) -> bytes:
        """What is behind the header, in blocks of any size and split; the last, ``complete``, ends a line."""
        if self._structure is None:
            return await self._text(data)
        out: list[bytes] = []
        try:
            for kind, piece in self._structure.feed(data, complete):
                if kind is not Kind.BODY and kind is not Kind.BOUNDARY:
                    self._body_seen = 0
                if kind is Kind.PART_HEADER or kind is Kind.NESTED_HEADER:
                    out += await self._inner_header(kind, piece)
                    continue
                out.append(await self._text(piece))
                if kind is Kind.BOUNDARY:
                    self._body_seen = 0
        except TooDeep as problem:
            self._refuse_depth(str(problem))
        return b"".join(out)

    async def _inner_header(self, kind: Kind, raw: bytes) -> list[bytes]:
        if kind is Kind.NESTED_HEADER and raw.partition(b":")[0].lower() not in _MIME_FIELDS:
            return await self._look_up(self.checks.nested, raw, "header", "nested_header")
        return await self._look_up(self.checks.mime, raw, "header", "mime_header")

    async def _text(self, data: bytes) -> bytes:
        if self.checks.body is None:
            return data
        *lines, begun = (self._line_begun + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            for piece in self._pieces(line + b"\n"):
                out += await self._line(piece)
        *pieces, self._line_begun = self._pieces(begun)
        for piece in pieces:
            out += await self._line(piece)
        return b"".join(out)

    def _pieces(self, line: bytes) -> list[bytes]:
        limit = self.checks.line_limit
        if len(line) <= limit:
            return [line]
        return [line[at : at + limit] for at in range(0, len(line), limit)]

    async def _line(self, line: bytes) -> list[bytes]:
        if self._body_seen >= self.checks.body_limit:
            return [line]
        self._body_seen += len(line)
        return await self._look_up(self.checks.body, line, "body", "body")

    def _note(self, structure: Structure, field: Field) -> None:
        try:
            structure.note(field)
        except TooDeep as problem:
            self._refuse_depth(str(problem))

    def _refuse_depth(self, text: str) -> None:
        reason = "MIME nesting exceeds safety limit"
        self.log.info(self.program, self._about(f"reject: mime-error {reason}: {text.rstrip()[:SHOWN]}"))
        raise Rejected(550, "5.6.0", reason)

    async def _look_up(self, lookup: Lookup | None, raw: bytes, where: str, title: str) -> list[bytes]:
        if lookup is None or self._over:
            return [raw]
        text = raw.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        answer = await lookup(text)
        if not answer:
            return [raw]
        word, _, argument = answer.strip().partition(" ")
        return self._act(word.upper(), argument.strip(), _Line(raw, text, where, f"{self.prefix}{title}_checks"))

    def _act(self, action: str, argument: str, line: _Line) -> list[bytes]:
        if action in ("DUNNO", "OK"):
            return [line.raw]
        if action == "IGNORE":
            return []
        if action == "STRIP":
            self._tell("strip", line, argument)
            return []
        if action in ("WARN", "INFO"):
            self._tell("warning" if action == "WARN" else "info", line, argument)
            return [line.raw]
        if action in ("PREPEND", "REPLACE"):
            return self._put(action, argument, line)
        if action == "REJECT":
            status = _STATUS.match(argument)
            dsn = status[1] if status else "5.7.1"
            reason = (argument[status.end():] if status else argument) or "message content rejected"
            self._tell("reject", line, f"{dsn} {reason}")
            raise Rejected(451 if dsn.startswith("4") else 550, dsn, reason)
        if problem := self._send_elsewhere(action, argument, line.table):
            self.log.warning(self.program, problem)
        else:
            self._tell(action.lower(), line, argument)
        return [line.raw]

    def _put(self, action: str, argument: str, line: _Line) -> list[bytes]:
        new = argument.encode("utf-8", "surrogateescape") + b"\n"
        if not argument:
            self.log.warning(self.program, f"{action} action without text in {line.table} map")
            return [line.raw]
        if line.where == "header" and not is_field(new):
            what = f'bad {action} header text "{argument}" in {line.table} map'
            self.log.warning(self.program, f'{what} -- need "headername: headervalue"')
            return [line.raw]
        self._tell(action.lower(), line, argument)
        return [new, line.raw] if action == "PREPEND" else [new]

    def _send_elsewhere(self, action: str, argument: str, table: str) -> str:
        """Carry out what concerns the whole message.  What is wrong with the action, or ""."""
        message = self.message
        if action == "DISCARD":
            message.discard = self._over = True
        elif action == "HOLD":
            message.hold = True
        elif action == "FILTER":
            if not argument:
                return f"missing FILTER command argument in {table} map"
            if ":" not in argument:
                return f"bad FILTER command {argument} in {table} -- need transport:destination"
            message.envelope.content_filter = argument
        elif action in ("REDIRECT", "BCC"):
            if "@" not in argument:
                what = "REDIRECT target" if action == "REDIRECT" else "BCC address"
                return f'bad {what} "{argument}" in {table} map -- need user@domain'
            if action == "BCC":
                message.copies.append(argument)
            else:
                message.envelope.redirect = argument
                self._over = True
        else:
            return f"unknown command in {table} map: {action} {argument}".rstrip()
        return ""

    def _tell(self, action: str, line: _Line, argument: str) -> None:
        client = self.message.envelope.client
        proto = f" proto={client.protocol}" if client.protocol else ""
        helo = f" helo=<{client.helo}>" if client.helo else ""
        what = f"milter-header-{action}" if line.table == "milter_header_checks" else action
        facts = f"{self._about(f'{what}: {line.where} {line.text[:SHOWN]}')}{proto}{helo}"
        self.log.info(self.program, f"{facts}: {argument}" if argument else facts)

    def _about(self, what: str) -> str:
        return about(self.message, what)


def about(message: Message, what: str) -> str:
    """For the log: what was found in a message, with where that came from."""
    envelope = message.envelope
    client = envelope.client
    origin = f"{client.name}[{client.address}]" if client.name else "local"
    to = f" to=<{envelope.recipients[-1].address}>" if envelope.recipients else ""
    return f"{message.id}: {what} from {origin}; from=<{envelope.sender}>{to}"
