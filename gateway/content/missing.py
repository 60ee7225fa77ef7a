"""Header fields that cleanup(8) adds when they are missing: Message-Id, Date, From, To; RFC 5322 3.6, 3.6.6.

Fields of a message that was sent again (it has a Resent- field) get the prefix "Resent-".
"""

from __future__ import annotations

import re
import time

from gateway.content.dates import mail_date
from spool.envelope import Envelope

MAILER_DAEMON = "MAILER-DAEMON"

_PHRASE_NEEDS_QUOTES = re.compile(r'[%!()<>@,;:\\".\[\]]')
_TO_ESCAPE = re.compile(r'(["\\])')
_COMMENT_TO_ESCAPE = re.compile(r"([()\\])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def message_id(queue_id: str, moment: float, host: str) -> str:
    """<YYYYMMDDhhmmss.QUEUEID@HOST>, the time in UTC."""
    return f"<{time.strftime('%Y%m%d%H%M%S', time.gmtime(moment))}.{queue_id}@{host}>"


def from_value(envelope: Envelope, style: str) -> str:
    """The value of a From field for the envelope sender; ``style`` is header_from_format.

    An envelope address may hold a quoted local part, which is valid in a header as it is (RFC 5322 3.4.1).
    """
    if not envelope.sender:
        return MAILER_DAEMON
    address = envelope.sender
    name = _CONTROLS.sub(" ", envelope.full_name).strip()
    if not name:
        return address
    if style == "obsolete":
        return f"{address} ({_COMMENT_TO_ESCAPE.sub(_backslash, name)})"
    if _PHRASE_NEEDS_QUOTES.search(name):
        name = f'"{_TO_ESCAPE.sub(_backslash, name)}"'
    return f"{name} <{address}>"


def _backslash(match: re.Match[str]) -> str:
    return "\\" + match[1]


def is_resent(seen: set[bytes]) -> bool:
    """Whether the message was sent again: it has a Resent- field."""
    return b"\nresent-" in b"\n" + b"\n".join(seen)


def missing_fields(
    seen: set[bytes], envelope: Envelope, queue_id: str, *, host: str, style: str, no_recipient: str
) -> tuple[list[bytes], str]:
    """The fields to put behind a header that has the fields ``seen`` (lower case), and the message ID made, or "".

    ``no_recipient`` is undisclosed_recipients_header.
    """
    resent = is_resent(seen)
    prefix, lower = ("Resent-", b"resent-") if resent else ("", b"")
    lines: list[str] = []
    made = ""
    if lower + b"message-id" not in seen:
        made = message_id(queue_id, envelope.arrival, host)
        lines.append(f"{prefix}Message-Id: {made}")
    if lower + b"date" not in seen:
        lines.append(f"{prefix}Date: {mail_date(envelope.arrival)}")
    if lower + b"from" not in seen:
        lines.append(f"{prefix}From: {from_value(envelope, style)}")
    if no_recipient and seen.isdisjoint((b"to", b"cc", b"resent-to", b"resent-cc")):
        lines.append(no_recipient)
    return [line.encode("utf-8", "surrogateescape") + b"\n" for line in lines], made
