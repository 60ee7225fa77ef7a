"""check_*_access: look-ups in access tables, and the actions that they answer with; access(5).

What is asked for, in this order: for a host name the name and its parent domains, for an address of a host the address
and its networks (by octets, or by groups of IPv6), for a mail address user+ext@domain, user@domain, the domain and its
parents, user+ext@, user@.  Tables of patterns (``whole_keys``) are asked for the first key of each kind only.  A table
that does not answer gives 451 4.3.5, as with Postfix.

An answer is an action word, a reply, "OK" or a number to permit, or a list of restrictions, which is compiled once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence

from gateway.addresses.syntax import Extensions, is_numeric, unquote
from gateway.config.settings import split_words
from gateway.interfaces import ILookupTable, IRestriction, TableError
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM, Item
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, compile_list, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import (
    DUNNO,
    PERMIT,
    Outcome,
    Verdict,
    act,
    defer_if_permit,
    defer_if_reject,
    misconfigured,
    refuse,
    then,
)

_DSN = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
_CODE = re.compile(r"[45]\d\d\Z", re.ASCII)
_HEADER = re.compile(r"[!-9;-~]+[ \t]*:")
_MOST_LISTS = 1000

_DSN_OF_SENDER = {"1.1": "1.0", "1.2": "1.8", "1.3": "1.7", "1.4": "1.0", "1.5": "1.0", "1.6": "1.0"}
_DSN_OF_RECIPIENT = {"1.7": "1.3", "1.8": "1.2"}


class Access:
    """One access table in one place: ``default`` is the restriction that it was named by, for lists in the table."""

    def __init__(self, tools: Toolbox, spec: str, default: str) -> None:
        settings = tools.settings
        self.tools = tools
        self.spec = spec
        self.table: ILookupTable = tools.tables.open(spec, settings)
        self._default = default
        self._dot = "" if "smtpd_access_maps" in settings.words("parent_domain_matches_subdomains") else "."
        self._extensions = Extensions.of(settings)
        self._reject_code = settings.number("access_map_reject_code")
        self._defer_code = settings.number("access_map_defer_code")
        self._untrusted = settings.flag("allow_untrusted_routing")
        self._null_key = settings.text("smtpd_null_access_lookup_key")
        self._lists: dict[str, Sequence[Item] | None] = {}

    # --- what is asked for ---------------------------------------------------------------------------------------

    async def client(self, session: Session, name: str, address: str, subject: str, kind: str) -> Verdict:
        found = await self._first(session, self._domains(name), subject, kind)
        if found is None:
            found = await self._first(session, self._networks(address), subject, kind)
        return found or DUNNO

    async def domain(self, session: Session, name: str, kind: str, subject: str | None = None) -> Verdict:
        """``subject``: what the reply names if it is not the domain."""
        return await self._first(session, self._domains(name), name if subject is None else subject, kind) or DUNNO

    async def network(self, session: Session, address: str, kind: str, subject: str) -> Verdict:
        return await self._first(session, self._networks(address), subject, kind) or DUNNO

    async def word(self, session: Session, word: str, kind: str) -> Verdict:
        """A key without parts."""
        return await self._first(session, iter(((word, True),)), word, kind) or DUNNO

    async def null_sender(self, session: Session) -> Verdict:
        return await self._first(session, iter(((self._null_key, True),)), "", facts.SENDER) or DUNNO

    async def mail_address(self, session: Session, address: str, kind: str) -> Verdict:
        destination = await self.tools.destination(session, address)
        if "@" not in destination.address:
            return DUNNO
        subject = unquote(address)
        found = await self._first(session, self._addresses(destination.address), subject, kind) or DUNNO
        permitted = found.outcome is Outcome.PERMIT
        if permitted and kind == facts.RECIPIENT and destination.routed and not self._untrusted:
            return DUNNO
        return found

    def _domains(self, name: str) -> Iterator[tuple[str, bool]]:
        yield name, True
        yield from self._parents(name)

    def _parents(self, name: str) -> Iterator[tuple[str, bool]]:
        if is_numeric(name) or name.startswith("["):
            return
        while True:
            _, more, name = name.partition(".")
            if not more:
                return
            if name:
                yield self._dot + name, False

    @staticmethod
    def _networks(address: str) -> Iterator[tuple[str, bool]]:
        yield address, True
        separator = ":" if ":" in address else "."
        while separator in address:
            address = address.rpartition(separator)[0]
            if address.strip(separator):
                yield address, False

    def _addresses(self, address: str) -> Iterator[tuple[str, bool]]:
        local, _, domain = address.rpartition("@")
        user, extension = self._extensions.split(local)
        yield address, True
        if extension:
            yield f"{user}@{domain}", False
        yield domain, False
        yield from self._parents(domain)
        yield f"{local}@", False
        if extension:
            yield f"{user}@", False

    async def _first(
        self, session: Session, keys: Iterator[tuple[str, bool]], subject: str, kind: str
    ) -> Verdict | None:
        """The verdict on the first key that the table knows; None: it knows none."""
        table = self.table
        for key, whole in keys:
            if not key or (table.whole_keys and not whole):
                continue
            try:
                value = await table.lookup(key.lower() if table.folds_case else key)
            except TableError as error:
                self.tools.log.warning(PROGRAM, f"{self.spec}: table lookup problem: {error}")
                value = "451 4.3.5 Server configuration error"
            if value is not None:
                return self.verdict(session, value, key, subject, kind)
        return None

    # --- what is answered ----------------------------------------------------------------------------------------

    def verdict(self, session: Session, value: str, key: str, subject: str, kind: str) -> Verdict:
        """What a table's answer means for ``subject``, which is a ``kind``."""
        value = value.strip()
        word, text = (*value.split(None, 1), "", "")[:2]
        word = word.upper()
        if word == "DUNNO":
            return DUNNO
        if word in ("OK", "RELAY") or (value.isascii() and value.isdigit()):
            return PERMIT
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
        return self._list(value, key, subject, kind)

    @staticmethod
    def _reply(
        make: Callable[[int, str, str], Verdict], code: int, dsn: str, text: str, subject: str, kind: str
    ) -> Verdict:
        match = _DSN.match(text)
        if match:
            dsn, text = match[1], text[match.end() :] or "Access denied"
        detail = dsn[2:]
        if kind == facts.SENDER:
            detail = _DSN_OF_SENDER.get(detail, detail)
        elif kind == facts.RECIPIENT:
            detail = _DSN_OF_RECIPIENT.get(detail, detail)
        elif detail.startswith("1."):
            detail = "0.0"
        return make(code, f"{dsn[:2]}{detail}", f"<{subject}>: {kind} rejected: {text}")

    def _action(self, session: Session, word: str, text: str, key: str, subject: str, kind: str) -> Verdict:
        entry = f'access table {self.spec} entry "{key}"'
        problem = ""
        if session.where in ("ETRN", "VRFY"):
            return DUNNO
        if word in ("FILTER", "PREPEND") and not text:
            problem = f"has {word} entry without value"
        elif word == "FILTER" and ":" not in text:
            problem = "requires transport:destination"
        elif word in ("REDIRECT", "BCC") and "@" not in text:
            problem = "requires user@domain target"
        elif word == "PREPEND" and not _HEADER.match(text):
            problem = "requires header: text"
        if problem:
            self.tools.log.warning(PROGRAM, f"{entry} {problem}")
            return DUNNO
        if word == "PREPEND":
            if session.where == "END-OF-MESSAGE":
                where = "smtpd_end_of_data_restrictions"
                text = f"access table {self.spec}: action PREPEND must be used before {where}"
                self.tools.log.warning(PROGRAM, text)
                return DUNNO
            return act("prepend", text)
        if word in ("HOLD", "DISCARD"):
            return act(word.lower(), text=f"<{subject}>: {kind} {text or f'triggers {word} action'}")
        return act(word.lower(), text, f"<{subject}>: {kind} triggers {word} {text}")

    def _list(self, value: str, key: str, subject: str, kind: str) -> Verdict:
        """The answer is a list of restrictions."""
        if value not in self._lists:
            if len(self._lists) >= _MOST_LISTS:
                self._lists.clear()
            self._lists[value] = self._compiled(value, key)
        items = self._lists[value]
        return misconfigured() if items is None else then(items, subject, kind)

    def _compiled(self, value: str, key: str) -> Sequence[Item] | None:
        try:
            words = split_words(value)
            if not words:
                raise RestrictionError(f'access table {self.spec} entry "{key}" has empty value')
            if any(":" in word for word in words):
                raise RestrictionError(f"access table {self.spec} has entry with lookup table: {value}")
            return compile_list(self.tools, words, self.spec, self._default)
        except (RestrictionError, ValueError) as error:
            self.tools.log.warning(PROGRAM, str(error))
            return None


_ACTIONS = frozenset(("FILTER", "HOLD", "DISCARD", "REDIRECT", "BCC", "PREPEND"))


# --- the restrictions ------------------------------------------------------------------------------------------

Ask = Callable[[Access, Session], Awaitable[Verdict]]


def _register(name: str, ask: Ask) -> None:
    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        spec = arguments.need(name, "a lookup table (type:name)")
        if ":" not in spec:
            raise RestrictionError(f'restriction {name}: bad argument "{spec}": need maptype:mapname')
        access = Access(tools, spec, name)

        async def check(session: Session) -> Verdict:
            return await ask(access, session)

        return Asking(f"{name} {spec}", check)


async def _client(access: Access, session: Session) -> Verdict:
    return await access.client(session, session.client_name, session.client_address, session.client, facts.CLIENT)


async def _reverse_client(access: Access, session: Session) -> Verdict:
    name = session.reverse_name
    found = await access.client(session, name, session.client_address, name, facts.REVERSE_CLIENT)
    # Anybody can claim any name for his address: it is good for refusing only.
    return DUNNO if found.outcome is Outcome.PERMIT else found


async def _helo(access: Access, session: Session) -> Verdict:
    return DUNNO if session.helo is None else await access.domain(session, session.helo, facts.HELO)


async def _sender(access: Access, session: Session) -> Verdict:
    if session.sender is None:
        return DUNNO
    if not session.sender:
        return await access.null_sender(session)
    return await access.mail_address(session, session.sender, facts.SENDER)


async def _recipient(access: Access, session: Session) -> Verdict:
    if not session.recipient:
        return DUNNO
    return await access.mail_address(session, session.recipient, facts.RECIPIENT)


async def _etrn(access: Access, session: Session) -> Verdict:
    return DUNNO if session.etrn_name is None else await access.domain(session, session.etrn_name, facts.ETRN)


async def _sasl(access: Access, session: Session) -> Verdict:
    name = session.sasl_username
    return await access.word(session, name, "SASL login name") if name else DUNNO


_register("check_client_access", _client)
_register("check_reverse_client_hostname_access", _reverse_client)
_register("check_helo_access", _helo)
_register("check_sender_access", _sender)
_register("check_recipient_access", _recipient)
_register("check_etrn_access", _etrn)
_register("check_sasl_access", _sasl)
