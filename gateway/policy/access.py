"""check_*_access: look-ups in access tables; access(5).

What is asked for, in this order: for a host name the name and its parent domains, for an address of a host the address
and its networks (by octets, or by groups of IPv6), for a mail address (quoted where it has to be) user+ext@domain,
user@domain, the domain and its parents, user+ext@, user@.  Tables of patterns (``whole_keys``) are asked for the first
key of each kind only.  A table that does not answer gives 451 4.3.5, as with Postfix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from gateway.addresses.forms import quote
from gateway.addresses.syntax import Extensions, is_numeric, unquote
from gateway.interfaces import ILookupTable, IRestriction, TableError
from gateway.policy import session as facts
from gateway.policy.answers import Answers
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Outcome, Verdict, misconfigured


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

    # --- what is asked for ---------------------------------------------------------------------------------------

    async def client(self, session: Session, name: str, address: str, subject: str, kind: str) -> Verdict:
        found = await self._first(session, self._domains(name), subject, kind)
        if found is None:
            found = await self._first(session, self._networks(address), subject, kind)
        return found or DUNNO

    async def domain(self, session: Session, name: str, kind: str, subject: str | None = None) -> Verdict | None:
        """``subject``: what the reply names if it is not the domain.  None: the table does not know it."""
        return await self._first(session, self._domains(name), name if subject is None else subject, kind)

    async def network(self, session: Session, address: str, kind: str, subject: str) -> Verdict | None:
        return await self._first(session, self._networks(address), subject, kind)

    async def word(self, session: Session, word: str, kind: str, subject: str | None = None) -> Verdict:
        """A key without parts."""
        subject = word if subject is None else subject
        return await self._first(session, iter(((word, True),)), subject, kind) or DUNNO

    async def null_sender(self, session: Session) -> Verdict:
        return await self._first(session, iter(((self._null_key, True),)), "", facts.SENDER) or DUNNO

    async def mail_address(self, session: Session, address: str, kind: str) -> Verdict:
        destination = await self.tools.destination(session, address)
        if "@" not in destination.address:
            return DUNNO
        subject = unquote(address)
        found = await self._first(session, self._addresses(quote(destination.address)), subject, kind) or DUNNO
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


async def _certificate(access: Access, session: Session) -> Verdict:
    for fingerprint in session.tls.fingerprints if session.tls is not None else ():
        found = await access.word(session, fingerprint, "Client certificate", session.client)
        if found is not DUNNO:
            return found
    return DUNNO


_register("check_ccert_access", _certificate)
_register("check_client_access", _client)
_register("check_reverse_client_hostname_access", _reverse_client)
_register("check_helo_access", _helo)
_register("check_sender_access", _sender)
_register("check_recipient_access", _recipient)
_register("check_etrn_access", _etrn)
_register("check_sasl_access", _sasl)
