"""Which hosts a next hop has, in which order (RFC 5321 5.1, RFC 7505, RFC 2782's spirit for shuffling).

``HostFinder.find`` gives the addresses to try as Peers, the best first, addresses of equal preference shuffled, cut off
where this host itself is an MX; or the Verdict why there is none.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from gateway.interfaces import MX, DNSError, IResolver, Log
from transports.smtp.channel import Peer
from transports.smtp.nexthop import NextHop
from transports.smtp.options import Options
from transports.smtp.verdict import Verdict

LOOP = "5.4.6"
AT_ONCE = 5
"""MX hosts that are looked up at the same time: a domain may name a hundred, and name servers that never answer, and
others have questions, too."""


@dataclass(slots=True)
class Hosts:
    peers: list[Peer] = field(default_factory=list)
    why: Verdict | None = None
    """Why there are none; or an error on the way that did not matter."""
    we_are_mx: bool = False
    """This host is an MX for the domain: nobody but better MX hosts may be tried."""


@dataclass(slots=True)
class _Address:
    preference: int
    host: str
    address: str


class HostFinder:
    def __init__(
        self,
        options: Options,
        resolver: IResolver,
        own_addresses: Collection[str],
        randomness: random.Random,
        log: Log,
        program: str,
    ) -> None:
        self._options, self._resolver, self._random = options, resolver, randomness
        self._log, self._program = log, program
        self._own = frozenset(own_addresses)

    def detects_loops(self, hop: NextHop) -> bool:
        """Mail to the SMTP port of this host comes back to us; at other ports there is something else."""
        return not self._options.lmtp and hop.port == self._options.port

    async def records(self, hop: NextHop) -> list[MX]:
        """The MX records that find() goes by, as far as there are any."""
        if hop.path or not hop.search_mx or self._resolver.disabled:
            return []
        try:
            found: list[MX] = await self._resolver.mx(hop.host)
        except DNSError:
            return []
        return [record for record in found if record.host]

    async def find(self, hop: NextHop) -> Hosts:
        if hop.path:
            return Hosts([Peer(self._options.own_name, hop.path, 0)])
        if hop.search_mx and not self._resolver.disabled:
            return await self._domain(hop)
        return await self._host(hop)

    async def _host(self, hop: NextHop) -> Hosts:
        try:
            found = await self._resolver.addresses(hop.host)
        except DNSError as error:
            return Hosts(why=_name_error(error))
        addresses = [_Address(0, hop.host, address) for address in found]
        if self.detects_loops(hop) and any(each.address in self._own for each in addresses):
            return Hosts(why=_loop(hop.host))
        return Hosts(self._ordered(addresses, hop))

    async def _domain(self, hop: NextHop) -> Hosts:
        try:
            records = await self._resolver.mx(hop.host)
        except DNSError as error:
            if error.temporary and not self._options.ignore_mx_error:
                return Hosts(why=_name_error(error))
            return await self._host(hop)
        if not records:
            return await self._host(hop)
        if not records[0].host:
            text = f"Domain {hop.host} does not accept mail (nullMX)"
            return Hosts(why=Verdict("5.1.0", text, site=True))
        addresses: list[_Address] = []
        why: Verdict | None = None
        for start in range(0, len(records), AT_ONCE):
            asked = [
                Deferred.fromCoroutine(self._mx_addresses(record.preference, record.host))
                for record in records[start : start + AT_ONCE]
            ]
            for question in asked:
                outcome = await question
                if not isinstance(outcome, Verdict):
                    addresses += outcome
                elif why is None or not why.temporary or outcome.temporary:
                    why = outcome
        if not addresses:
            self._log.warning(self._program, f"no MX host for {hop.host} has a valid address record")
            if why is not None and self._options.defer_without_mx_address and not why.temporary:
                why.dsn = "4" + why.dsn[1:]
            return Hosts(why=why)
        return self._without_self(hop, addresses, records[0].preference)

    async def _mx_addresses(self, preference: int, host: str) -> list[_Address] | Verdict:
        try:
            found = await self._resolver.addresses(host)
        except DNSError as error:
            return _name_error(error)
        return [_Address(preference, host, address) for address in found]

    def _without_self(self, hop: NextHop, addresses: list[_Address], best: int) -> Hosts:
        """Only hosts that are better than this one, if it is an MX host itself."""
        own = [each.preference for each in addresses if each.address in self._own] if self.detects_loops(hop) else []
        if not own:
            return Hosts(self._ordered(addresses, hop))
        found_best = min(each.preference for each in addresses)
        better = [each for each in addresses if each.preference < min(own)]
        if better:
            return Hosts(self._ordered(better, hop), we_are_mx=True)
        if found_best != best:
            return Hosts(why=Verdict("4.4.4", f"unable to find primary relay for {hop.host}", site=True))
        return Hosts(why=_loop(hop.host), we_are_mx=True)

    def _ordered(self, addresses: list[_Address], hop: NextHop) -> list[Peer]:
        if self._options.randomize:
            self._random.shuffle(addresses)
        addresses.sort(key=self._rank)
        if self._options.balance:
            addresses = self._balanced(addresses)
        best = min((each.preference for each in addresses), default=0)
        return [
            Peer(each.host, each.address, hop.port, each.preference == best, hop.host)
            for each in addresses
        ]

    def _rank(self, each: _Address) -> tuple[int, bool]:
        version = "ipv6" if ":" in each.address else "ipv4"
        return each.preference, self._options.preference in ("ipv4", "ipv6") and version != self._options.preference

    def _balanced(self, addresses: list[_Address]) -> list[_Address]:
        """Both kinds of addresses among those that will be tried: a kind that does not work here must not use up
        smtp_mx_address_limit."""
        limit = self._options.address_limit
        if limit < 2 or len(addresses) <= limit:
            return addresses
        head = addresses[:limit]
        missing = [each for each in addresses[limit:] if (":" in each.address) != (":" in head[0].address)]
        if missing and len({":" in each.address for each in head}) == 1:
            head = [*head[:-1], missing[0]]
            return head + [each for each in addresses[limit - 1 :] if each is not missing[0]]
        return addresses


def _name_error(error: DNSError) -> Verdict:
    if error.temporary:
        return Verdict(error.dsn or "4.4.3", str(error), site=True)
    return Verdict("5.4.4", str(error), site=True)


def _loop(host: str) -> Verdict:
    return Verdict(LOOP, f"mail for {host} loops back to myself", site=True)
