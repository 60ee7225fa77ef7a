"""$name in replies: the facts of a session that rbl_reply_maps, default_rbl_reply and smtpd_reject_footer may name.

Parameters of main.cf are not among them, so that no reply tells what is inside.  What comes from outside passes
smtpd_expansion_filter: other characters become "_".  A name that there is not is a warning.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from gateway.addresses.syntax import unquote
from gateway.config import Settings
from gateway.config.expand import ExpandError, expand
from gateway.interfaces import Log
from gateway.policy.session import Session

_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|(.))", re.DOTALL)
_SPECIAL = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_FACTS: Mapping[str, Callable[[Session], str]] = {
    "client": lambda session: session.client,
    "client_address": lambda session: session.client_address,
    "client_name": lambda session: session.client_name,
    "client_port": lambda session: session.client_port,
    "reverse_client_name": lambda session: session.reverse_name,
    "helo_name": lambda session: session.helo or "",
    "sender": lambda session: _whole(session.sender),
    "sender_name": lambda session: _name(session.sender),
    "sender_domain": lambda session: _domain(session.sender),
    "recipient": lambda session: _whole(session.recipient),
    "recipient_name": lambda session: _name(session.recipient),
    "recipient_domain": lambda session: _domain(session.recipient),
}


def _whole(address: str | None) -> str:
    return "" if address is None else unquote(address) or "<>"


def _name(address: str | None) -> str:
    inner = unquote(address or "")
    return "" if address is None else (inner.rpartition("@")[0] if "@" in inner else inner) or "<>"


def _domain(address: str | None) -> str:
    inner = unquote(address or "")
    return inner.rpartition("@")[2] if "@" in inner else ""


class Macros:
    """What the replies of one service may name."""

    def __init__(self, settings: Settings, log: Log, program: str) -> None:
        self._hostname = settings.text("myhostname")
        allowed = _ESCAPE.sub(_unescaped, settings.raw("smtpd_expansion_filter"))
        self._forbidden = re.compile(f"[^{re.escape(allowed)}]") if allowed else None
        self._log = log
        self._program = program

    def expand(
        self, template: str, session: Session, now: float, more: Mapping[str, str] | None = None, strict: bool = False
    ) -> str:
        """``more``: names that are known beside those of the session.  Raises ExpandError, for an unknown name only if
        it is ``strict``."""
        unknown: list[str] = []

        def value(name: str) -> str | None:
            found = self._value(name, session, more or {}, now)
            if found is None:
                self._log.warning(self._program, f'unknown macro name "{name}" in expansion request')
                unknown.append(name)
                return None
            return found if self._forbidden is None else self._forbidden.sub(_underscores, found)

        text = expand(template, value)
        if unknown and strict:
            raise ExpandError(f"there is no ${unknown[0]}")
        return text

    def _value(self, name: str, session: Session, more: Mapping[str, str], now: float) -> str | None:
        if name in more:
            return more[name]
        if name == "server_name":
            return self._hostname
        if name == "localtime":
            return time.strftime("%b %d %H:%M:%S", time.localtime(now))
        fact = _FACTS.get(name)
        return fact(session) if fact is not None else None


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 8) & 0xFF) if match[1] else _SPECIAL.get(match[2], match[2])


def _underscores(match: re.Match[str]) -> str:
    """One for each byte."""
    return "_" * len(match[0].encode("utf-8", "surrogateescape"))
