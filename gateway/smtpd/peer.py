"""Who is calling: the client's address, and its name if that leads back to the address; smtpd_peername_lookup.

A name counts only when one of its addresses is the client's own.  A name that does not exist, or leads elsewhere, is
"unknown"; ``reverse_name`` keeps what the client's network claims.  Never raises, never blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from gateway.addresses.syntax import is_numeric, valid_hostname
from gateway.interfaces import DNSError, IResolver, Log
from gateway.policy.session import NAME_OK, NAME_PERMANENT, NAME_TEMPORARY

UNKNOWN = "unknown"
_NOT_KNOWN = "Name or service not known"


@dataclass(slots=True)
class Peer:
    address: str
    port: str = ""
    name: str = UNKNOWN
    reverse_name: str = UNKNOWN
    name_status: str = NAME_PERMANENT
    reverse_status: str = NAME_PERMANENT

    @property
    def literal(self) -> str:
        """The address as RFC 5321 4.1.3 writes it, without brackets."""
        return f"IPv6:{self.address}" if ":" in self.address else self.address

    def label(self, with_port: bool) -> str:
        """NAME[ADDRESS], as replies and log lines have it."""
        return f"{self.name}[{self.address}]:{self.port}" if with_port else f"{self.name}[{self.address}]"


@lru_cache(maxsize=1024)
def plain_address(address: str) -> str:
    """Without a scope; one of IPv4 in IPv6 clothes as IPv4."""
    try:
        number = ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    return str(getattr(number, "ipv4_mapped", None) or number)


async def look_up(peer: Peer, resolver: IResolver, log: Log, program: str) -> None:
    """Fill in the names."""
    try:
        name = await resolver.hostname(peer.address)
    except DNSError as error:
        peer.name_status = peer.reverse_status = NAME_TEMPORARY if error.temporary else NAME_PERMANENT
        return
    if is_numeric(name) or not valid_hostname(name):
        what = "numeric" if is_numeric(name) or name.replace(".", "").isdigit() else "invalid"
        log.warning(program, f"{what} hostname: {name}")
        return
    peer.reverse_name, peer.reverse_status = name, NAME_OK
    refused = f"hostname {name} does not resolve to address {peer.address}"
    try:
        # Names of this machine's hosts file count as well as those of the DNS.
        addresses = await resolver.native(name)
    except DNSError as error:
        # A C library that is asked for addresses of one family, as Postfix asks, has the same words for both failures.
        words = _NOT_KNOWN if error.temporary else str(error).rpartition(": ")[2]
        log.warning(program, f"{refused}: {words}")
        peer.name_status = NAME_TEMPORARY if error.temporary else NAME_PERMANENT
        return
    if peer.address in addresses:
        peer.name, peer.name_status = name, NAME_OK
    else:
        log.warning(program, refused)
