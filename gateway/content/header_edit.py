"""What cleanup does with the header of a message: drop, rewrite, count, add; cleanup(8), RFC 5322 3.6.

``take`` gets the scanned fields, ``taken`` gives what has become of them, ``end`` the end of the header block.  What it
learnt (message ID, declared encoding, whether the header needs SMTPUTF8) goes into the envelope.  ``take`` raises
Rejected for a message that went round in circles, or that the checks refuse; with ``keep_going`` that is put down in
``refused`` instead, for a header that is whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.addresses.headers import RECIPIENT_FIELDS, SENDER_FIELDS
from gateway.content.checks import Checker
from gateway.content.header_scan import Field
from gateway.content.missing import is_resent, missing_fields
from gateway.content.recipients import Rewriting
from gateway.content.rules import ContentRules
from gateway.interfaces import Log, Rejected
from gateway.log import printable
from spool.envelope import Envelope

PROGRAM = "cleanup"

LONGEST_ID = 1000
"""Characters of a message ID that are logged and kept."""
LONGEST_LINE = 2048
"""Bytes behind the limit of a field that are looked at; what is a line to Postfix (line_length_limit)."""

_ADDRESS_FIELDS = {name.encode(): name for name in SENDER_FIELDS | RECIPIENT_FIELDS}
_EIGHT_BIT = frozenset((b"8bit", b"binary"))
_COUNTED = frozenset((b"message-id", b"date", b"from", b"to", b"cc"))
_RESENT = b"resent-"
_NOTED = frozenset((b"message-id", b"resent-message-id", b"content-transfer-encoding", b"content-type"))


class HeaderEditor:
    """The header of one message."""

    def __init__(
        self,
        rules: ContentRules,
        rewriting: Rewriting,
        log: Log,
        queue_id: str,
        envelope: Envelope,
        checker: Checker | None,
        *,
        detect_utf8: bool = False,
        keep_going: bool = False,
    ) -> None:
        self._rules = rules
        self._rewriting = rewriting
        self._log = log
        self._id = queue_id
        self._envelope = envelope
        self._checker = checker
        self._detect_utf8 = detect_utf8
        self._keep_going = keep_going
        self.refused: Rejected | None = None
        context = envelope.client.rewrite_context
        self._context = context if context == "local" or rules.remote_context else ""
        self.has_parts = False
        """The body may hold headers of its own."""
        self._seen: set[bytes] = set()
        """Those that _COUNTED has; of fields that begin with _RESENT, _RESENT stands for the others.  A header may have
        a million names."""
        self._hops = 0
        self._out: list[bytes] = []

    async def take(self, fields: Iterable[Field]) -> None:
        """The next fields."""
        for field in fields:
            if len(field.raw) > self._rules.field_limit or b"\0" in field.raw:
                field.raw = _first_lines(field.raw, self._rules.field_limit)
            if self._checker is None:
                if self._take(field):
                    await self._take_addresses(field)
                continue
            for raw in await self._checked(self._checker, field):
                name = field.name if raw is field.raw else raw.partition(b":")[0].strip().lower()
                one = Field(name, raw)
                if self._take(one):
                    await self._take_addresses(one)

    async def _checked(self, checker: Checker, field: Field) -> list[bytes]:
        try:
            return await checker.header(field)
        except Rejected as why:
            self._refuse(why)
            self._checker = None
            return [field.raw]

    def _refuse(self, why: Rejected) -> None:
        if not self._keep_going:
            raise why
        self.refused = self.refused or why

    def taken(self) -> bytes:
        """The lines of the new header since the last call."""
        taken = b"".join(self._out)
        self._out.clear()
        return taken

    def end(self) -> bytes:
        """The same after the last field, without the empty line behind it."""
        self._add_missing()
        return self.taken()

    def _take(self, field: Field) -> bool:
        """True: it has addresses, and _take_addresses() is to go on with it."""
        name = field.name
        if name in _COUNTED:
            self._seen.add(name)
        elif name.startswith(_RESENT):
            self._seen.add(name if name[len(_RESENT) :] in _COUNTED else _RESENT)
        if name in self._rules.drop:
            return False
        if name == b"received":
            self._hops += 1
            if self._hops == self._rules.hop_limit:
                self._log.warning(PROGRAM, f"{self._id}: message rejected: hopcount exceeded")
                self._refuse(Rejected(554, "5.4.0", "Error: too many hops"))
        elif name in _NOTED:
            self._note(name, field.value)
        elif self._context and name in _ADDRESS_FIELDS:
            return True
        self._put(field.raw)
        return False

    async def _take_addresses(self, field: Field) -> None:
        label, _, value = field.raw.partition(b":")
        value = value.lstrip().removesuffix(b"\n")  # blanks at the end may be in a quotation that is never closed
        new = await self._rewriting.header(_ADDRESS_FIELDS[field.name], value, self._context)
        self._put(field.raw if new is value else b"%s: %s\n" % (label, new))

    def _put(self, raw: bytes) -> None:
        if len(raw) > self._rules.field_limit:
            raw = raw.removesuffix(b"\n")[: self._rules.field_limit] + b"\n"
        if self._detect_utf8 and not raw.isascii():
            self._envelope.smtputf8 = True
        self._out.append(raw)

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"content-type":
            self.has_parts = value[:7].lower() in (b"multipa", b"message")
            return
        if name == b"content-transfer-encoding":
            if self._rules.believe_encoding and value.lower() in _EIGHT_BIT:
                self._envelope.encoding = "8bit"
            return
        shown = printable(value[:LONGEST_ID].decode("utf-8", "replace"))
        if name == b"message-id":
            self._envelope.message_id = shown
        self._log.info(PROGRAM, f"{self._id}: {name.decode()}={shown}")

    def _add_missing(self) -> None:
        resent = is_resent(self._seen)
        made = ""
        if self._context or self._rules.always_add:
            lines, made = missing_fields(
                self._seen,
                self._envelope,
                self._id,
                host=self._rules.host,
                style=self._rules.from_format,
                charset=self._rules.name_charset,
                no_recipient=self._rules.no_recipient,
            )
            self._out += lines
            if made:
                self._log.info(PROGRAM, f"{self._id}: {'resent-' if resent else ''}message-id={made}")
                if not resent:
                    self._envelope.message_id = made
        if b"message-id" not in self._seen and (resent or not made):
            self._log.info(PROGRAM, f"{self._id}: message-id=<>")


def _first_lines(raw: bytes, limit: int) -> bytes:
    """A field without the lines that begin behind the limit (header_size_limit), and without what follows a NUL:
    programs written in C end there.  What is left is cut at the limit when its addresses have been rewritten."""
    end = raw.find(b"\n", limit)
    return raw[: min(end, limit + LONGEST_LINE)].removesuffix(b"\n").partition(b"\0")[0] + b"\n"
