"""Asking tables about addresses: which keys, in which order; canonical(5), virtual(5), transport(5), relocated(5).

    user+extension@domain           the whole address: also of tables with patterns
    user@domain
    user+extension, user            if the domain is this site's own (myorigin, mydestination, own addresses)
    @domain

Transport tables go on with "domain" and its parents in place of the last two.  Each key is tried in external form
first, then in internal form if that differs; where addresses are mapped to others, in external form only.  Takes the
internal form.  Raises TableError.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gateway.addresses.forms import quote, quote_local
from gateway.addresses.local import LocalDomains
from gateway.addresses.syntax import Extensions


class Match(Protocol):
    """See gateway.tables."""

    @property
    def value(self) -> str: ...

    @property
    def table(self) -> str: ...

    @property
    def key(self) -> str: ...


class Maps(Protocol):
    """A list of tables; see gateway.tables."""

    async def find(self, key: str, *, partial: bool = False) -> Match | None:
        """``partial``: the key is part of an address; tables that want whole keys are left out."""
        ...

    def __bool__(self) -> bool: ...


class Ways(enum.Flag):
    """What else is tried, after the whole address and the one without extension."""

    LOCAL_PART = enum.auto()
    AT_DOMAIN = enum.auto()
    DOMAIN = enum.auto()
    PARENTS = enum.auto()
    """With DOMAIN: parent.domain for all below it."""
    DOTTED_PARENTS = enum.auto()
    """With DOMAIN: .parent.domain for all below it."""
    INTERNAL = enum.auto()
    """Also in internal form."""
    MAPPING = LOCAL_PART | AT_DOMAIN
    USUAL = MAPPING | INTERNAL


@dataclass(frozen=True, slots=True)
class Found:
    value: str
    extension: str
    """The extension, with its delimiter, that the key does without; "" = none."""
    table: str
    key: str


class AddressFinder:
    """Look-ups by address in one list of tables."""

    def __init__(self, maps: Maps, extensions: Extensions, local: LocalDomains, ways: Ways = Ways.USUAL) -> None:
        self._maps = maps
        self._extensions = extensions
        self._local = local
        self._ways = ways
        self._internal = Ways.INTERNAL in ways

    def __bool__(self) -> bool:
        return bool(self._maps)

    async def find(self, address: str) -> Found | None:
        found = await self._ask(address, "", partial=False)
        if found:
            return found
        bare, extension = self._extensions.strip(address)
        if extension and (found := await self._ask(bare, extension)):
            return found
        local, at, domain = address.rpartition("@")
        if not at:
            return None
        if Ways.LOCAL_PART in self._ways and await self._local.has_bare_names(domain):
            if found := await self._ask(local, "", quote_local):
                return found
            if extension and (found := await self._ask(bare.rpartition("@")[0], extension, quote_local)):
                return found
        if Ways.AT_DOMAIN in self._ways and (found := await self._ask("@" + domain, "", str)):
            return found
        if Ways.DOMAIN in self._ways:
            for name in self._domains(domain):
                if found := await self._ask(name, "", str):
                    return found
        return None

    async def _ask(
        self, key: str, extension: str, quoted: Callable[[str], str] = quote, *, partial: bool = True
    ) -> Found | None:
        external = quoted(key)
        for form in (external, key) if external != key and self._internal else (external,):
            match = await self._maps.find(form, partial=partial) if form else None
            if match is not None:
                return Found(match.value, extension, match.table, match.key)
        return None

    def _domains(self, domain: str) -> Iterator[str]:
        yield domain
        if domain.startswith("[") or not self._ways & (Ways.PARENTS | Ways.DOTTED_PARENTS):
            return
        dot = "." if Ways.DOTTED_PARENTS in self._ways else ""
        while True:
            _, more, domain = domain.partition(".")
            if not more:
                return
            if domain:
                yield dot + domain
