"""What an attempt says about a recipient, before it is known whether it is the last word; and Postfix's wording.

``Verdict.sent`` is success.  A verdict with a 4xx code may be followed by another attempt at another host; see
transports.smtp.delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from transports.smtp.replies import Reply


class Stage(NamedTuple):
    """A step of the dialogue: how a failure in it is worded, and the name of its time limit in options.Times."""

    doing: str
    command: str
    time: str


GREETING = Stage("receiving the initial server greeting", "greeting", "helo")
EHLO = Stage("performing the EHLO handshake", "EHLO command", "helo")
HELO = Stage("performing the HELO handshake", "HELO command", "helo")
LHLO = Stage("performing the LHLO handshake", "LHLO command", "helo")
STARTTLS = Stage("receiving the STARTTLS response", "STARTTLS command", "starttls")
TLS = Stage("performing the TLS handshake", "TLS handshake", "starttls")
XFORWARD = Stage("sending XFORWARD name/address", "XFORWARD name/address command", "xforward")
MAIL = Stage("sending MAIL FROM", "MAIL FROM command", "mail")
RCPT = Stage("sending RCPT TO", "RCPT TO command", "rcpt")
DATA = Stage("sending DATA command", "DATA command", "data_init")
BODY = Stage("sending message body", "end of DATA command", "data_xfer")
DOT = Stage("sending end of data -- message may be sent more than once", "end of DATA command", "data_done")
RSET = Stage("sending final RSET", "final RSET command", "rset")
QUIT = Stage("sending QUIT", "QUIT command", "quit")


@dataclass(slots=True)
class Verdict:
    dsn: str
    reason: str
    reply: str = ""
    """What the server said, for a notice; "" = the failure is our own observation."""
    site: bool = False
    """The host as a whole failed, not this message or recipient."""
    host: str = ""
    """Who said so."""

    @property
    def sent(self) -> bool:
        return self.dsn[0] == "2"

    @property
    def temporary(self) -> bool:
        return self.dsn[0] == "4"


@dataclass(slots=True)
class Outcome:
    """A transaction's end.  ``verdicts`` runs parallel to its recipients; None = ``failure`` holds for it."""

    verdicts: list[Verdict | None]
    failure: Verdict | None = None
    stale: bool = False
    """A session that was used before turned out to be gone before anything was accepted: try a new one."""
    handed_on_dsn: bool = field(default=False)
    """The server has taken over the duty to send delivery status notifications (RFC 3461)."""


def said(reply: Reply, host: str, named: str, stage: Stage) -> Verdict:
    """The server's answer to a command is no."""
    text = reply.text
    words = f"host {named} said: {text} (in reply to {stage.command})"
    if reply.good:
        return Verdict("5.5.0", f"Protocol error: {words}", text, host=host)
    return Verdict(reply.dsn, words, text, host=host)


def refused(reply: Reply, host: str, named: str, *, soften: bool = False) -> Verdict:
    """The server won't talk to us.  ``soften``: a 5xx counts as 4xx (smtp_skip_5xx_greeting)."""
    dsn = reply.dsn
    if soften and reply.code >= 500:
        dsn = "4" + dsn[1:]
    return Verdict(dsn, f"host {named} refused to talk to me: {reply.text}", reply.text, site=True, host=host)


LOST = "4.4.2"


def lost(named: str, stage: Stage) -> Verdict:
    return Verdict(LOST, f"lost connection with {named} while {stage.doing}", site=True)


def timed_out(named: str, stage: Stage) -> Verdict:
    return Verdict(LOST, f"conversation with {named} timed out while {stage.doing}", site=True)


def breach(named: str, stage: Stage, what: str) -> Verdict:
    """Something came that is no reply, or that nobody asked for."""
    return Verdict("4.5.0", f"Protocol error: host {named} said: {what} (while {stage.doing})", site=True)
