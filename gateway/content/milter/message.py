"""A message before milters: each hears all of it, as the one before left it, and says what is to be changed.

``inspect`` reads the draft, tells header, body and end to one milter after the other, and carries out what they want:
header fields, body, sender, recipients, quarantine.  Fields that they add pass milter_header_checks.  A refusal raises
Rejected; what is refused, held or discarded is one line in the log:

    QID: milter-reject: END-OF-MESSAGE from NAME[ADDRESS]: 5.7.1 Command rejected; from=<…> to=<…> proto=ESMTP helo=<…>

The header is in memory while it is worked on; one larger than LARGE waits for its turn, so that a process has one of
these at a time, and there is an end to what is taken (MOST_HEADER, MOST_FIELDS).  The body is read in pieces.

What comes with a new sender or recipient is taken as from an SMTP client: RET and ENVID, NOTIFY and ORCPT (RFC 3461).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import DeferredLock

from gateway.addresses.dsn import envelope_id, notify_bits, original_recipient, ret_word
from gateway.addresses.forms import quote, unquote
from gateway.content.header_scan import MORE, OPEN, Field, scan_some
from gateway.content.milter import protocol
from gateway.content.milter.chain import Chain
from gateway.content.milter.client import CONTENT_PROGRAM, HOLD, Kind, Milter, Verdict
from gateway.content.milter.header import Header, line
from gateway.interfaces import Log, Rejected
from spool.envelope import NOTIFY_NEVER, Envelope, Recipient

LARGE = 1 << 20
MOST_HEADER, MOST_FIELDS = 1 << 26, 1 << 19
BLOCK = protocol.CHUNK // 2
"""With CRLF line ends it is one packet at most."""

_WITHOUT_RECIPIENT = frozenset(("CONNECT", "HELO", "MAIL"))
_REPLY = re.compile(r"(\d{3})[ -](?:([245]\.\d{1,3}\.\d{1,3})(?:\s|\Z))?(.*)", re.DOTALL)
_SHOWN = 100
_ROUTE = re.compile(rb"^<(.*)>$", re.DOTALL)

HeaderCheck = Callable[[bytes], Awaitable["list[bytes]"]]
"""What becomes of a field's line: milter_header_checks."""


class Draft(Protocol):
    async def read(self, position: int, count: int) -> bytes: ...

    async def replace(self, kept_from: int, front: bytes) -> None: ...


class Subject(Protocol):
    """The message as its intake has it."""

    id: str
    envelope: Envelope
    hold: bool
    discard: bool


class Inspection:
    """Of one message.  ``header_check``: None = there are no milter_header_checks.  ``next_turn``: let others have a
    turn.  ``large``: held while there is a large header in memory.  ``ours``: its first Received field
    is of our making.  ``size_limit``: of a new body, 0 = any size.  ``new_recipients``: in the end, those that
    milters have added."""

    def __init__(
        self,
        chain: Chain,
        subject: Subject,
        draft: Draft,
        log: Log,
        header_check: HeaderCheck | None,
        next_turn: Callable[[], Awaitable[None]],
        large: DeferredLock,
        *,
        ours: bool,
        size_limit: int = 0,
    ) -> None:
        self.new_recipients: list[Recipient] = []
        self._chain = chain
        self._subject = subject
        self._draft = draft
        self._log = log
        self._check = header_check
        self._next_turn = next_turn
        self._large = large
        self._has_large = False
        self._ours = ours
        self._most = size_limit or 1 << 30
        self._where = "END-OF-MESSAGE"

    async def run(self, before: Verdict | None = None, where: str = "") -> None:
        """``before``: what was said of the envelope already, at ``where``.  Raises Rejected, SpoolError,
        TableError."""
        try:
            await self._run(before, where)
        finally:
            if self._has_large:
                self._large.release()

    async def _run(self, before: Verdict | None, where: str) -> None:
        if before is not None and before.ends:
            self._where = where
            self._end(before)
            return
        held = before is HOLD
        for milter in self._chain.milters:
            if milter.silent:
                continue
            verdict = await self._tell(milter)
            if verdict is HOLD:
                held = True
            elif verdict is not None:
                self._end(verdict)
                break
        if held and not self._subject.hold:
            self._subject.hold = True
            self._tell_log("hold", "milter triggers HOLD action")

    def _end(self, verdict: Verdict) -> None:
        self._chain.abort()
        if verdict.kind is Kind.DISCARD:
            self._subject.discard = True
            self._tell_log("discard", "milter triggers DISCARD action")
            return
        match = _REPLY.match(verdict.text)
        assert match is not None
        code, dsn = int(match[1]), match[2] or f"{match[1][0]}.7.1"
        self._tell_log("reject", f"{dsn} {match[3].strip()}".replace("\n", "??"))
        text = re.sub(rf"\n{code}[ -]", "\n", match[3]).strip()
        raise Rejected(code, dsn, text)

    # --- one milter ----------------------------------------------------------------------------------------------

    async def _tell(self, milter: Milter) -> Verdict | None:
        macro = self._chain.macro
        fields, end, body_at = await self._header()
        header = Header(fields, hidden=self._ours)
        for name, value in header.shown():
            if (verdict := await milter.header(name, value, macro)) is not None:
                return verdict
        if (verdict := await milter.end_of_header(macro)) is not None:
            return verdict
        position = body_at
        while milter.wants_body and (block := await self._draft.read(position, BLOCK)):
            position += len(block)
            if (verdict := await milter.body(block.replace(b"\n", b"\r\n"), macro)) is not None:
                return verdict
        if milter.silent:
            return None
        changes: list[tuple[bytes, bytes]] = []
        verdict = await milter.end(macro, changes, self._most)
        if changes and (verdict is None or verdict is HOLD):
            held = await _Changes(self, milter, header, body_at, body_at > end).apply(changes)
            verdict = HOLD if held else verdict
        return verdict

    async def _header(self) -> tuple[list[Field], int, int]:
        """The fields of the header, where it ends, and where the body begins, behind the empty line."""
        fields: list[Field] = []
        raw, begin, at, state = b"", 0, 0, OPEN
        while state is OPEN:
            begin, raw = begin + at, raw[at:]
            # Twice as much each time, so that a field that does not end is not looked at too often.
            block = await self._draft.read(begin + len(raw), max(BLOCK, len(raw)))
            raw, at, state = raw + block, 0, MORE
            while state is MORE:
                some, at, state = scan_some(raw, at, not block)
                fields += some
                if state is MORE:
                    await self._next_turn()
            if state is OPEN:
                await self._make_room(begin + len(raw), len(fields))
        return fields, begin + at, begin + at + (raw[at : at + 1] == b"\n")

    async def _make_room(self, size: int, count: int) -> None:
        """For a header of which so much has been read, and it goes on."""
        if size > MOST_HEADER or count > MOST_FIELDS:
            raise Rejected(552, "5.3.4", "Error: message header too big for inspection")
        if size > LARGE and not self._has_large:
            await self._large.acquire()
            self._has_large = True

    def _tell_log(self, what: str, text: str) -> None:
        envelope = self._subject.envelope
        client = envelope.client
        origin = f"{client.name}[{client.address}]" if client.name else "localhost[127.0.0.1]"
        facts = f"{self._subject.id}: milter-{what}: {self._where} from {origin}: {text};"
        facts += f" from=<{envelope.sender}>"
        to = [one.address for one in envelope.recipients if one.orcpt or not one.notify & NOTIFY_NEVER]
        if to and self._where not in _WITHOUT_RECIPIENT:
            facts += f" to=<{to[-1]}>"
        facts += f" proto={client.protocol}" if client.protocol else ""
        self._log.info(CONTENT_PROGRAM, facts + (f" helo=<{client.helo}>" if client.helo else ""))

    # --- for _Changes --------------------------------------------------------------------------------------------

    async def checked(self, raw: bytes) -> list[bytes]:
        return [raw] if self._check is None else await self._check(raw)

    @property
    def envelope(self) -> Envelope:
        return self._subject.envelope

    async def rewrite(self, kept_from: int, front: bytes) -> None:
        await self._draft.replace(kept_from, front)

    def complain(self, text: str) -> None:
        self._log.warning(CONTENT_PROGRAM, f"{self._subject.id}: {text}")


class _Changes:
    """What one milter wants, gathered and then carried out at once."""

    def __init__(self, inspection: Inspection, milter: Milter, header: Header, body_at: int, gap: bool) -> None:
        self._inspection = inspection
        self._milter = milter
        self._header = header
        self._body_at = body_at
        self._gap = b"\n" if gap else b""
        """What is between header and body; a message may end with its header."""
        self._body: list[bytes] | None = None
        self._header_changed = False
        self._held = False

    async def apply(self, changes: Sequence[tuple[bytes, bytes]]) -> bool:
        """True: the message is to be held."""
        for command, data in changes:
            try:
                await self._one(command, data)
            except ValueError as problem:
                name = self._milter.config.name
                self._inspection.complain(f"milter {name}: {problem} in packet {command.decode()!r}")
        if self._body is not None:
            body = b"".join(self._body).replace(b"\r\n", b"\n").replace(b"\0", b"")
            if body and not body.endswith(b"\n"):
                body += b"\n"
            await self._inspection.rewrite(1 << 62, self._header.encode() + b"\n" + body)
        elif self._header_changed:
            await self._inspection.rewrite(self._body_at, self._header.encode() + self._gap)
        return self._held

    async def _one(self, command: bytes, data: bytes) -> None:
        envelope = self._inspection.envelope
        if command == protocol.ADD_HEADER:
            name, value = protocol.two_texts(data)
            for raw in await self._checked(name, value):
                self._header.add(raw)
        elif command == protocol.INSERT_HEADER:
            place, name, value = protocol.number_and_texts(data)
            for raw in reversed(await self._checked(name, value)):
                self._header.insert(place, raw)
        elif command == protocol.CHANGE_HEADER:
            await self._change_header(data)
        elif command == protocol.REPLACE_BODY:
            self._body = [*(self._body or ()), data]
        elif command in (protocol.ADD_RECIPIENT, protocol.ADD_RECIPIENT_WITH):
            if address := _address(data):
                recipient = Recipient(address, address)
                self._recipient_parameters(recipient, data)
                self._inspection.new_recipients.append(recipient)
        elif command == protocol.DELETE_RECIPIENT:
            self._delete(envelope, _address(data))
        elif command == protocol.CHANGE_SENDER:
            envelope.sender = _address(data)
            self._sender_parameters(envelope, data)
        else:
            self._held = True

    def _recipient_parameters(self, recipient: Recipient, data: bytes) -> None:
        for word, name, value in _parameters(data):
            if name == "NOTIFY":
                notify = 0 if recipient.notify else notify_bits(value)
                recipient.notify = recipient.notify or notify
                bad = "" if notify else "Bad NOTIFY parameter"
            elif name == "ORCPT":
                orcpt = "" if recipient.orcpt else original_recipient(value)
                recipient.orcpt = recipient.orcpt or orcpt
                bad = "" if orcpt else "Bad ORCPT parameter"
            else:
                bad = "ignoring ESMTP argument"
            if bad:
                self._inspection.complain(f'{bad} from Milter or header/body_checks: "{word}"')

    def _sender_parameters(self, envelope: Envelope, data: bytes) -> None:
        for word, name, value in _parameters(data):
            if name == "RET" and (ret := ret_word(value)):
                envelope.ret = ret
            elif name == "ENVID" and (envid := envelope_id(value)):
                envelope.envid = envid
            else:
                self._inspection.complain(f'Ignoring bad ESMTP parameter "{word}" in SMFI_CHGFROM request')

    async def _change_header(self, data: bytes) -> None:
        number, name, value = protocol.number_and_texts(data)
        if not value:
            self._header_changed |= self._header.change(name, number, None)
            return
        lines = await self._checked(name, value)
        if not lines:
            self._header.change(name, number, None)
        elif not self._header.change(name, number, lines[-1]):
            self._header.add(lines[-1])

    async def _checked(self, name: bytes, value: bytes) -> list[bytes]:
        raw = line(name, value, spaced=bool(self._milter.agreed.options & protocol.LEADING_SPACE))
        if raw is None:
            raise ValueError("bad header name")
        self._header_changed = True
        return await self._inspection.checked(raw)

    def _delete(self, envelope: Envelope, address: str) -> None:
        def is_meant(recipient: Recipient) -> bool:
            return address.lower() in (recipient.original.lower(), recipient.address.lower())

        envelope.recipients = [one for one in envelope.recipients if not is_meant(one)]
        new = self._inspection.new_recipients
        new[:] = [one for one in new if one.address.lower() != address.lower()]


def _parameters(data: bytes) -> Iterator[tuple[str, str, str]]:
    """What stands behind an address: each as it is written, its name, its value."""
    for word in b" ".join(protocol.texts(data)[1:]).decode("utf-8", "replace").split():
        name, _, value = word.partition("=")
        yield word[:_SHOWN], name.upper(), value


def _address(data: bytes) -> str:
    """An address as envelopes have it."""
    first = protocol.texts(data)[0].strip()
    inner = _ROUTE.sub(rb"\1", first)
    text = inner.decode("utf-8", "surrogateescape")
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError("bad address")
    return quote(unquote(text)) if text else ""
