"""permit_mx_backup: mail for a domain whose DNS names us as a mail exchanger; postconf(5).

Whoever owns a domain can name us there without asking; permit_mx_backup_networks says in which networks the domain's
best mail exchangers have to be.  relay_domains with relay_recipient_maps is the better way.
"""

from __future__ import annotations

from gateway.addresses.syntax import unquote
from gateway.interfaces import MX, AddressClass, DNSError, IRestriction
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import RECIPIENT, Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, defer_if_reject
from gateway.tables import AddressList

NAME = "permit_mx_backup"


@restriction(NAME)
def mx_backup(tools: Toolbox, arguments: Arguments) -> IRestriction:
    networks = tools.tables.address_list("permit_mx_backup_networks", tools.settings)
    hostname = tools.settings.text("myhostname").lower()

    async def check(session: Session) -> Verdict:
        if session.recipient is None:
            return DUNNO
        destination = await tools.destination(session, session.recipient)
        if "@" not in destination.address:
            return PERMIT
        if destination.routed:
            return DUNNO
        if destination.address_class is not AddressClass.DEFAULT:
            return PERMIT
        domain = destination.address.rpartition("@")[2]
        if domain.startswith("["):
            return DUNNO
        try:
            exchangers = await tools.resolver.mx(domain)
            good = await _is_ours(tools, exchangers, hostname) and await _in_networks(tools, exchangers, networks)
        except DNSError as error:
            if not error.temporary:
                return DUNNO
            what = "Unable to look up mail exchanger information"
            return defer_if_reject(450, "4.4.4", f"<{unquote(session.recipient)}>: {RECIPIENT} rejected: {what}")
        return PERMIT if good else DUNNO

    return Asking(NAME, check)


async def _is_ours(tools: Toolbox, exchangers: list[MX], hostname: str) -> bool:
    for one in exchangers:
        if one.host == hostname or not tools.own_addresses.isdisjoint(await _addresses(tools, one.host)):
            return True
    return False


async def _in_networks(tools: Toolbox, exchangers: list[MX], networks: AddressList) -> bool:
    """Whether all that are preferred are where they have to be."""
    if not networks:
        return True
    best = min(one.preference for one in exchangers)
    for one in exchangers:
        if one.preference == best:
            addresses = await _addresses(tools, one.host)
            if not addresses or not all([await networks.match(address, one.host) for address in addresses]):
                return False
    return True


async def _addresses(tools: Toolbox, host: str) -> list[str]:
    """[] for a name that does not exist.  Raises DNSError for what cannot be told now."""
    try:
        return list(await tools.resolver.addresses(host)) if host else []
    except DNSError as error:
        if error.temporary:
            raise
        return []
