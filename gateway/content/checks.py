"""Header and body checks: the actions of header_checks(5), looked up line by line while cleanup passes a message on.

A table's answer is an action with an argument: REJECT, DISCARD, HOLD, FILTER, REDIRECT, PREPEND, REPLACE, STRIP,
IGNORE, BCC, WARN, INFO, DUNNO, OK.  What is done, and to what line, goes to the log with the client and envelope:

    QID: reject: header Subject: x from localhost[127.0.0.1]; from=<a@b> to=<c@d> proto=ESMTP helo=<e>: 5.7.1 no

A header is looked up as one logical line, folded lines joined by LF; a body line without its LF, and only within the
first body_checks_size_limit bytes.  TableError passes through: the message is not accepted now.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses.basis import Tables
from gateway.config import Settings
from gateway.content.header_scan import is_field
from gateway.interfaces import Log, Rejected
from spool.envelope import Envelope

PROGRAM = "cleanup"
SHOWN = 200  # bytes of a line that stand in the log

_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_DESTINATION = re.compile(r"[^\s:]+:")

Lookup = Callable[[str], Awaitable[str | None]]


@dataclass(slots=True)
class Checks:
    """The tables, each as a look-up, or None; ``body_limit`` is body_checks_size_limit."""

    header: Lookup | None = None
    body: Lookup | None = None
    body_limit: int = 51200

    @classmethod
    def of(cls, settings: Settings, tables: Tables) -> Checks | None:
        """What header_checks and body_checks say; None if they say nothing."""

        def lookup(parameter: str) -> Lookup | None:
            maps = tables.maps(settings.words(parameter), settings, title=parameter, program=PROGRAM)
            if not maps:
                return None

            async def find(line: str) -> str | None:
                match = await maps.find(line)
                return match.value if match else None

            return find

        checks = cls(lookup("header_checks"), lookup("body_checks"), settings.number("body_checks_size_limit"))
        return checks if checks.header or checks.body else None


class Message(Protocol):
    """What an action may change of the message that is checked."""

    id: str
    envelope: Envelope
    hold: bool
    discard: bool
    copies: list[str]


@dataclass(slots=True)
class Checker:
    """The checks of one message.  Lines come back as what is to be written instead: [] takes them out."""

    checks: Checks
    message: Message
    log: Log
    _body_seen: int = 0

    async def header(self, raw: bytes) -> list[bytes]:
        if self.checks.header is None:
            return [raw]
        return await self._look_up(self.checks.header, raw, "header")

    async def body(self, line: bytes) -> list[bytes]:
        if self.checks.body is None or self._body_seen >= self.checks.body_limit:
            return [line]
        self._body_seen += len(line)
        return await self._look_up(self.checks.body, line, "body")

    async def _look_up(self, lookup: Lookup, raw: bytes, where: str) -> list[bytes]:
        text = raw.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        answer = await lookup(text)
        if not answer:
            return [raw]
        word, _, argument = answer.strip().partition(" ")
        return self._act(word.upper(), argument.strip(), text, raw, where)

    def _act(self, action: str, argument: str, text: str, raw: bytes, where: str) -> list[bytes]:
        if action in ("DUNNO", "OK"):
            return [raw]
        if action == "IGNORE":
            return []
        if action == "STRIP":
            self._tell("strip", where, text, argument)
            return []
        if action in ("WARN", "INFO"):
            self._tell("warning" if action == "WARN" else "info", where, text, argument)
            return [raw]
        if action in ("PREPEND", "REPLACE"):
            return self._put(action, argument, text, raw, where)
        if action == "REJECT":
            status = _STATUS.match(argument)
            dsn = status[1] if status else "5.7.1"
            reason = (argument[status.end():] if status else argument) or "message content rejected"
            self._tell("reject", where, text, f"{dsn} {reason}")
            raise Rejected(550 if dsn.startswith("5") else 450, dsn, reason)
        return self._redirect(action, argument, text, raw, where)

    def _put(self, action: str, argument: str, text: str, raw: bytes, where: str) -> list[bytes]:
        new = argument.encode("utf-8", "surrogateescape") + b"\n"
        if not argument:
            self.log.warning(PROGRAM, f"{action} action without text in {where}_checks map")
            return [raw]
        if where == "header" and not is_field(new):
            self.log.warning(PROGRAM, f"{action} action with bad {where} text in {where}_checks map: {argument}")
            return [raw]
        self._tell(action.lower(), where, text, argument)
        return [new, raw] if action == "PREPEND" else [new]

    def _redirect(self, action: str, argument: str, text: str, raw: bytes, where: str) -> list[bytes]:
        message = self.message
        if action == "DISCARD":
            message.discard = True
        elif action == "HOLD":
            message.hold = True
        elif action == "FILTER" and _DESTINATION.match(argument):
            message.envelope.content_filter = argument
        elif action == "REDIRECT" and "@" in argument:
            message.envelope.redirect = argument
        elif action == "BCC" and "@" in argument:
            message.copies.append(argument)
        else:
            known = action in ("FILTER", "REDIRECT", "BCC")
            what = f"bad argument of {action} action: {argument}" if known else f"unsupported command: {action}"
            self.log.warning(PROGRAM, f"{message.id}: {what} in {where}_checks map")
            return [raw]
        self._tell(action.lower(), where, text, argument)
        return [raw]

    def _tell(self, action: str, where: str, text: str, argument: str) -> None:
        envelope = self.message.envelope
        client = envelope.client
        origin = f"{client.name}[{client.address}]" if client.name else "local"
        to = f" to=<{envelope.recipients[-1].address}>" if envelope.recipients else ""
        proto = f" proto={client.protocol}" if client.protocol else ""
        helo = f" helo=<{client.helo}>" if client.helo else ""
        what = f"{action}: {where} {text[:SHOWN]} from {origin}"
        line = f"{self.message.id}: {what}; from=<{envelope.sender}>{to}{proto}{helo}"
        self.log.info(PROGRAM, f"{line}: {argument}" if argument else line)
