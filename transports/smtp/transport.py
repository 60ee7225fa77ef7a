"""The SMTP client, and the LMTP client as a variant: smtp(8).

    transport = SMTPTransport(settings, "relay", resolver, source, log, reactor, tables, own_addresses)
    results = await transport.deliver(request)

``settings``: with the service's own "-o" values over main.cf.  ``tables``: where smtp_tls_policy_maps and the like are
opened.  ``own_addresses``: this host's, for loop detection (inet_interfaces, proxy_interfaces).  ``program``: the name
in the log, "smtp" or "lmtp" if none is given.  ``flags``: of the service's line in master.cf, out of DORX.
``generic``: smtp_generic_maps, if there are any; ``logins``: if the service logs in to servers; ``checks``:
smtp_header_checks and its like, if there are any; ``postmaster``: if he wants to hear of errors in sessions.
Raises ConfigError, ValueError, OSError or OpenSSL's Error at once for a configuration that cannot work.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from zope.interface import implementer

from gateway.addresses.rewriting import Generic
from gateway.config.settings import Settings
from gateway.interfaces import IContentSource, IResolver, ITransport, Log, Request, Result, TableError
from gateway.tables.registry import Tables
from transports.smtp.connect import Connector
from transports.smtp.delivery import Delivery, MessageChecks, Parts
from transports.smtp.hosts import HostFinder
from transports.smtp.introduction import Introductions
from transports.smtp.login import Logins
from transports.smtp.nexthop import NextHop, destination, parse, split
from transports.smtp.options import Options
from transports.smtp.payload import Payload
from transports.smtp.pool import Pool
from transports.smtp.reply_filter import ReplyFilter
from transports.smtp.tls import ClientTLS
from transports.smtp.tls_policy import Policies, PolicyError
from transports.smtp.transcript import Postmaster


@implementer(ITransport)
class SMTPTransport:
    def __init__(
        self,
        settings: Settings,
        service_name: str,
        resolver: IResolver,
        source: IContentSource,
        log: Log,
        reactor: Any,
        tables: Tables,
        own_addresses: Collection[str] = (),
        *,
        lmtp: bool = False,
        program: str = "",
        flags: str = "",
        generic: Generic | None = None,
        logins: Logins | None = None,
        checks: MessageChecks | None = None,
        postmaster: Postmaster | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        options = Options.of(settings, lmtp, flags)
        prefix = "lmtp_" if lmtp else "smtp_"
        self.service = service_name
        self.program = program or ("lmtp" if lmtp else "smtp")
        self._source = source
        self._line_limit = options.line_limit
        self._pool = Pool(options, reactor)
        policies = Policies(settings, prefix, tables, log, self.program)
        tls = ClientTLS(settings, prefix, policies, log, self.program, reactor.seconds)
        words = settings.words(prefix + "reply_filter")
        maps = tables.maps(words, settings, title=prefix + "reply_filter", program=self.program)
        replies = ReplyFilter(maps, log, self.program) if words else None
        self._parts = Parts(
            options,
            policies,
            Introductions(settings, prefix, tables, self.program, options, tls, logins, log),
            HostFinder(options, resolver, own_addresses, randomness or random.SystemRandom(), log, self.program),
            Connector(options, reactor, log, self.program, replies, recorded=postmaster is not None),
            self._pool,
            log,
            self.program,
            reactor.seconds,
            generic,
            checks,
            postmaster,
        )

    async def deliver(self, request: Request) -> Sequence[Result]:
        content = await self._source.content(request.entry.id)
        payload = Payload(request.entry.envelope, content, self._line_limit)
        self._pool.begin(request.nexthop)
        try:
            return await Delivery(self._parts, request, payload).run()
        finally:
            self._pool.end(request.nexthop)
            payload.close()

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes: TLS policies, the hosts in the order in which they would be tried, and as whom we log in."""
        options = self._parts.options
        lines = []
        if self._parts.generic is not None:
            for address in (request.entry.envelope.sender, *request.addresses):
                if (outside := await self._parts.generic.address(address)) != address:
                    lines.append(f"generic: {address} becomes {outside}")
        for text in (*split(request.nexthop), *options.fallback):
            lines += [f"{text}: {line}" for line in await self.tls_policy(text)]
            try:
                hop = parse(text, options.ports, default_port=options.port, lmtp=options.lmtp)
            except ValueError as error:
                lines.append(f"{text}: {error}")
                continue
            lines += [f"{text}: {line}" for line in await self._hosts(hop)]
            lines += [f"{text}: {line}" for line in await self._logins(hop, text, request.entry.envelope.sender)]
        return lines

    async def _hosts(self, hop: NextHop) -> list[str]:
        finder = self._parts.finder
        preferences = {record.host: f"MX {record.preference} " for record in await finder.records(hop)}
        hosts = await finder.find(hop)
        tried = hosts.peers[: self._parts.options.address_limit or None]
        lines = [f"{preferences.get(peer.host, '')}{peer.relay}" for peer in tried]
        for host in preferences:
            if not any(peer.host == host for peer in hosts.peers):
                lines.append(f"{preferences[host]}{host}: not tried: this host, not better than it, or without address")
        if hosts.why is not None and not hosts.peers:
            lines.append(f"would wait or be returned: {hosts.why.reason}")
        return lines

    async def _logins(self, hop: NextHop, text: str, sender: str) -> list[str]:
        """As whom we would log in, to whom; never with what."""
        logins = self._parts.introductions.logins
        if logins is None:
            return []
        hosts = (await self._parts.finder.find(hop)).peers
        users: dict[str, str] = {}
        name = destination(text, self._parts.options.lmtp)
        try:
            for host in dict.fromkeys(peer.host for peer in hosts):
                login = await logins.find(sender, host, name)
                users[host] = f"logs in as {login.credentials.user}" if login else "does not log in"
        except TableError as error:
            return [f"mail would wait: {error}"]
        if len(set(users.values())) == 1:
            return list(set(users.values()))
        return [f"{host}: {user}" for host, user in users.items()]

    async def tls_policy(self, nexthop: str) -> list[str]:
        """Lines for people: how much TLS one next hop wants, which names, and where that stands."""
        try:
            policy = await self._parts.policies.find(destination(nexthop, self._parts.options.lmtp))
        except PolicyError as error:
            return [f"mail would wait: {error}"]
        return policy.explained()

    async def stop(self) -> None:
        self._pool.close()
