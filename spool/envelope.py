"""What travels with a message: who it is from and for, and where it came from.

Addresses are ``str``; bytes that are no UTF-8 are kept as surrogate escapes, so that
``address.encode("utf-8", "surrogateescape")`` gives back what came in.  They are in external
form (RFC 5321, quoted where necessary), without angle brackets; ``""`` is the null sender.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

# RFC 3461 4.1: the NOTIFY parameter, as bits; 0 = not given.
NOTIFY_NEVER, NOTIFY_SUCCESS, NOTIFY_FAILURE, NOTIFY_DELAY = 1, 2, 4, 8


@dataclass(slots=True)
class Recipient:
    """One recipient after expansion."""

    address: str
    original: str = ""
    """The recipient as it was before any rewriting or aliasing ("orig_to"); "" = not kept."""
    orcpt: str = ""
    """DSN original recipient "type;address", decoded (RFC 3461 4.2); "" = none."""
    notify: int = 0


@dataclass(slots=True)
class Client:
    """Where a message came from.  Values are printable and bounded (made so on entry)."""

    name: str = ""
    """Verified host name, or "unknown"."""
    address: str = ""
    port: str = ""
    reverse_name: str = ""
    helo: str = ""
    protocol: str = ""
    """SMTP or ESMTP."""
    ident: str = ""
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    rewrite_context: str = "local"
    """"local" or "remote": which header rewriting applies (local_header_rewrite_clients)."""


@dataclass(slots=True)
class Envelope:
    """Everything about a message that is not in the message."""

    sender: str
    recipients: list[Recipient] = field(default_factory=list)
    arrival: float = 0.0
    """Seconds since the epoch."""
    client: Client = field(default_factory=Client)
    full_name: str = ""
    """The submitting person's name, for a missing From: header."""
    eight_bit: bool = False
    """The content holds bytes ≥ 0x80: BODY=8BITMIME when sent on."""
    smtputf8: bool = False
    envid: str = ""
    """DSN envelope ID, decoded; "" = none."""
    ret: str = ""
    """DSN RET: "FULL", "HDRS" or ""."""
    verp: str = ""
    """VERP delimiters (XVERP), or ""."""
    content_filter: str = ""
    """"transport:nexthop" that every recipient goes to instead, or ""."""
    redirect: str = ""
    inspected: bool = False
    """Has been through content inspection, or is exempt from it."""
    trace: str = ""
    """"" = a real delivery; "verify" = sendmail -bv: report only; "record" = sendmail -v: deliver and report."""
    size: int = 0
    """Bytes of the message content in its stored form (LF line ends)."""
    message_id: str = ""
    """For the log; as it stands in the header, printable."""
    warned: bool = False
    """The sender has been told of the delay (delay_warning_time)."""
    expanded: str = ""
    """Recipients of whom success was to be told, and in whose place a virtual alias has put others; until the sender is
    told of that (see note_expanded)."""
    encoding: str = ""
    """MIME body encoding that was declared: "7bit", "8bit" or ""."""


def note_expanded(envelope: Envelope, recipient: Recipient) -> None:
    """Add to ``envelope.expanded``."""
    one = json.dumps([recipient.address, recipient.original, recipient.orcpt])
    # Put behind the others as text: they may be a thousand, and are not to be read for each.
    envelope.expanded = f"{envelope.expanded[:-1]}, {one}]" if envelope.expanded else f"[{one}]"


def expanded_recipients(envelope: Envelope) -> list[Recipient]:
    """Those in ``envelope.expanded``.  ValueError and TypeError for what is none."""
    known = json.loads(envelope.expanded) if envelope.expanded else []
    return [
        Recipient(str(address), str(original), str(orcpt), NOTIFY_SUCCESS) for address, original, orcpt in known
    ]
