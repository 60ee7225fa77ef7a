"""Address masquerading: hosts below a domain are hidden behind it; postconf(5) masquerade_domains.

    masquerade_domains = foo.example.com !bar.example.com example.com

user@any.foo.example.com becomes user@foo.example.com, user@any.bar.example.com stays.  The first entry that is the
domain or a parent of it decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from zope.interface import implementer

from gateway.addresses.forms import unquote
from gateway.interfaces import IAddressRewriter, Place


class NameList(Protocol):
    """See gateway.tables.DomainList."""

    async def match(self, name: str) -> bool: ...


@implementer(IAddressRewriter)
class Masquerade:
    """``exceptions``: users that keep their hosts (masquerade_exceptions), or None."""

    name = "masquerade_domains"

    def __init__(self, domains: Iterable[str], exceptions: NameList | None, places: frozenset[Place]) -> None:
        self.places = places
        self._exceptions = exceptions
        self._domains: list[tuple[str, bool]] = []
        for domain in domains:
            bare = domain.lstrip("!")
            if bare:
                self._domains.append((bare.lower(), (len(domain) - len(bare)) % 2 == 0))

    async def rewrite(self, address: str, place: Place) -> str:
        local, at, domain = address.rpartition("@")
        if not at:
            return address
        parent = self._hidden_behind(domain.lower())
        if parent is None or (self._exceptions is not None and await self._exceptions.match(unquote(local))):
            return address
        return f"{local}@{parent}"

    def _hidden_behind(self, domain: str) -> str | None:
        for parent, wanted in self._domains:
            if domain == parent:
                return None
            if domain.endswith("." + parent):
                return parent if wanted else None
        return None
