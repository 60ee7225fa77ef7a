"""What everything here that works on addresses has in common, made once from the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses.find import AddressFinder, Maps, Ways
from gateway.addresses.local import DomainList, LocalDomains
from gateway.addresses.mapping import AddressMap
from gateway.addresses.qualify import Qualifier, Rules
from gateway.addresses.syntax import Extensions
from gateway.config import Settings


class Tables(Protocol):
    """Opens tables; see gateway.tables.registry."""

    def maps(
        self,
        specs: Sequence[str],
        settings: Settings,
        *,
        title: str = "",
        program: str = "trivial-rewrite",
        substitution: bool = True,
    ) -> Maps: ...

    def domain_list(self, name: str, settings: Settings) -> DomainList: ...

    def string_list(self, name: str, settings: Settings) -> DomainList: ...


@dataclass(frozen=True, slots=True)
class Basis:
    settings: Settings
    tables: Tables
    local: LocalDomains
    extensions: Extensions
    qualify: Qualifier
    """Standard form in the local context."""
    propagated: frozenset[str]
    """propagate_unmatched_extensions."""

    @classmethod
    def of(cls, settings: Settings, tables: Tables, own_addresses: Iterable[str] = ()) -> Basis:
        """``own_addresses``: IP addresses of inet_interfaces and proxy_interfaces."""
        destinations = tables.string_list("mydestination", settings)
        return cls(
            settings,
            tables,
            LocalDomains(destinations, own_addresses, settings.text("myorigin")),
            Extensions.of(settings),
            Qualifier(Rules.local(settings)),
            frozenset(word.lower() for word in settings.words("propagate_unmatched_extensions")),
        )

    def finder(self, parameter: str, program: str = "trivial-rewrite", ways: Ways = Ways.USUAL) -> AddressFinder:
        """Look-ups in the tables that a parameter names.  ``program``: who asks, for the log."""
        return AddressFinder(self.maps(parameter, program), self.extensions, self.local, ways)

    def maps(self, parameter: str, program: str = "trivial-rewrite", substitution: bool = True) -> Maps:
        """The tables that a parameter names.  ``substitution``: whether a pattern's result may take in parts of the
        address."""
        words = self.settings.words(parameter)
        return self.tables.maps(
            words, self.settings, title=parameter, program=program, substitution=substitution
        )

    def address_map(self, parameter: str, program: str, propagated_as: str) -> AddressMap:
        """Mapping by the tables that a parameter names; ``propagated_as``: a word of propagate_unmatched_extensions."""
        finder = self.finder(parameter, program, Ways.MAPPING)
        return AddressMap(finder, self.qualify, propagated_as in self.propagated, parameter)

    def names(self, parameter: str) -> DomainList | None:
        """The list of names that a parameter holds, or None when it is empty."""
        return self.tables.string_list(parameter, self.settings) if self.settings.words(parameter) else None

    def domains(self, parameter: str) -> DomainList | None:
        """The same for a list in which subdomains may count, by parent_domain_matches_subdomains."""
        return self.tables.domain_list(parameter, self.settings) if self.settings.words(parameter) else None
