"""check_*_access: look-ups in access tables; access(5).

What is asked for, in this order: for a host name the name and its parent domains, for an address of a host the address
and its networks (by octets, or by groups of IPv6), for a mail address (quoted where it has to be) user+ext@domain,
user@domain, the domain and its parents, user+ext@, user@.  Tables of patterns (``whole_keys``) are asked for the first
key of each kind only.  A table that does not answer gives 451 4.3.5, as with Postfix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from gateway.addresses.forms import quote
from gateway.addresses.syntax import Extensions, is_numeric, unquote
from gateway.interfaces import ILookupTable, IRestriction, TableError
from gateway.policy import session as facts
from gateway.policy.answers import Answers
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Outcome, Verdict, misconfigured

Keys = tuple[tuple[str, str, bool], ...]
"""Each in two forms, as it is and in lower case, with whether it is what is looked for, not only a part of it."""
_LONG = 100


class Access(Answers):
    """One access table in one place: ``default`` is the restriction that it was named by, for lists in the table."""

    def __init__(self, tools: Toolbox, spec: str, default: str) -> None:
        super().__init__(tools, spec, default)
        settings = tools.settings
        self.table: ILookupTable = tools.tables.open(spec, settings)
        self._dot = "" if "smtpd_access_maps" in settings.words("parent_domain_matches_subdomains") else "."
        self._extensions = Extensions.of(settings)
        self._untrusted = settings.flag("allow_untrusted_routing")
        self._null_key = settings.text("smtpd_null_access_lookup_key")
        self._folds, self._whole_keys = self.table.folds_case, self.table.whole_keys

    # --- what is asked for ---------------------------------------------------------------------------------------

    async def client(self, session: Session, name: str, address: str, subject: str, kind: str) -> Verdict:
        found = await self._first(session, _known(_domain_keys, name, self._dot), subject, kind)
        if found is None:
            found = await self._first(session, _network_keys(address), subject, kind)
        return found or DUNNO

    async def domain(self, session: Session, name: str, kind: str, subject: str | None = None) -> Verdict | None:
        """``subject``: what the reply names if it is not the domain.  None: the table does not know it."""
        keys = _known(_domain_keys, name, self._dot)
        return await self._first(session, keys, name if subject is None else subject, kind)

    async def network(self, session: Session, address: str, kind: str, subject: str) -> Verdict | None:
        return await self._first(session, _network_keys(address), subject, kind)

    async def word(self, session: Session, word: str, kind: str, subject: str | None = None) -> Verdict:
        """A key without parts."""
        subject = word if subject is None else subject
        return await self._first(session, ((word, word.lower(), True),), subject, kind) or DUNNO

    async def null_sender(self, session: Session) -> Verdict:
        key = self._null_key
        return await self._first(session, ((key, key.lower(), True),), "", facts.SENDER) or DUNNO

    async def mail_address(self, session: Session, address: str, kind: str) -> Verdict:
        destination = await self.tools.destination(session, address)
        if "@" not in destination.address:
            return DUNNO
        subject = unquote(address)
        keys = _known(_address_keys, destination.address, self._dot, self._extensions)
        found = await self._first(session, keys, subject, kind) or DUNNO
        permitted = found.outcome is Outcome.PERMIT
        if permitted and kind == facts.RECIPIENT and destination.routed and not self._untrusted:
            return DUNNO
        return found

    def without_ok(self, verdict: Verdict, name: str, subject: str) -> Verdict:
        """Where what is looked up is in the hands of the client's, a table is good for refusing only."""
        if verdict.outcome is not Outcome.PERMIT:
            return verdict
        self.tools.log.warning(PROGRAM, f"restriction {name} returns OK for {subject}")
        self.tools.log.warning(PROGRAM, "this is not allowed for security reasons")
        self.tools.log.warning(PROGRAM, "use DUNNO instead of OK if you want to make an exception")
        return misconfigured()

    async def _first(self, session: Session, keys: Keys, subject: str, kind: str) -> Verdict | None:
        """The verdict on the first key that the table knows; None: it knows none."""
        table, folds, whole_keys = self.table, self._folds, self._whole_keys
        for key, folded, whole in keys:
            if whole_keys and not whole or not key:
                continue
            try:
                value = await table.lookup(folded if folds else key)
            except TableError as error:
                self.tools.log.warning(PROGRAM, f"{self.spec}: table lookup problem: {error}")
                value = "451 4.3.5 Server configuration error"
            if value is not None:
                return self.verdict(session, value, key, subject, kind)
        return None


# --- keys --------------------------------------------------------------------------------------------------------


def _known(make: Callable[..., Keys], name: str, *more: Any) -> Keys:
    """Several tables are asked about each name.  Long ones are not remembered: their keys might be long and many."""
    if len(name) <= _LONG:
        return make(name, *more)
    long: Keys = make.__wrapped__(name, *more)  # type: ignore[attr-defined]
    return long


def _of(keys: Iterable[tuple[str, bool]]) -> Keys:
    return tuple([(key, key.lower(), whole) for key, whole in keys])


@lru_cache(maxsize=1024)
def _domain_keys(name: str, dot: str) -> Keys:
    return _of([(name, True), *_parents(name, dot)])


def _parents(name: str, dot: str) -> Iterator[tuple[str, bool]]:
    if is_numeric(name) or name.startswith("["):
        return
    while True:
        _, more, name = name.partition(".")
        if not more:
            return
        if name:
            yield dot + name, False


@lru_cache(maxsize=1024)
def _network_keys(address: str) -> Keys:
    keys = [(address, True)]
    separator = ":" if ":" in address else "."
    while separator in address:
        address = address.rpartition(separator)[0]
        if address.strip(separator):
            keys.append((address, False))
    return _of(keys)


@lru_cache(maxsize=1024)
def _address_keys(address: str, dot: str, extensions: Extensions) -> Keys:
    """``address``: in internal form."""
    local, _, domain = quote(address).rpartition("@")
    user, extension = extensions.split(local)
    keys = [(f"{local}@{domain}", True)]
    if extension:
        keys.append((f"{user}@{domain}", False))
    keys += [(domain, False), *_parents(domain, dot), (f"{local}@", False)]
    if extension:
        keys.append((f"{user}@", False))
    return _of(keys)


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
    return access.without_ok(found, "check_reverse_client_hostname_access", name)


async def _helo(access: Access, session: Session) -> Verdict:
    return session.helo is not None and await access.domain(session, session.helo, facts.HELO) or DUNNO


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
    return session.etrn_name is not None and await access.domain(session, session.etrn_name, facts.ETRN) or DUNNO


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
