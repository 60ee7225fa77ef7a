"""Where the mail for an address goes: trivial-rewrite(8), "resolve"; ADDRESS_CLASS_README, transport(5), relocated(5).

In this order:

    1. domains of this machine are stripped off, and what routing remains is followed (a%b@here, b!a@here, "a@b"@here)
    2. the domain left over is checked: a broken one gives a route to "error" with 5.1.3
    3. class: local, virtual alias, virtual mailbox, relay, default; its transport parameter; relayhost and the
       sender-dependent tables for what leaves this machine
    4. transport_maps, but not for virtual alias domains: there an address is unknown
    5. relocated_maps
    6. an address that begins with "-" is broken, unless allow_min_user = yes

``resolve`` gives a Route, its recipient in external form.  ``acceptable`` says whether an address is well-formed as
smtpd wants it.  Raises TableError when a table is away: the message waits ("4.3.0 address resolver failure").
Resolutions are not remembered: tables may change at any time; only what the configuration alone decides is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from zope.interface import implementer

from gateway.addresses.basis import Basis, Tables
from gateway.addresses.forms import quote, unquote
from gateway.addresses.local import DomainList
from gateway.addresses.qualify import is_plain
from gateway.addresses.syntax import is_numeric, is_utf8, literal_address, valid_hostname
from gateway.addresses.tokens import QUOTED, Token, internal, scan
from gateway.addresses.transport_map import TransportMap, changed
from gateway.config import Settings
from gateway.interfaces import AddressClass, IRouter, Log, Route, TableError

# Getting at a member of an Enum takes Python 3.11 as long as a call.
_LOCAL, _VIRTUAL_ALIAS, _DEFAULT = AddressClass.LOCAL, AddressClass.VIRTUAL_ALIAS, AddressClass.DEFAULT

BAD_SYNTAX = "5.1.3 bad address syntax"
_AT = Token("@", "@")
_MOST_KNOWN = 1024


class Destination(NamedTuple):
    """An address, taken apart."""

    address: str
    """In internal form, always with a domain."""
    domain: str
    is_local: bool
    broken: bool
    routed: bool
    """A routing operator is in the local part: allow_untrusted_routing decides whether a stranger may do that."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """All that is known of a recipient."""

    route: Route
    domain: str
    broken: bool = False
    routed: bool = False
    reason: str = ""
    """The parameters that decided, with ", " between them."""


@dataclass(frozen=True, slots=True)
class Transports:
    """Transport and next-hop parameters."""

    local: str
    virtual: str
    relay: str
    default: str
    relayhost: str
    null_default_key: str
    null_relayhost_key: str

    @classmethod
    def of(cls, settings: Settings, prefix: str) -> Transports:
        return cls(
            settings.text(prefix + "local_transport"),
            settings.text(prefix + "virtual_transport"),
            settings.text(prefix + "relay_transport"),
            settings.text(prefix + "default_transport"),
            settings.text(prefix + "relayhost"),
            settings.text("empty_address_default_transport_maps_lookup_key"),
            settings.text("empty_address_relayhost_maps_lookup_key"),
        )


class Domains:
    """Step 1 and 2: what an address's destination is."""

    def __init__(self, basis: Basis) -> None:
        settings = basis.settings
        self._basis = basis
        self._null_domain = settings.flag("resolve_null_domain")
        self._dequoted = settings.flag("resolve_dequoted_address")
        self._numeric = settings.flag("resolve_numeric_domain")
        self._utf8 = settings.flag("smtputf8_enable")
        self._bangpath = settings.flag("swap_bangpath")
        self._percent = settings.flag("allow_percent_hack")
        self._empty = settings.text("empty_address_recipient")
        self._myhostname = settings.text("myhostname")
        self._known: dict[str, Destination] = {}
        """What does not hang on files or tables: each address is asked about several times while it comes in."""
        self._routing = ("@!" if self._bangpath else "@") + ("%" if self._percent else "")

    def destination_now(self, address: str) -> Destination | None:
        """destination(), if it is of the usual kind, and no table has to be asked; else None."""
        known = self._known.get(address)
        if known is not None:
            return known
        if self._numeric or not is_plain(address):
            return None
        domain = address.rpartition("@")[2]
        is_local = self._basis.local.match_now(domain)
        if is_local is None:
            return None
        found = self._checked(address, domain, is_local, False)
        if self._basis.local.constant:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[address] = found
        return found

    async def destination(self, address: str) -> Destination:
        """``address``: in external form, as rewritten."""
        if is_plain(address) and not self._numeric:
            domain = address.rpartition("@")[2]
            return self._checked(address, domain, await self._basis.local.match(domain), False)
        tokens, is_local = await self._stripped(scan(quote(unquote(address))))
        plain = internal(tokens)
        domain = plain.rpartition("@")[2]
        first = next((at for at, character in enumerate(plain) if character in "@!%"), 0)
        routed = plain[first + 1 :] != domain
        if self._numeric and is_numeric(domain):
            plain, domain = f"{plain[: -len(domain)]}[{domain}]", f"[{domain}]"
            is_local = is_local or await self._basis.local.match(domain)
            return Destination(plain, domain, is_local, broken=False, routed=routed)
        return self._checked(plain, domain, is_local, routed)

    def _checked(self, address: str, domain: str, is_local: bool, routed: bool) -> Destination:
        if domain.startswith("["):
            broken = literal_address(domain) is None
        else:
            broken = (self._utf8 and not is_utf8(address)) or not valid_hostname(domain)
            broken = broken or not (self._utf8 or domain.isascii())
        return Destination(address, domain, is_local, broken, routed)

    async def _stripped(self, tokens: list[Token]) -> tuple[list[Token], bool]:
        """The address without domains of this machine, and again with the last one of them if nothing else is left."""
        saved: list[Token] = []
        for _ in range(len(tokens) + 100):
            at = _last(tokens, "@")
            if len(tokens) > 1 and tokens[-1].kind == "." and at >= 0 and tokens[-2].kind not in ".@":
                tokens.pop()
            if self._null_domain and tokens and tokens[-1].kind == "@":
                tokens.pop()
            at = _last(tokens, "@")
            if at >= 0:
                if at + 1 < len(tokens) and not await self._basis.local.match(internal(tokens[at + 1 :])):
                    return tokens, False
                saved = tokens[at:]
                tokens = tokens[:at]
            if any(token.kind in self._routing for token in tokens):
                tokens = self._basis.qualify.rewrite(tokens)
            elif self._dequoted and len(tokens) == 1 and tokens[0].kind == QUOTED and self._operator(tokens[0].text):
                tokens = self._basis.qualify.rewrite(self._opened(tokens[0].text))
            elif not tokens or tokens == [Token(QUOTED, "")]:
                tokens = scan(self._empty)
            elif not saved:
                tokens = [*tokens, _AT, *scan(self._myhostname)]
            else:
                return [*tokens, *saved], True
        return [*tokens, *(saved or [_AT, *scan(self._myhostname)])], True

    def _operator(self, local: str) -> str:
        """The routing operator in a quoted local part that counts: the first of "@", "%", "!" there is."""
        wanted = "@" + ("%" if self._percent else "") + ("!" if self._bangpath else "")
        return next((operator for operator in wanted if operator in local), "")

    def _opened(self, local: str) -> list[Token]:
        """A quoted local part as an address of its own."""
        operator = self._operator(local)
        if operator == "%":
            head, _, tail = local.rpartition("%")
            local, operator = f"{head}@{tail}", "@"
        return scan(quote(local) if operator == "@" else local)


@implementer(IRouter)
class Router:
    """``prefix``: "address_verify_" for the probes of address verification (ADDRESS_VERIFICATION_README)."""

    def __init__(self, basis: Basis, log: Log | None = None, prefix: str = "") -> None:
        settings = basis.settings
        self._basis = basis
        self._log = log
        self._domains = Domains(basis)
        self._transports = Transports.of(settings, prefix)
        self._virtual_alias = basis.names("virtual_alias_domains")
        self._virtual_mailbox = basis.names("virtual_mailbox_domains")
        self._relay = basis.domains("relay_domains")
        self._sender_transport = basis.finder(prefix + "sender_dependent_default_transport_maps")
        self._sender_relayhost = basis.finder(prefix + "sender_dependent_relayhost_maps")
        self._transport_map = TransportMap.of(basis, prefix + "transport_maps")
        self._relocated = basis.finder("relocated_maps")
        self._relocated_prefix = "5.1.6 User has moved to " if settings.flag("relocated_prefix_enable") else ""
        self._minus_allowed = settings.flag("allow_min_user")
        table = " in virtual alias table" if settings.flag("show_user_unknown_table_name") else ""
        self._unknown_alias = f"5.1.1 User unknown{table}"

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        tables: Tables,
        own_addresses: Iterable[str] = (),
        log: Log | None = None,
        prefix: str = "",
    ) -> Router:
        """``own_addresses``: IP addresses of inet_interfaces and proxy_interfaces."""
        return cls(Basis.of(settings, tables, own_addresses), log, prefix)

    async def resolve(self, sender: str, recipient: str) -> Route:
        return (await self.explain(sender, recipient)).route

    async def address_class(self, recipient: str) -> AddressClass:
        """Of an address in any form, for smtpd."""
        address = self._basis.qualify(recipient)
        destination = self._domains.destination_now(address) or await self._domains.destination(address)
        return AddressClass.DEFAULT if destination.broken else await self._class(destination)

    async def acceptable(self, address: str, utf8: bool = True) -> bool:
        """Whether smtpd takes it for an address at all (else 501 5.1.3, 5.1.7).  Without ``utf8`` the domain must be
        ASCII, at least when it is compared (RFC 6531 3.2)."""
        address = self._basis.qualify(address)
        destination = self._domains.destination_now(address) or await self._domains.destination(address)
        if not utf8 and not destination.domain.isascii() and not destination.domain.casefold().isascii():
            return False
        return not destination.broken and (self._minus_allowed or not destination.address.startswith("-"))

    async def explain(self, sender: str, recipient: str) -> Resolution:
        """resolve(), and all that it found on the way.  Addresses in external form."""
        destination = self._domains.destination_now(recipient) or await self._domains.destination(recipient)
        address, domain = destination.address, destination.domain
        if destination.broken:
            return self._as_broken(destination)
        kind = await self._class(destination)
        transport, nexthop, reason = await self._by_class(kind, sender, domain)
        if kind is not _VIRTUAL_ALIAS and self._transport_map is not None:
            found = await self._transport_map.find(address)
            if found is not None:
                transport, nexthop = changed(found.value, transport, nexthop, domain)
                reason = f"transport_maps, {reason}" if found.value[:1] in (":", "") else "transport_maps"
        if self._relocated and (found := await self._relocated.find(address)) is not None:
            transport, nexthop = "error", f"{self._relocated_prefix}{found.value}"
            reason = "relocated_maps"
        if address.startswith("-") and not self._minus_allowed:
            return self._as_broken(destination)
        return Resolution(
            Route(transport, nexthop, quote(address), kind), domain, routed=destination.routed, reason=reason
        )

    @staticmethod
    def _as_broken(destination: Destination) -> Resolution:
        route = Route("error", BAD_SYNTAX, quote(destination.address), AddressClass.DEFAULT)
        return Resolution(route, destination.domain, broken=True, routed=destination.routed, reason="bad syntax")

    async def _class(self, destination: Destination) -> AddressClass:
        domain = destination.domain
        if destination.is_local:
            return _LOCAL
        if self._virtual_alias is not None and await _is_in(self._virtual_alias, domain):
            return AddressClass.VIRTUAL_ALIAS
        if self._virtual_mailbox is not None and await _is_in(self._virtual_mailbox, domain):
            return AddressClass.VIRTUAL_MAILBOX
        if self._relay is not None and await _is_in(self._relay, domain):
            return AddressClass.RELAY
        return _DEFAULT

    async def _by_class(self, kind: AddressClass, sender: str, domain: str) -> tuple[str, str, str]:
        """Transport, next hop, and the parameter that says so."""
        transports = self._transports
        if kind is _VIRTUAL_ALIAS:
            return "error", self._unknown_alias, "virtual_alias_domains"
        nexthop = domain
        if kind is _LOCAL:
            channel, reason = transports.local, "local_transport"
        elif kind is AddressClass.VIRTUAL_MAILBOX:
            channel, reason = transports.virtual, "virtual_transport"
        else:
            if kind is AddressClass.RELAY:
                channel, reason = transports.relay, "relay_transport"
            else:
                channel, reason = await self._default_transport(sender)
            nexthop, relay = await self._relayhost(sender)
            if nexthop and not channel.partition(":")[2]:
                reason += f", {relay}"
            nexthop = nexthop or domain
        transport, _, wanted = channel.partition(":")
        if not transport:
            raise TableError(f"parameter {reason}: null transport is not allowed")
        return transport, wanted or nexthop, reason

    async def _default_transport(self, sender: str) -> tuple[str, str]:
        name = "sender_dependent_default_transport_maps"
        if self._sender_transport:
            found = await self._sender_transport.find(unquote(sender) or self._transports.null_default_key)
            if found is not None and not self._is_nothing(found.value, name, sender):
                return found.value, name
        return self._transports.default, "default_transport"

    async def _relayhost(self, sender: str) -> tuple[str, str]:
        name = "sender_dependent_relayhost_maps"
        if self._sender_relayhost:
            found = await self._sender_relayhost.find(unquote(sender) or self._transports.null_relayhost_key)
            if found is not None and not self._is_nothing(found.value, name, sender):
                return found.value, name
        return self._transports.relayhost, "relayhost"

    def _is_nothing(self, value: str, table: str, sender: str) -> bool:
        if not value and self._log is not None:
            self._log.warning("trivial-rewrite", f"{table}: ignoring null lookup result for {sender}")
        return not value or value.upper() == "DUNNO"


async def _is_in(domains: DomainList, name: str) -> bool:
    known = domains.match_now(name)
    return await domains.match(name) if known is None else known


def _last(tokens: list[Token], kind: str) -> int:
    return next((at for at in range(len(tokens) - 1, -1, -1) if tokens[at].kind == kind), -1)
