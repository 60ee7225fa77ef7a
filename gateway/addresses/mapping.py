"""Mapping an address by tables to another, or to several: canonical(5), virtual(5), generic(5).

A result is a list of addresses; "@domain" as a result keeps the user, and "<>" is the empty address.  One without any
address is a mistake in the table: TableError, so that it can be mended before mail is lost.  Results are brought to
standard form, and an extension that the key did without is put on each of them if it is to be propagated.  Takes and
gives external form.
"""

from __future__ import annotations

from gateway.addresses.find import AddressFinder, Found
from gateway.addresses.forms import quote, unquote
from gateway.addresses.qualify import Qualifier, is_plain
from gateway.addresses.tokens import Address, parse
from gateway.interfaces import TableError


class AddressMap:
    """``propagate``: whether unmatched extensions are passed on to the result.  ``title``: the parameter."""

    def __init__(self, finder: AddressFinder, qualify: Qualifier, propagate: bool, title: str = "") -> None:
        self._finder = finder
        self._title = title
        self._qualify = qualify
        self._propagate = propagate

    def __bool__(self) -> bool:
        return bool(self._finder)

    async def map(self, address: str) -> list[str] | None:
        """What becomes of that address; None: it is not in the tables."""
        answer = await self.explain(address)
        return answer[0] if answer else None

    async def explain(self, address: str) -> tuple[list[str], Found] | None:
        """The same, and what was found."""
        plain = unquote(address)
        found = await self._finder.find(plain)
        if found is None:
            return None
        text = found.value
        if text.startswith("@"):
            user = plain.rpartition("@")[0] if "@" in plain else plain
            text = quote(user.removesuffix(found.extension) + text)
        results = self._addresses(text, found.extension if self._propagate else "")
        if results:
            return results, found
        if text.strip() == "<>":
            return [""], found
        raise TableError(f'{self._title} lookup of {address} returns non-address result "{found.value}"')

    def _addresses(self, text: str, extension: str) -> list[str]:
        if is_plain(text):
            written = [text]
        else:
            written = [node.written() for node in parse(text) if isinstance(node, Address)]
        results = [self._qualify(address) for address in written]
        return [_extended(address, extension) for address in results] if extension else results


def _extended(address: str, extension: str) -> str:
    local, at, domain = unquote(address).rpartition("@")
    return quote(f"{local}{extension}@{domain}" if at else domain + extension)
