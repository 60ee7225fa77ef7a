"""A notice as a message: multipart/report of a text, a machine-readable status, and the message or its header.

RFC 3462 and 6522 (multipart/report), RFC 3464 (delivery-status), RFC 3834 (Auto-Submitted), RFC 6533 (UTF-8 variants).
Values come from other hosts and from mail: each is one line of printable characters when it stands in a field.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.content.dates import mail_date
from gateway.interfaces import Attachment
from gateway.log import printable
from spool.envelope import Envelope, Recipient

WIDTH = 78
INDENT = "    "

_BREAKS = re.compile(r"(?<![ \t])[ \t]*[\r\n]+[ \t]*")
"""Begins with the first of several blanks, and with no other: else a run of them would be looked through from each."""


@dataclass(slots=True)
class Fact:
    """What is told of one recipient."""

    recipient: Recipient
    action: str
    """"failed", "delayed", "delivered", "relayed", "expanded", "deliverable", "undeliverable"."""
    status: str
    reason: str
    remote: str = ""
    """"dns; host"."""
    diagnostic: str = ""
    """"type; text"."""


@dataclass(slots=True)
class Notice:
    """What a notice is about and how it looks."""

    queue_id: str
    """Of the message that it is about."""
    envelope: Envelope
    facts: list[Fact]
    host: str
    label: str
    """The product's name, as a part of field names."""
    subject: str
    sender: str
    """The From field's value."""
    recipient: str
    null_address: str
    """What stands for the null sender where an address must be."""
    text: str = ""
    """"" for copies to the postmaster."""
    charset: str = "us-ascii"
    automatic: str = "auto-replied"
    retry_until: float = 0.0
    threaded: bool = False
    attached: Sequence[Attachment] = ()
    """Shown with the text."""


def header(notice: Notice, boundary: str) -> bytes:
    """The header, less Received, Date and Message-Id."""
    lines = [
        f"From: {notice.sender}",
        f"Subject: {notice.subject}",
        f"To: {_line(notice.recipient)}",
    ]
    if notice.threaded and notice.envelope.message_id:
        answered = _line(notice.envelope.message_id)
        lines += [f"References: {answered}", f"In-Reply-To: {answered}"]
    lines += [
        f"Auto-Submitted: {notice.automatic}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="{boundary}"',
        "Content-Transfer-Encoding: 8bit",
        "",
        "This is a MIME-encapsulated message.",
        "",
    ]
    return _bytes("\n".join(lines) + "\n")


def text_part(notice: Notice, boundary: str) -> bytes:
    """For people: what happened, and to which recipients.  With what is attached it is one part still, as RFC 6522
    has it."""
    charset = "utf-8" if notice.envelope.smtputf8 else notice.charset
    inner = f"text.{boundary}"
    lines = [f"--{boundary}", "Content-Description: Notification"]
    if notice.attached:
        lines += [f'Content-Type: multipart/mixed; boundary="{inner}"', "", f"--{inner}"]
    lines += [f"Content-Type: text/plain; charset={charset}", ""]
    if notice.text:
        lines += [notice.text.rstrip("\n"), ""]
    for fact in notice.facts:
        address, original = fact.recipient.address, fact.recipient.original
        expanded = f" (expanded from <{original}>)" if original and original.lower() != address.lower() else ""
        lines += [*wrapped(f"<{address}>{expanded}: {fact.reason}"), ""]
    for one in notice.attached:
        lines += [
            f"--{inner}", f'Content-Type: {one.type}; name="{one.name}"', "Content-Transfer-Encoding: base64",
            f'Content-Disposition: inline; filename="{one.name}"', "",
            *(one.data[at : at + WIDTH - 2] for at in range(0, len(one.data), WIDTH - 2)),
        ]
    if notice.attached:
        lines += [f"--{inner}--", ""]
    return _bytes("\n".join(lines) + "\n")


def status_part(notice: Notice, boundary: str) -> bytes:
    """For machines: RFC 3464 2."""
    envelope = notice.envelope
    kind = "message/global-delivery-status" if envelope.smtputf8 else "message/delivery-status"
    lines = [f"--{boundary}", "Content-Description: Delivery report", f"Content-Type: {kind}", ""]
    lines.append(f"Reporting-MTA: dns; {notice.host}")
    if envelope.envid:
        lines.append(f"Original-Envelope-Id: {_line(envelope.envid)}")
    lines.append(f"X-{notice.label}-Queue-ID: {notice.queue_id}")
    lines.append(f"X-{notice.label}-Sender: {_typed(envelope.sender or notice.null_address)}")
    if envelope.arrival:
        lines.append(f"Arrival-Date: {mail_date(envelope.arrival)}")
    for fact in notice.facts:
        lines += ["", *_recipient_fields(notice, fact)]
    return _bytes("\n".join(lines) + "\n\n")


def _recipient_fields(notice: Notice, fact: Fact) -> Iterator[str]:
    recipient = fact.recipient
    yield f"Final-Recipient: {_typed(recipient.address)}"
    if recipient.orcpt:
        yield f"Original-Recipient: {_line(recipient.orcpt)}"
    elif recipient.original and recipient.original != recipient.address:
        yield f"Original-Recipient: {_typed(recipient.original).replace('; ', ';', 1)}"
    yield f"Action: {fact.action}"
    yield f"Status: {fact.status}"
    if fact.remote:
        yield f"Remote-MTA: {_line(fact.remote)}"
    yield "\n".join(wrapped(f"Diagnostic-Code: {_line(fact.diagnostic)}"))
    if notice.retry_until:
        yield f"Will-Retry-Until: {mail_date(notice.retry_until)}"


def original_start(notice: Notice, boundary: str, full: bool) -> bytes:
    """The lines in front of the message or header that is returned."""
    if full:
        what = "Undelivered Message"
        kind = "message/global" if notice.envelope.smtputf8 else "message/rfc822"
    else:
        what = "Undelivered Message Headers"
        kind = "message/global-headers" if notice.envelope.smtputf8 else "text/rfc822-headers"
    lines = [
        f"--{boundary}",
        f"Content-Description: {what}",
        f"Content-Type: {kind}",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"Return-Path: <{_line(notice.envelope.sender or notice.null_address)}>",
    ]
    return _bytes("\n".join(lines) + "\n")


def end(boundary: str) -> bytes:
    return f"\n--{boundary}--\n".encode()


def _typed(address: str) -> str:
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {_line(address)}"


def _line(text: str) -> str:
    """One line that is safe in a header field; line breaks become blanks."""
    return printable(_BREAKS.sub(" ", text))


def wrapped(text: str, indent: str = INDENT) -> list[str]:
    """A paragraph in lines of 78 characters where it has blanks, all but the first indented."""
    return textwrap.wrap(
        _line(text), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
