"""Address rewriting as cleanup(8) does it, as an ordered list of IAddressRewriters; ADDRESS_REWRITING_README.

    1. standard form (user@domain), in the local or the remote context
    2. sender_canonical_maps, recipient_canonical_maps
    3. canonical_maps
    4. masquerade_domains
    5. address_rewriters: plug-ins
    6. recipients of the envelope: virtual_alias_maps (``expand``)

Addresses go in and come out in external form; "" is the null sender.  Raises TableError when a table is away, and when
virtual aliases go round in circles.  With nothing configured, an address in full form costs one match of a pattern,
and so does a header field with such addresses only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from zope.interface import implementer

from gateway.addresses.basis import Basis, Tables
from gateway.addresses.find import AddressFinder
from gateway.addresses.forms import unquote
from gateway.addresses.headers import RECIPIENT_FIELDS, SENDER_FIELDS, AddressField, is_simple, simple_addresses
from gateway.addresses.mapping import AddressMap
from gateway.addresses.masquerade import Masquerade
from gateway.addresses.qualify import Qualifier, Rules
from gateway.addresses.virtual import Limits, VirtualAliases
from gateway.config import Settings
from gateway.interfaces import IAddressRewriter, Log, Place
from gateway.plugins import Rewriter, configured

ALL_PLACES = frozenset(Place)
_SENDER, _RECIPIENT = Place.ENVELOPE_SENDER, Place.ENVELOPE_RECIPIENT
_HEADER_PLACES = dict.fromkeys(SENDER_FIELDS, Place.HEADER_SENDER)
_HEADER_PLACES.update(dict.fromkeys(RECIPIENT_FIELDS, Place.HEADER_RECIPIENT))
_MAX_NESTING = 10
PROGRAM = "cleanup"


@implementer(IAddressRewriter)
class StandardForm:
    """swap_bangpath, allow_percent_hack, append_at_myorigin, append_dot_mydomain, in the local context."""

    name = "append_at_myorigin, append_dot_mydomain"
    places = ALL_PLACES

    def __init__(self, qualify: Qualifier) -> None:
        self.qualify = qualify

    async def rewrite(self, address: str, place: Place) -> str:
        return self.qualify(address)


@implementer(IAddressRewriter)
class Canonical:
    """One of the canonical_maps parameters: looked up until nothing changes, but not for ever."""

    def __init__(self, name: str, mapping: AddressMap, places: frozenset[Place], log: Log | None = None) -> None:
        self.name = name
        self.places = places
        self._mapping = mapping
        self._log = log

    async def rewrite(self, address: str, place: Place) -> str:
        first = address
        for _ in range(_MAX_NESTING):
            results = await self._mapping.map(address)
            if results is None:
                return address
            if len(results) > 1 and self._log is not None:
                self._log.warning(PROGRAM, f"multi-valued {self.name} entry for {address}")
            before, address = address, results[0]
            if before.lower() == address.lower():
                return address
        if self._log is not None:
            self._log.warning(PROGRAM, f"unreasonable {self.name} map nesting for {first} -- it becomes {address}")
        return address


class Rewriting:
    """All of it.  ``steps`` may be added to before the first use."""

    def __init__(
        self,
        local: Qualifier,
        remote: Qualifier | None,
        steps: Sequence[Any],
        aliases: VirtualAliases | None = None,
        *,
        token_limit: int = 10240,
        empty_address: str = "MAILER-DAEMON",
    ) -> None:
        self.steps: list[Any] = [StandardForm(local), *steps]
        self._local = local
        self._remote = remote
        self._mailer_daemon = local("mailer-daemon").lower() if local.rules.append_origin else ""
        self._aliases = aliases
        self._token_limit = token_limit
        self._empty_address = empty_address
        self._by_place: dict[Place, list[Any]] = {}

    @classmethod
    def from_settings(
        cls, settings: Settings, tables: Tables, own_addresses: Iterable[str] = (), log: Log | None = None
    ) -> Rewriting:
        """``own_addresses``: IP addresses of inet_interfaces and proxy_interfaces."""
        basis = Basis.of(settings, tables, own_addresses)
        steps: list[Any] = []
        for parameter in ("sender_canonical", "recipient_canonical", "canonical"):
            mapping = basis.address_map(f"{parameter}_maps", PROGRAM, "canonical")
            if mapping:
                places = _places(settings, f"{parameter}_classes")
                steps.append(Canonical(f"{parameter}_maps", mapping, places, log))
        if domains := settings.words("masquerade_domains"):
            exceptions = basis.names("masquerade_exceptions")
            steps.append(Masquerade(domains, exceptions, _places(settings, "masquerade_classes")))
        steps += map(Rewriter, configured(IAddressRewriter, "address_rewriters", settings))
        aliases = basis.address_map("virtual_alias_maps", PROGRAM, "virtual")
        empty = basis.qualify(settings.text("empty_address_recipient"))
        return cls(
            basis.qualify,
            Qualifier(Rules.remote(settings)) if settings.text("remote_header_rewrite_domain") else None,
            steps,
            VirtualAliases(aliases, Limits.of(settings), empty=empty) if aliases else None,
            token_limit=settings.number("header_address_token_limit"),
            empty_address=settings.text("empty_address_recipient"),
        )

    def without_mappings(self) -> Rewriting:
        """Standard form only: receive_override_options = no_address_mappings."""
        return Rewriting(
            self._local, self._remote, (), token_limit=self._token_limit, empty_address=self._empty_address
        )

    async def envelope_sender(self, address: str) -> str:
        """MAILER-DAEMON of this site is nobody: the null sender.  So is "" in quotes."""
        address = "" if address == '""' else self._local(address)
        if address[:1] in "mM" and address.lower() == self._mailer_daemon:
            address = ""
        return await self._through(address, _SENDER) if self._further(_SENDER) else address

    async def envelope_recipient(self, address: str) -> str:
        address = self._local(self._empty_address if address in ("", '""') else address)
        if self._further(_RECIPIENT):
            address = await self._through(address, _RECIPIENT) or self._local(self._empty_address)
        return address

    async def expand(self, address: str) -> list[str]:
        """Recipients in the place of one (already rewritten).  Raises ExpansionError, a TableError."""
        return [address] if self._aliases is None else await self._aliases.expand(address)

    async def header(self, name: str, value: bytes, context: str) -> bytes:
        """The value of a header field (lower or mixed case ``name``) with its addresses rewritten; the same object if
        nothing changes, or the field has no addresses.  ``context``: "local" or "remote"; else nothing is done."""
        place = _HEADER_PLACES.get(name.lower())
        qualify = self._local if context == "local" else self._remote if context == "remote" else None
        if place is None or qualify is None:
            return value
        known: dict[str, str] = {}
        if is_simple(value) and (len(value) <= self._token_limit or not self._token_limit):
            if not self._further(place):
                return value
            known = {address: await self._through(address, place) for address in simple_addresses(value)}
            if all(old == new for old, new in known.items()):
                return value
        field = AddressField(value, self._token_limit)
        results = []
        for address in field.addresses:
            new = known.get(address)
            results.append(await self._through(qualify(address), place) if new is None else new)
        field.replace(results)
        return field.render(name)

    def _further(self, place: Place) -> list[Any]:
        """The steps for that place but the first."""
        steps = self._by_place.get(place)
        if steps is None:
            steps = self._by_place[place] = [step for step in self.steps[1:] if place in step.places]
        return steps

    async def _through(self, address: str, place: Place) -> str:
        for step in self._further(place):
            address = await step.rewrite(address, place)
        return address


class Generic:
    """generic(5): addresses of this site as the outside knows them, put in on the way out by the SMTP client."""

    def __init__(self, mapping: AddressMap, log: Log | None = None) -> None:
        self._mapping = mapping
        self._log = log

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        tables: Tables,
        own_addresses: Iterable[str] = (),
        parameter: str = "smtp_generic_maps",
        log: Log | None = None,
    ) -> Generic | None:
        """None when there are no such tables.  ``settings``: those of the service."""
        mapping = Basis.of(settings, tables, own_addresses).address_map(parameter, "smtp", "generic")
        return cls(mapping, log) if mapping else None

    async def address(self, address: str) -> str:
        """An address of the envelope.  Raises TableError."""
        results = await self._mapping.map(address) if address else None
        if results is None:
            return address
        if len(results) > 1 and self._log is not None:
            self._log.warning("smtp", f"multi-valued generic map result for {address}")
        return results[0]

    async def header(self, name: str, value: bytes) -> bytes:
        """The value of a header field; the same object if nothing changes.  Raises TableError."""
        if name.lower() not in _HEADER_PLACES:
            return value
        field = AddressField(value, limit=0)
        field.replace([await self.address(address) for address in field.addresses])
        return field.render(name)


def blind_copies(
    parameter: str, settings: Settings, tables: Tables, own_addresses: Iterable[str] = ()
) -> Callable[[str], Awaitable[str | None]] | None:
    """Look-ups in sender_bcc_maps or recipient_bcc_maps: address → whom to send a copy.  None when there are none."""
    finder = Basis.of(settings, tables, own_addresses).finder(parameter, PROGRAM)
    return _BlindCopies(finder) if finder else None


class _BlindCopies:
    def __init__(self, finder: AddressFinder) -> None:
        self._finder = finder

    async def __call__(self, address: str) -> str | None:
        found = await self._finder.find(unquote(address))
        return found.value if found else None


def _places(settings: Settings, parameter: str) -> frozenset[Place]:
    """The classes that a parameter lists.  Raises ConfigError for a word that is none."""
    try:
        return frozenset(Place(word.lower()) for word in settings.words(parameter))
    except ValueError as problem:
        names = ", ".join(place.value for place in Place)
        raise settings.error(parameter, f"{parameter}: {problem}", f"choose from {names}") from None
