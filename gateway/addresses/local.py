"""Which domains are this machine's: mydestination, and address literals of its own addresses; postconf(5).

``own_addresses``: inet_interfaces and proxy_interfaces, worked out.  Matching may need a table: awaitable, TableError.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Protocol

from gateway.addresses.syntax import literal_address


class DomainList(Protocol):
    """See gateway.tables."""

    constant: bool

    async def match(self, name: str) -> bool: ...

    def match_now(self, name: str) -> bool | None: ...


class LocalDomains:
    """``origin``: myorigin, whose users have bare names in tables too."""

    def __init__(self, destinations: DomainList, own_addresses: Iterable[str] = (), origin: str = "") -> None:
        self._destinations = destinations
        self.constant = destinations.constant
        """The answer for a domain never changes."""
        self._own = frozenset(map(str, map(ipaddress.ip_address, own_addresses)))
        self._origin = origin.lower()

    async def match(self, domain: str) -> bool:
        """Whether mail for that domain is delivered here."""
        known = self.match_now(domain)
        if known is None:
            domain = _without_dot(domain)
            known = await self._destinations.match(domain) or self._is_own(domain)
        return known

    def match_now(self, domain: str) -> bool | None:
        """The same, or None if a table has to be asked."""
        domain = _without_dot(domain)
        if not domain:
            return False
        known = self._destinations.match_now(domain)
        return known if known is None else known or self._is_own(domain)

    def _is_own(self, domain: str) -> bool:
        address = literal_address(domain) if domain.startswith("[") else None
        return address is not None and (address in self._own or _mapped(address) in self._own)

    async def has_bare_names(self, domain: str) -> bool:
        """Whether "user" in a table stands for user@domain, too."""
        return domain.lower() == self._origin or await self.match(domain)


def _without_dot(domain: str) -> str:
    """One dot at the end does not count, two do."""
    if domain.endswith("."):
        domain = domain[:-1]
        if domain.endswith("."):
            return ""
    return domain


def _mapped(address: str) -> str:
    """The IPv4 address that an IPv6 address stands for (RFC 4291 2.5.5.2), or ""."""
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if ":" in address else None
    return str(mapped) if mapped else ""
