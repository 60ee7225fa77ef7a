"""Who is told what became of a message: the sender, the postmaster, or nobody; bounce(8), RFC 3461 5 and 6.

Each call returns when its notices are durable in the spool (they go through cleanup like all mail), and raises when
they could not be queued, so that the caller keeps the message and tries again.

    bounce      the sender gets a non-delivery notice, unless NOTIFY says otherwise; with notify_classes = bounce the
                postmaster a copy.  Mail without a sender goes to 2bounce_notice_recipient, with notify_classes =
                2bounce or bounce.  With VERP there is a notice for each recipient, unless disable_verp_bounces = yes.
                Mail from double_bounce_sender, which all mail to the postmaster has, is dropped:
                there is nobody left to tell.
    delayed     a warning, with notify_classes = delay also to the postmaster
    success     for NOTIFY=SUCCESS; with confirm_delay_cleared for whom a delay had been told, too
    verify      the report of sendmail -v and -bv
    refused     a non-delivery notice for what never got into the spool
    session     the transcript of an SMTP session with errors, for the postmaster; client_session, of one that we began

The message comes back whole, or only its header: with RET=HDRS, or if it is larger than bounce_size_limit.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import BinaryIO

from twisted.internet.interfaces import IReactorTime

from gateway.addresses.verp import verp_sender
from gateway.clock import time_of_day
from gateway.config import Settings
from gateway.content.dates import mail_date
from gateway.content.header_scan import end_of_header
from gateway.content.options import INTERNAL
from gateway.content.received import local_received
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    EXPANDED,
    SENT,
    Attachment,
    Content,
    Entry,
    ICleanup,
    IContentSource,
    Log,
    Rejected,
    Result,
)
from gateway.notices import report
from gateway.notices.report import Fact, Notice
from gateway.notices.templates import load_templates
from gateway.scheduler.report import delivery_line
from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_SUCCESS,
    Envelope,
    Recipient,
    expanded_recipients,
)
from spool.interfaces import RecipientState, SpoolError

PROGRAM = "bounce"

BLOCK = 65536
LONGEST_HEADER = 1024 * 1024

_NO_TOKEN = re.compile(r"[^0-9A-Za-z-]")

Original = Callable[[], Awaitable[Content]]
"""Opens the message that a notice is about.  Raises SpoolError."""

_WELL = frozenset((SENT, EXPANDED))
_ACTIONS = {DEFERRED: "delayed", BOUNCED: "failed"}
"""What the other statuses are in a report; DELIVERABLE and UNDELIVERABLE are the same there."""


class Notices:
    """Provides what the scheduler needs for its notices; see the module."""

    def __init__(
        self, settings: Settings, cleanup: ICleanup, spool: IContentSource, log: Log, clock: IReactorTime
    ) -> None:
        self._cleanup = cleanup
        self._spool = spool
        self._log = log
        self._clock = clock
        self._templates = load_templates(settings, log)
        self._host = settings.text("myhostname")
        self._mail_name = settings.text("mail_name")
        self._label = _NO_TOKEN.sub("-", self._mail_name)
        origin = settings.text("myorigin")
        self._null_address = f"MAILER-DAEMON@{origin}"
        self._double_bounce = f"{settings.text('double_bounce_sender')}@{origin}"
        self._classes = frozenset(settings.words("notify_classes"))
        self._size_limit = settings.number("bounce_size_limit")
        self._lifetime = settings.seconds("maximal_queue_lifetime")
        self._confirms = settings.flag("confirm_delay_cleared")
        self._verp_bounces = not settings.flag("disable_verp_bounces")
        self.on_probe: Callable[[Entry], bool] = lambda entry: False
        """Told of a message that only asks; True: nobody else needs to be."""
        self._threaded = settings.flag("enable_threaded_bounces")
        self._obsolete_from = settings.text("header_from_format") == "obsolete"
        self._sender = "Mail Delivery System <MAILER-DAEMON>"
        if self._obsolete_from:
            self._sender = "MAILER-DAEMON (Mail Delivery System)"
        self._recipients = {
            name: settings.text(f"{name}_notice_recipient") for name in ("bounce", "2bounce", "delay", "error")
        }

    # --- what the scheduler asks for -----------------------------------------------------------------------------

    async def bounce(self, entry: Entry, indexes: Sequence[int], attached: Sequence[Attachment] = ()) -> None:
        """``attached`` goes to the sender only."""
        by_reader: dict[str, list[Fact]] = {}
        for index in indexes:
            sender = self._return_path(entry.envelope, entry.envelope.recipients[index])
            for recipient, state in _parts(entry, [index]):
                if state.status not in _WELL:
                    reader = state.details.get("return_to", sender)
                    by_reader.setdefault(reader, []).append(self._fact(recipient, state, "failed"))
        for reader, facts in by_reader.items():
            await self._bounce(entry.id, entry.envelope, reader, facts, lambda: self._content(entry.id), attached)

    async def delayed(self, entry: Entry, indexes: Sequence[int]) -> None:
        sender = entry.envelope.sender
        if not sender or self._is_double_bounce(sender):
            return
        facts = [
            self._fact(recipient, state, "delayed")
            for recipient, state in _parts(entry, indexes) if state.status == DEFERRED
        ]
        wanted = [fact for fact in facts if _told_of_delay(fact.recipient)]
        until = entry.envelope.arrival + self._lifetime
        if wanted:
            notice = self._notice("delay", entry.id, entry.envelope, wanted)
            notice.retry_until = until
            await self._send(notice, "", lambda: self._content(entry.id), "sender delay notification", full=False)
        if "delay" in self._classes:
            copy = self._copy("delay", entry.id, entry.envelope, facts, self._recipients["delay"])
            copy.retry_until = until
            await self._send(
                copy, self._double_bounce, lambda: self._content(entry.id), "postmaster delay notification", full=False
            )

    async def success(self, entry: Entry, indexes: Sequence[int], attached: Sequence[Attachment] = ()) -> None:
        if entry.envelope.sender and not self._is_double_bounce(entry.envelope.sender):
            facts = [*self._told_of_success(entry, indexes), *self._expanded(entry.envelope)]
            await self._trace("success", entry, facts, attached)

    async def verify(self, entry: Entry, indexes: Sequence[int]) -> None:
        if self.on_probe(entry) or not entry.envelope.sender or self._is_double_bounce(entry.envelope.sender):
            return
        facts = [
            _via(self._fact(recipient, state, _traced_action(state)), state)
            for recipient, state in _parts(entry, indexes)
        ]
        await self._trace("verify", entry, [*facts, *self._expanded(entry.envelope)])

    async def refused(self, queue_id: str, envelope: Envelope, content: BinaryIO, why: Rejected) -> None:
        """Give back what cleanup did not take.  ``content`` stands at the message's first byte."""
        text = why.text.removeprefix("Error: ")
        now = time_of_day(self._clock)
        for recipient in envelope.recipients:
            result = Result(BOUNCED, why.dsn, text)
            line = delivery_line(
                queue_id, recipient, result, arrival=envelope.arrival, active=now, started=now, ended=now
            )
            self._log.info("cleanup", line)
        diagnostic = f"X-{self._label}; {text}"
        facts = [Fact(one, "failed", why.dsn, text, diagnostic=diagnostic) for one in envelope.recipients]

        async def original() -> Content:
            return _Opened(content, envelope.size)

        await self._bounce(queue_id, envelope, envelope.sender, facts, original)

    async def session(
        self, errors: AbstractSet[str], peer: str, transcript: Sequence[str], aborted: str = ""
    ) -> None:
        """Tell the postmaster of a session in which ``errors`` (classes: "policy", "protocol", "resource" …) came up.
        ``peer``: NAME[ADDRESS]; ``transcript``: lines with " In:  " or " Out: " in front; ``aborted``: why the session
        did not come to its end."""
        if not self._classes.isdisjoint(errors):
            end = ["", f"Session aborted, reason: {aborted}"] if aborted else [""]
            await self._transcript(f"SMTP server: errors from {peer}", [], transcript, end)

    async def client_session(self, errors: AbstractSet[str], peer: str, transcript: Sequence[str]) -> None:
        """The same for one with a server."""
        if not self._classes.isdisjoint(errors):
            begin = [f"Unexpected response from {peer}.", ""]
            await self._transcript(f"SMTP client: errors from {peer}", begin, transcript, [])

    async def _transcript(self, subject: str, begin: list[str], transcript: Sequence[str], end: list[str]) -> None:
        to = self._recipients["error"]
        lines = [
            f"From: {self._sender}",
            f"To: Postmaster <{to}>" if not self._obsolete_from else f"To: {to} (Postmaster)",
            f"Subject: {self._mail_name} {subject}",
            "",
            *begin,
            "Transcript of session follows.",
            "",
            *[f" {part}" for line in transcript for part in report.wrapped(line[1:])],
            *end,
            "",
            "For other details, see the local mail logfile",
        ]
        body = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        await self._submit(self._double_bounce, to, False, lambda boundary: iter([body]))

    # --- whom to tell --------------------------------------------------------------------------------------------

    async def _bounce(
        self, queue_id: str, envelope: Envelope, sender: str, facts: list[Fact], content: Original,
        attached: Sequence[Attachment] = (),
    ) -> None:
        """``sender``: of the mail, or a list's owner, who stands for him."""
        if self._is_double_bounce(sender):
            self._log.warning(PROGRAM, f"{queue_id}: undeliverable postmaster notification discarded")
            return
        if not sender:
            if not self._classes.isdisjoint(("bounce", "2bounce")):
                copy = self._copy("failure", queue_id, envelope, facts, self._recipients["2bounce"])
                what = "postmaster non-delivery notification"
                await self._send(copy, self._double_bounce, content, what, full=True)
            return
        wanted = [fact for fact in facts if not fact.recipient.notify or fact.recipient.notify & NOTIFY_FAILURE]
        if wanted:
            notice = self._notice("failure", queue_id, envelope, wanted, sender)
            notice.attached = attached
            full = envelope.ret != "HDRS"
            await self._send(notice, "", content, "sender non-delivery notification", full=full)
        if "bounce" in self._classes:
            copy = self._copy("failure", queue_id, envelope, facts, self._recipients["bounce"])
            what = "postmaster non-delivery notification"
            await self._send(copy, self._double_bounce, content, what, full=False)

    async def _trace(
        self, template: str, entry: Entry, facts: list[Fact], attached: Sequence[Attachment] = ()
    ) -> None:
        if facts:
            notice = self._notice(template, entry.id, entry.envelope, facts)
            notice.attached = attached
            what = "sender delivery status notification"
            await self._send(notice, "", lambda: self._content(entry.id), what, full=False)

    def _return_path(self, envelope: Envelope, recipient: Recipient) -> str:
        sender = envelope.sender
        if envelope.verp and self._verp_bounces and sender and not self._is_double_bounce(sender):
            return verp_sender(sender, envelope.verp, recipient)
        return sender

    def _is_double_bounce(self, sender: str) -> bool:
        return sender.lower() == self._double_bounce.lower()

    # --- facts ---------------------------------------------------------------------------------------------------

    def _fact(self, recipient: Recipient, state: RecipientState, action: str) -> Fact:
        details = state.details
        diagnostic = details.get("diagnostic", "")
        kind = details.get("diagnostic_type", "") if diagnostic else ""
        return Fact(
            recipient,
            action,
            state.dsn or "5.0.0",
            state.reason,
            remote=details.get("remote_mta", ""),
            diagnostic=f"{kind or f'X-{self._label}'}; {diagnostic or state.reason}",
        )

    def _told_of_success(self, entry: Entry, indexes: Sequence[int]) -> Iterator[Fact]:
        """Success is told where the message left the world of DSN (RFC 3461 5.2.2): there the transport has put
        down an action; a next hop that took the request over tells it itself ("passed")."""
        cleared = self._confirms and entry.envelope.warned
        for recipient, state in _parts(entry, indexes):
            action = state.details.get("action") or "relayed"
            asked = recipient.notify & NOTIFY_SUCCESS and action != "passed"
            if state.status in _WELL and (asked or (cleared and _told_of_delay(recipient))):
                yield _via(self._fact(recipient, state, _traced_action(state)), state)

    def _expanded(self, envelope: Envelope) -> list[Fact]:
        """Recipients in whose place a virtual alias has put others."""
        diagnostic = f"X-{self._label}; alias expanded"
        return [
            Fact(one, "expanded", "2.0.0", "alias expanded", diagnostic=diagnostic)
            for one in expanded_recipients(envelope)
        ]

    # --- notices -------------------------------------------------------------------------------------------------

    def _notice(
        self, template: str, queue_id: str, envelope: Envelope, facts: list[Fact], recipient: str = ""
    ) -> Notice:
        chosen = self._templates[template]
        return Notice(
            queue_id,
            envelope,
            facts,
            self._host,
            self._label,
            subject=chosen.subject,
            sender=chosen.sender or self._sender,
            recipient=recipient or envelope.sender,
            null_address=self._null_address,
            text=chosen.text,
            charset=chosen.charset,
            threaded=self._threaded,
        )

    def _copy(self, template: str, queue_id: str, envelope: Envelope, facts: list[Fact], recipient: str) -> Notice:
        """For the postmaster."""
        notice = self._notice(template, queue_id, envelope, facts)
        subject = self._templates[template].postmaster_subject
        return replace(notice, subject=subject, recipient=recipient, text="", automatic="auto-generated")

    async def _send(
        self, notice: Notice, sender: str, content: Original, what: str, *, full: bool
    ) -> None:
        original: Content | None = None
        try:
            original = await content()
        except SpoolError as error:
            self._log.warning(PROGRAM, f"{notice.queue_id}: the message cannot be returned: {error}")

        def parts(boundary: str) -> Iterator[bytes]:
            yield report.header(notice, boundary)
            yield report.text_part(notice, boundary)
            yield report.status_part(notice, boundary)
            if original is not None:
                yield from self._returned(notice, boundary, original, full)
            yield report.end(boundary)

        try:
            new_id = await self._submit(sender, notice.recipient, notice.envelope.smtputf8, parts)
        finally:
            if original is not None:
                original.close()
        self._log.info(PROGRAM, f"{notice.queue_id}: {what}: {new_id}")

    def _returned(self, notice: Notice, boundary: str, original: Content, full: bool) -> Iterator[bytes]:
        full = full and (not self._size_limit or original.size <= self._size_limit)
        yield report.original_start(notice, boundary, full)
        if not full:
            yield _header_of(original)
            return
        while block := original.read(BLOCK):
            yield block

    async def _submit(
        self, sender: str, recipient: str, smtputf8: bool, parts: Callable[[str], Iterator[bytes]]
    ) -> str:
        """Queue a message; its queue ID.  Rejected and SpoolError pass through."""
        now = time_of_day(self._clock)
        envelope = Envelope(sender, [Recipient(recipient)], arrival=now, smtputf8=smtputf8)
        received = local_received(self._host, self._mail_name, now)
        options = replace(INTERNAL, internal_class="notify" if sender else "bounce")
        intake = await self._cleanup.begin(PROGRAM, envelope, received, options)
        try:
            intake.write(f"Date: {mail_date(now)}\n".encode())
            for block in parts(f"{intake.id}.{int(now)}/{self._host}"):
                intake.write(block)
            return str(await intake.finish())
        except BaseException:
            intake.abort()
            raise

    async def _content(self, queue_id: str) -> Content:
        return await self._spool.content(queue_id)


def _parts(entry: Entry, indexes: Sequence[int]) -> Iterator[tuple[Recipient, RecipientState]]:
    """All that became of these recipients: of themselves, or of those who stand in their place."""
    for index in indexes:
        recipient, state = entry.envelope.recipients[index], entry.states[index]
        for part in (state, *state.others):
            yield part.recipient or recipient, part


def _told_of_delay(recipient: Recipient) -> bool:
    return not recipient.notify or bool(recipient.notify & NOTIFY_DELAY)


def _traced_action(state: RecipientState) -> str:
    if state.status in _WELL:
        action = state.details.get("action") or "relayed"
        return "relayed" if action == "passed" else action
    return _ACTIONS.get(state.status, state.status)


def _via(fact: Fact, state: RecipientState) -> Fact:
    """As a report on deliveries has it: with the way that the message went, if it went any."""
    if state.relay in ("", "none"):
        return fact
    fact.reason = f"delivery via {state.relay}: {fact.reason}"
    if fact.diagnostic.startswith("X-") and not state.details.get("diagnostic_type"):
        fact.diagnostic = f"{fact.diagnostic.partition('; ')[0]}; {fact.reason}"
    return fact


def _header_of(original: Content) -> bytes:
    """Of one that is longer than LONGEST_HEADER, the lines that are not."""
    data = original.read(LONGEST_HEADER)
    header = data[: end_of_header(data)]
    return header[: header.rfind(b"\n") + 1]


class _Opened:
    """A file whose message begins where it stands, as Content.  Closing it is left to whoever opened it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self.offset = file.tell()
        self._file = file

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    def seek(self, position: int) -> None:
        self._file.seek(self.offset + position)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        pass
