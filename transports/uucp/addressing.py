"""Addresses as UUCP neighbours write them; RFC 976.

A next hop is a neighbour, or a path through one: ``hub!leaf`` is given to hub for leaf.  A neighbour that knows only
bang paths gets ``domain!user`` for user@domain, and ``leaf!user`` for user@leaf by way of hub!leaf: the name that the
path ends with is not said twice.  The other way round, swap_bangpath makes user@site of site!user.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.addresses.forms import split_domain


@dataclass(slots=True, frozen=True)
class Hop:
    """``site``: the neighbour; ``path``: the sites behind it."""

    site: str
    path: tuple[str, ...] = ()

    @classmethod
    def parse(cls, nexthop: str) -> Hop:
        site, *path = nexthop.split("!")
        return cls(site, tuple(path))

    def bang(self, address: str) -> str:
        """An address (internal form) as a path, seen from the neighbour."""
        local, domain = split_domain(address)
        end = (self.path or (self.site,))[-1].lower()
        here = not domain or domain.lower() in (end, f"{end}.uucp")
        return "!".join([*self.path, local if here else f"{domain}!{local}"])


def bang_sender(address: str) -> str:
    """The sender as a path from this site; the empty sender stays empty."""
    local, domain = split_domain(address)
    return f"{domain}!{local}" if domain else local
