"""What the answers of access tables and policy services mean: the actions of access(5).

An answer is an action word, a reply, "OK" or a number to permit, or a list of restrictions, which is compiled once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gateway.addresses.recipients import AS_RECIPIENT, AS_SENDER
from gateway.config.settings import split_words
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM, Item
from gateway.policy.registry import RestrictionError, Toolbox, compile_list
from gateway.policy.session import Session
from gateway.policy.verdict import (
    DUNNO,
    Verdict,
    act,
    defer_if_permit,
    defer_if_reject,
    misconfigured,
    permit,
    refuse,
    then,
)

_DSN = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
_CODE = re.compile(r"[45]\d\d\Z", re.ASCII)
_HEADER = re.compile(r"[!-9;-~]+[ \t]*:")
_MOST_LISTS = 1000

_ACTIONS = frozenset(("FILTER", "HOLD", "DISCARD", "REDIRECT", "BCC", "PREPEND"))


class Answers:
    """``spec``: who answers, for the log; ``default``: the restriction that a table in an answered list stands for."""

    def __init__(self, tools: Toolbox, spec: str, default: str = "") -> None:
        self.tools = tools
        self.spec = spec
        self._default = default
        self._reject_code = tools.settings.number("access_map_reject_code")
        self._defer_code = tools.settings.number("access_map_defer_code")
        self._filtered = bool(tools.settings.text("smtpd_proxy_filter"))
        self._lists: dict[str, Sequence[Item] | None] = {}

    def verdict(self, session: Session, value: str, key: str, subject: str, kind: str) -> Verdict:
        """What a table's answer means for ``subject``, which is a ``kind``."""
        value = value.strip()
        word, text = (*value.split(None, 1), "", "")[:2]
        word = word.upper()
        if word == "DUNNO":
            return DUNNO
        if word in ("OK", "RELAY") or (value.isascii() and value.isdigit()):
            return permit(value.split(None, 1)[0], f"from {self.spec}", subject, kind)
        if word == "REJECT":
            return self._reply(refuse, self._reject_code, "5.7.1", text or "Access denied", subject, kind)
        if word == "DEFER":
            return self._reply(refuse, self._defer_code, "4.7.1", text or "Access denied", subject, kind)
        if word == "DEFER_IF_PERMIT":
            text = text or "Service unavailable"
            return self._reply(defer_if_permit, self._defer_code, "4.7.1", text, subject, kind)
        if word == "DEFER_IF_REJECT":
            text = text or "Service unavailable"
            return self._reply(defer_if_reject, self._defer_code, "4.7.1", text, subject, kind)
        if word in ("WARN", "INFO"):
            return act(word.lower(), text=text)
        if text and _CODE.match(word):
            default = "4.7.1" if word[0] == "4" else "5.7.1"
            return self._reply(refuse, int(word), default, text, subject, kind)
        if word in _ACTIONS:
            return self._action(session, word, text, key, subject, kind)
        return self._list(value, subject, kind)

    def _reply(
        self, make: Callable[[int, str, str], Verdict], code: int, dsn: str, text: str, subject: str, kind: str
    ) -> Verdict:
        match = _DSN.match(text)
        if match:
            dsn, text = match[1], text[match.end() :] or "Access denied"
        detail = dsn[2:]
        if kind == facts.SENDER:
            detail = AS_SENDER.get(detail, detail)
        elif kind == facts.RECIPIENT:
            detail = AS_RECIPIENT.get(detail, detail)
        elif detail.startswith("1."):
            detail = "0.0"
        if detail != dsn[2:]:
            self.tools.log.info(PROGRAM, f"mapping DSN status {dsn} into {kind} status {dsn[:2]}{detail}")
        return make(code, f"{dsn[:2]}{detail}", f"<{subject}>: {kind} rejected: {text}")

    def _action(self, session: Session, word: str, text: str, key: str, subject: str, kind: str) -> Verdict:
        problem = self._out_of_place(session, word)
        if not problem:
            problem = _malformed(word, text)
            problem = problem and f' entry "{key}" {problem}'
        if problem:
            self.tools.log.warning(PROGRAM, f"access table {self.spec}{problem}")
            return DUNNO
        if word == "PREPEND":
            return act("prepend", text)
        if word in ("HOLD", "DISCARD"):
            return act(word.lower(), text=f"<{subject}>: {kind} {text or f'triggers {word} action'}")
        return act(word.lower(), text, f"<{subject}>: {kind} triggers {word} {text}")

    def _out_of_place(self, session: Session, word: str) -> str:
        """Why nothing can be done to a message here; "" if it can."""
        if word != "PREPEND" and self._filtered:
            return f": with smtpd_proxy_filter specified, action {word} is unavailable"
        if word != "PREPEND" and session.where == "ETRN":
            return f": action {word} is unavailable in smtpd_etrn_restrictions"
        if session.sender is None:
            where = f"{facts.CLIENT} or {facts.HELO}"
            return f": with smtpd_delay_reject=no, action {word} is always skipped in {where} restrictions"
        if word == "PREPEND" and session.where == "END-OF-MESSAGE":
            return ": action PREPEND must be used before smtpd_end_of_data_restrictions"
        return ""

    def _list(self, value: str, subject: str, kind: str) -> Verdict:
        """The answer is a list of restrictions."""
        if value not in self._lists:
            if len(self._lists) >= _MOST_LISTS:
                self._lists.clear()
            self._lists[value] = self._compiled(value)
        items = self._lists[value]
        return misconfigured() if items is None else then(items, subject, kind)

    def _compiled(self, value: str) -> Sequence[Item] | None:
        try:
            words = split_words(value)
            if not words:
                self.tools.log.warning(PROGRAM, f"access table {self.spec} entry {value} has empty value")
                return compile_list(self.tools, ["permit"], self.spec)
            if any(":" in word for word in words):
                self.tools.log.warning(PROGRAM, f"access table {self.spec} has entry with lookup table: {value}")
                self.tools.log.warning(PROGRAM, "do not specify lookup tables inside SMTPD access maps")
                raise RestrictionError("define a restriction class and specify its name instead.")
            return compile_list(self.tools, words, self.spec, self._default)
        except (RestrictionError, ValueError) as error:
            self.tools.log.warning(PROGRAM, str(error))
            return None


def _malformed(word: str, text: str) -> str:
    """What is wrong with the text of an action; "" if nothing is."""
    if word == "FILTER" and not text:
        return "has FILTER entry without value"
    if word == "FILTER" and ":" not in text:
        return "requires transport:destination"
    if word in ("REDIRECT", "BCC") and "@" not in text:
        return "requires user@domain target"
    if word == "PREPEND" and not _HEADER.match(text):
        return "requires header: text"
    return ""
