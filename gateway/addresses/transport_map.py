"""transport_maps: what they say of a recipient, and how an entry changes transport and next hop; transport(5).

    transport:nexthop       both
    transport: , transport  the next hop is the recipient's domain again
    :nexthop                the next hop only
    :                       nothing is changed

Keys: user+extension@domain, user@domain, domain, .domain of each parent (or the bare parents, if transport_maps is
among parent_domain_matches_subdomains), and "*".
"""

from __future__ import annotations

from gateway.addresses.basis import Basis
from gateway.addresses.find import AddressFinder, Found, Maps, Ways

NO_DELIVERY = frozenset(("error", "retry"))
"""Transports whose next hop is a text."""


class TransportMap:
    def __init__(self, finder: AddressFinder, maps: Maps) -> None:
        self._finder = finder
        self._maps = maps

    @classmethod
    def of(cls, basis: Basis, parameter: str = "transport_maps") -> TransportMap | None:
        """None when there are no such tables."""
        maps = basis.maps(parameter, substitution=False)
        if not maps:
            return None
        parents = "transport_maps" in basis.settings.words("parent_domain_matches_subdomains")
        ways = Ways.INTERNAL | Ways.DOMAIN | (Ways.PARENTS if parents else Ways.DOTTED_PARENTS)
        return cls(AddressFinder(maps, basis.extensions, basis.local, ways), maps)

    async def find(self, address: str) -> Found | None:
        """The entry for an address in internal form.  Raises TableError."""
        found = await self._finder.find(address)
        if found is None and (match := await self._maps.find("*")) is not None:
            found = Found(match.value, "", match.table, match.key)
        return found


def changed(entry: str, transport: str, nexthop: str, domain: str) -> tuple[str, str]:
    """Transport and next hop as they are with that entry."""
    new_transport, _, new_nexthop = entry.partition(":")
    if not new_transport:
        return transport, new_nexthop or nexthop
    if not new_nexthop:
        new_nexthop = "Address is undeliverable" if new_transport in NO_DELIVERY else domain
    return new_transport, new_nexthop
