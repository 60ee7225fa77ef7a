"""permit_mx_backup: mail for a domain whose DNS names us as a mail exchanger beside its best ones; postconf(5).

Whoever owns a domain can name us there without asking; permit_mx_backup_networks says in which networks the domain's
best mail exchangers have to be.  If we are one of these ourselves, the mail would have nowhere to go, and is not
permitted here.  What cannot be looked up now makes a refusal that comes behind temporary.  relay_domains with
relay_recipient_maps is the better way.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.addresses.syntax import unquote
from gateway.dns_filter import short_reason
from gateway.interfaces import MX, AddressClass, DNSError, IRestriction
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import RECIPIENT, Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, defer_if_reject
from gateway.tables import AddressList

NAME = "permit_mx_backup"


@restriction(NAME)
def mx_backup(tools: Toolbox, arguments: Arguments) -> IRestriction:
    networks = tools.tables.address_list("permit_mx_backup_networks", tools.settings)

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
        question = _Question(tools, networks)
        if await question.permits(domain):
            return PERMIT
        if not question.trouble:
            return DUNNO
        text = f"<{unquote(session.recipient)}>: {RECIPIENT} rejected: {question.trouble}"
        return defer_if_reject(450, "4.4.4", text)

    return Asking(NAME, check)


class _Question:
    """About one domain.  ``trouble``: the first thing that could not be looked up."""

    def __init__(self, tools: Toolbox, networks: AddressList) -> None:
        self._tools = tools
        self._networks = networks
        self.trouble = ""

    async def permits(self, domain: str) -> bool:
        try:
            exchangers = await self._tools.resolver.mx(domain)
        except DNSError as error:
            if error.temporary:
                self._note("Unable to look up mail exchanger information", error)
            return False
        best = [one for one in exchangers if one.preference == exchangers[0].preference]
        others = exchangers[len(best) :]
        if await self._is_ours(best) or not await self._is_ours(others):
            return False
        return not self._networks or await self._all_in_networks(best)

    async def _is_ours(self, exchangers: Iterable[MX]) -> bool:
        """Names first, for they cost nothing."""
        hosts = [one.host for one in exchangers if one.host]
        for host in hosts:
            destination = await self._tools.addresses.destination(f"postmaster@{host}")
            if destination.address_class is AddressClass.LOCAL:
                return True
        for host in hosts:
            try:
                if not self._tools.own_addresses.isdisjoint(await self._tools.resolver.native(host)):
                    return True
            except DNSError as error:
                self._note(f"Unable to look up mail exchanger host {host}", error)
        return False

    async def _all_in_networks(self, exchangers: Iterable[MX]) -> bool:
        for one in exchangers:
            try:
                addresses = await self._tools.resolver.addresses(one.host)
            except DNSError as error:
                self._note(f"Unable to look up host {one.host} as mail exchanger", error)
                return False
            if not all([await self._networks.match(address, one.host) for address in addresses]):
                return False
        return True

    def _note(self, what: str, error: DNSError) -> None:
        self.trouble = self.trouble or f"{what}: {short_reason(error)}"
