"""One message on its way through cleanup; see gateway.content.cleanup."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gateway.addresses.virtual import ExpansionError
from gateway.content.checks import Checker, Checks, about
from gateway.content.header_edit import HeaderEditor
from gateway.content.header_scan import MORE, OPEN, Field, end_of_mailbox_lines, pieces, scan_all, scan_some
from gateway.content.milter.filters import Filters
from gateway.content.options import IntakeOptions
from gateway.content.recipients import EnvelopeRewriter, Rewriting
from gateway.content.rules import ContentRules
from gateway.content.strict_mime import StrictMime
from gateway.interfaces import IIntake, Log, Rejected, TableError
from spool.envelope import Envelope, Recipient
from spool.interfaces import SpoolError

PROGRAM = "cleanup"

IN_MEMORY = 128 * 1024
"""A message up to this size is worked on only when it is complete."""

_EIGHT_BIT_PART = re.compile(rb"\n(?i:content-transfer-encoding[ \t]*:[ \t\n]*(?:8bit|binary)\n)")
_MAILBOX_LINE = b"X-Mailbox-Line: "
_LONGEST_MARK = 80
"""Bytes of what this looks for that may be at the end of a block."""

SHOWN = 100
"""Bytes of what is wrong that stand in the log."""

WAITING = 2 * IN_MEMORY
"""Bytes that may wait while there is work on those before them."""

CHECKED_AT_ONCE = 8 * 1024
"""Bytes of a body after which others have a turn: they may be thousands of parts."""


class Way(NamedTuple):
    """How addresses are rewritten: in the header, and in the envelope."""

    rewriting: Rewriting
    envelopes: EnvelopeRewriter


class Owner(Protocol):
    """What an intake uses of its Cleanup."""

    rules: ContentRules
    ways: dict[bool, Way]
    """With address mappings, and without."""
    checks: Checks | None
    filters: Filters | None
    log: Log
    notify: Callable[[str, Envelope, bytes], None]

    def next_turn(self) -> Awaitable[None]:
        """Let others have a turn."""


@implementer(IIntake)
class Intake:
    """See IIntake.  Blocks wait until _pass_on() takes them: in finish(), or earlier if they are many."""

    def __init__(
        self, owner: Owner, service: str, draft: Any, received: Sequence[bytes], options: IntakeOptions
    ) -> None:
        self.id: str = draft.id
        self.envelope: Envelope = draft.envelope
        self.hold = options.hold
        self.discard = options.discard
        self.copies = list(options.copies)
        self._owner = owner
        self._rules = owner.rules
        self._rewriting, self._envelopes = owner.ways[options.address_mappings]
        self._service = service
        self._options = options
        self._draft = draft
        self._received = received
        self._checker: Checker | None = None
        checked = options.header_body_checks or options.internal_class in self._rules.internal
        if owner.checks and checked:
            self._checker = Checker(owner.checks, self, owner.log)
        self._strict: StrictMime | None = None
        if self._rules.strict and checked:
            self._strict = StrictMime(self._rules.strict, self._report_mime)
        self._blocks: list[bytes] = []
        self._waiting = 0
        self._work_at = IN_MEMORY
        self._size = 0
        self._working: Deferred[None] | None = None
        self._refused: Rejected | None = None
        self._ended = False
        self._envelope_done = self._header_done = False
        self._editor: HeaderEditor | None = None
        """At work on the header; None before its first field."""
        self.header = b""
        """With keep_header: what the header has become, as far as it has been taken."""
        self._before = b""
        """The end of what was looked through for marks of 8-bit parts."""
        self._open_line = False
        """Whether the last byte of the body is in the middle of a line."""

    # --- IIntake -------------------------------------------------------------------------------------------------

    def write(self, block: bytes) -> None:
        if self._refused is not None or not block:
            return
        self._size += len(block)
        if self._size > self._rules.size_limit > 0:
            self._refuse(Rejected(552, "5.3.4", "Error: message file too big"))
            return
        self._blocks.append(block)
        self._waiting += len(block)
        if self._waiting >= self._work_at and self._working is None:
            self._working = Deferred.fromCoroutine(self._work_ahead())
            if self._working.called:
                self._working = None

    @property
    def full(self) -> bool:
        """Write no more until drained() fires: the disk, or what is done with the message, does not keep up."""
        if self._refused is not None:
            return False
        return self._draft.full or (self._working is not None and self._waiting > WAITING)

    async def drained(self) -> None:
        if self._working is not None:
            await self._working
        await self._draft.drained()

    async def finish(self) -> str:
        if self._working is not None:
            await self._working
        if self._refused is None:
            await self._guarded(self._complete())
        if self._refused is not None:
            self.abort()
            raise self._refused
        return self.id

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._blocks.clear()
            self._draft.abort()

    # --- the way through -----------------------------------------------------------------------------------------

    def _refuse(self, why: Rejected) -> None:
        self._refused = self._refused or why
        self._blocks.clear()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do some work; what goes wrong in it becomes the refusal."""
        try:
            await work
        except Rejected as why:
            self._refuse(why)
        except ExpansionError as error:
            self._owner.log.warning(PROGRAM, f"{self.id}: {error}")
            self._refuse(Rejected(451, *error.reply.split(" ", 1)))
        except TableError as error:
            self._owner.log.warning(PROGRAM, f"{self.id}: {error} -- message not accepted, try again later")
            self._refuse(Rejected(451, "4.3.0", "Error: queue file write error"))
        except SpoolError as error:
            self._owner.log.warning(PROGRAM, f"{self.id}: cannot be stored: {error}")
            code, dsn = (452, "4.3.1") if error.no_room else (451, "4.3.0")
            self._refuse(Rejected(code, dsn, "Error: queue file write error"))
        except Exception as error:
            self._owner.log.error(PROGRAM, f"{self.id}: internal: {type(error).__name__}: {error}")
            self._refuse(Rejected(451, "4.3.0", "Error: internal error"))

    async def _work_ahead(self) -> None:
        await self._guarded(self._pass_on(complete=False))
        self._working = None

    async def _complete(self) -> None:
        await self._pass_on(complete=True)
        await self._end_of_body()
        await self._store()

    async def _pass_on(self, complete: bool) -> None:
        if not self._envelope_done:
            self._envelope_done = True
            await self._take_envelope()
        while not self._ended and (self._blocks or (complete and not self._header_done)):
            data = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
            self._blocks.clear()
            self._waiting = 0
            try:
                data = self._rules.clean(data)
            except ValueError as error:
                raise Rejected(550, "5.7.1", str(error)) from None
            if self._header_done:
                await self._take_body(data)
            elif (left := await self._take_header(data, complete)) is not None:
                self._blocks.insert(0, left)
                self._waiting += len(left)
                self._work_at = max(IN_MEMORY, 2 * len(left))  # so that scanning again stays linear in all
                return

    async def _take_envelope(self) -> None:
        copies = self._options.address_mappings and not self._options.internal
        await self._envelopes.rewrite(self.envelope, self._owner.next_turn, copies=copies)
        if not self.envelope.recipients:
            raise Rejected(550, "5.1.0", "Error: no recipients specified")

    async def _take_header(self, data: bytes, complete: bool) -> bytes | None:
        """Take the header off the front of ``data`` and what is behind it as body.  What is left of ``data`` when the
        header is not over yet."""
        if complete and data and not data.endswith(b"\n"):
            data += b"\n"
        mailbox = end_of_mailbox_lines(data) if self._editor is None and data[:1] in (b"F", b">") else 0
        fields, at, state = scan_some(data, mailbox, complete)
        if state is OPEN and not fields:
            return data
        editor = self._editor
        if editor is None:
            editor = self._editor = self._make_editor()
            if self._received:
                ours = b"\n".join([line.removesuffix(b"\n") for line in self._received])
                await editor.take(_fields(ours.replace(b"%(id)s", self.id.encode()) + b"\n"))
            if mailbox and self._service == "smtpd":
                for number, some in enumerate(pieces(data[:mailbox])):
                    self._put_header(editor.taken())
                    if number:
                        await self._owner.next_turn()
                    lines = _MAILBOX_LINE + some[:-1].replace(b"\n", b"\n" + _MAILBOX_LINE) + b"\n"
                    await editor.take(_fields(lines))
        await self._edit(editor, fields)
        while state is MORE:
            self._put_header(editor.taken())
            await self._owner.next_turn()
            fields, at, state = scan_some(data, at, complete)
            await self._edit(editor, fields)
        if state is OPEN:
            self._put_header(editor.taken())
            return data[at:]
        self._header_done = True
        header = editor.end()
        if self._options.keep_header:
            self.header += header
        if editor.refused is not None:
            raise editor.refused
        rest = data[at:]
        if (rest or not complete) and not rest.startswith(b"\n"):
            header += b"\n"  # the line that ended the header is no empty one: one is put in
        if self._checker is None and self._strict is None:
            await self._take_body(header + rest)
        else:
            self._put(header)
            await self._take_body(rest)
        return None

    async def _edit(self, editor: HeaderEditor, fields: list[Field]) -> None:
        if self._strict is not None:
            self._strict.header(fields)
        await editor.take(fields)

    def _make_editor(self) -> HeaderEditor:
        rules = self._rules
        return HeaderEditor(
            rules, self._rewriting, self._owner.log, self.id, self.envelope, self._checker,
            detect_utf8=rules.detects_utf8(self._service), keep_going=self._options.keep_header,
        )

    def _put_header(self, lines: bytes) -> None:
        if self._options.keep_header:
            self.header += lines
        self._put(lines)

    async def _take_body(self, data: bytes) -> None:
        if data:
            self._open_line = not data.endswith(b"\n")
            self._look_for_8_bits(data)
            if self._strict is not None:
                self._strict.body(data, complete=False)
            if self._checker is None:
                self._put(data)
                return
            for at in range(0, len(data), CHECKED_AT_ONCE):
                if at:
                    await self._owner.next_turn()
                self._put(await self._checker.body(data[at : at + CHECKED_AT_ONCE], complete=False))

    def _look_for_8_bits(self, data: bytes) -> None:
        """A part of 8 bits makes the message one, whatever its own header says (RFC 2045 6.4)."""
        rules, envelope = self._rules, self.envelope
        if self._editor is None or not self._editor.has_parts or envelope.encoding == "8bit":
            return
        if rules.believe_encoding and rules.sees_parts:
            if _EIGHT_BIT_PART.search(self._before + data if self._before else data):
                envelope.encoding = "8bit"
            self._before = data[-_LONGEST_MARK:]

    def _put(self, data: bytes) -> None:
        if not self._ended and data:
            self._draft.write(data)

    async def _end_of_body(self) -> None:
        if self._checker is not None:
            self._put(await self._checker.body(b"\n" if self._open_line else b"", complete=True))
        elif self._open_line:
            self._put(b"\n")
        if self._strict is not None:
            self._strict.body(b"\n" if self._open_line else b"", complete=True)
            self._strict.judge()

    def _report_mime(self, problem: str, where: bytes) -> None:
        shown = where[:SHOWN].decode("utf-8", "surrogateescape").rstrip()
        self._owner.log.info(PROGRAM, about(self, f"reject: mime-error {problem}: {shown}"))

    async def _store(self) -> None:
        envelope, added = self.envelope, list[Recipient]()
        filters = self._owner.filters
        if filters is not None and not self.discard and filters.wanted(self._service, self._options):
            added = await filters.inspect(
                self, self._draft, self._options, self._owner.next_turn, ours=bool(self._received)
            )
            self.discard = self.discard or not (envelope.recipients or self.copies or added)
        if self.copies or added or envelope.redirect:
            await self._envelopes.amend(envelope, self.copies, added)
        envelope.eight_bit = envelope.encoding == "8bit"
        if self._rules.detects_utf8(self._service) and not _ascii(envelope):
            envelope.smtputf8 = True
        if self.discard:
            self.abort()
            return
        stored = await self._draft.commit(hold=self.hold)
        self._ended = True
        if not self.hold:
            self._owner.notify(self.id, envelope, stored)


def _fields(header: bytes) -> list[Field]:
    """The fields of a header of our own making."""
    return scan_all(header, True)[0]


def _ascii(envelope: Envelope) -> bool:
    return envelope.sender.isascii() and "".join([one.address for one in envelope.recipients]).isascii()
