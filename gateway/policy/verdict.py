"""What a restriction answers.

DUNNO lets the next one decide, PERMIT ends the list, a refusal ends it with a reply, ``defer_if_permit`` and
``defer_if_reject`` are remembered, ``act`` does something to the message (HOLD, FILTER …) and goes on, and ``then``
lets another list decide (restriction classes, lists in access tables).  The evaluator carries it out.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Outcome(enum.Enum):
    DUNNO = enum.auto()
    PERMIT = enum.auto()
    REFUSE = enum.auto()
    DEFER_IF_PERMIT = enum.auto()
    DEFER_IF_REJECT = enum.auto()
    ACT = enum.auto()
    THEN = enum.auto()


@dataclass(slots=True, frozen=True)
class Verdict:
    outcome: Outcome
    code: int = 0
    dsn: str = ""
    text: str = ""
    """Of the reply, or of the log line of an action."""
    serious: bool = False
    """Our own trouble (configuration, tables): warn_if_reject does not make a warning of it."""
    action: str = ""
    """For ACT: hold, discard, filter, redirect, bcc, prepend, warn, info; for PERMIT: the answer that permits."""
    argument: str = ""
    items: Sequence[Any] = ()
    """For THEN: a compiled restriction list; ``subject`` and ``kind`` are what its replies, or the log, name."""
    subject: str = ""
    kind: str = ""

    @property
    def reply(self) -> str:
        """The reply's line: code, enhanced code of the same class, text; printable, at most 510 bytes."""
        reply = f"{self.code} {str(self.code)[0]}{self.dsn[1:]} {UNSAFE.sub(' ', self.text)}"
        if len(reply) <= LONGEST_REPLY and reply.isascii():
            return reply
        return reply.encode()[:LONGEST_REPLY].decode("utf-8", "ignore")


LONGEST_REPLY = 510
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What has no place in a reply …"""
UNSAFE_ASCII = re.compile(r"[^\x20-\x7e]")
"""… where SMTPUTF8 is off."""

DUNNO = Verdict(Outcome.DUNNO)
PERMIT = Verdict(Outcome.PERMIT)


def permit(action: str, text: str, subject: str, kind: str) -> Verdict:
    """PERMIT with what smtpd_log_access_permit_actions logs of it."""
    return Verdict(Outcome.PERMIT, text=text, action=action, subject=subject, kind=kind)


def refuse(code: int, dsn: str, text: str, *, serious: bool = False) -> Verdict:
    """A reply with a 4xx or 5xx code."""
    return Verdict(Outcome.REFUSE, code, dsn, text, serious)


def defer_if_permit(code: int, dsn: str, text: str) -> Verdict:
    return Verdict(Outcome.DEFER_IF_PERMIT, code, dsn, text)


def defer_if_reject(code: int, dsn: str, text: str) -> Verdict:
    return Verdict(Outcome.DEFER_IF_REJECT, code, dsn, text)


def act(action: str, argument: str = "", text: str = "") -> Verdict:
    return Verdict(Outcome.ACT, action=action, argument=argument, text=text)


def then(items: Sequence[Any], subject: str = "", kind: str = "") -> Verdict:
    return Verdict(Outcome.THEN, items=items, subject=subject, kind=kind)


def misconfigured() -> Verdict:
    """What a client is told when our configuration is at fault; the log says what it is."""
    return refuse(451, "4.3.5", "Server configuration error", serious=True)


def lookup_failed(subject: str) -> Verdict:
    return refuse(451, "4.3.0", f"<{subject}>: Temporary lookup failure", serious=True)
