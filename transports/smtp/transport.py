"""The SMTP client, and the LMTP client as a variant: smtp(8).

    transport = SMTPTransport(settings, "relay", resolver, source, log, reactor, own_addresses)
    results = await transport.deliver(request)

``settings``: with the service's own "-o" values over main.cf.  ``own_addresses``: this host's, for loop detection
(inet_interfaces, proxy_interfaces).  ``program``: the name in the log, "smtp" or "lmtp" if none is given.
``generic``: smtp_generic_maps, if there are any; ``logins``: if the service logs in to servers.
Raises ConfigError, ValueError, OSError or OpenSSL's Error at once for a configuration that cannot work.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from zope.interface import implementer

from gateway.addresses.rewriting import Generic
from gateway.config.settings import Settings
from gateway.interfaces import IContentSource, IResolver, ITransport, Log, Request, Result
from transports.smtp.connect import Connector
from transports.smtp.delivery import Delivery, Parts
from transports.smtp.hosts import HostFinder
from transports.smtp.login import Logins
from transports.smtp.nexthop import parse, split
from transports.smtp.options import Options
from transports.smtp.payload import Payload
from transports.smtp.pool import Pool
from transports.smtp.tls import TLSPolicy


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
        own_addresses: Collection[str] = (),
        *,
        lmtp: bool = False,
        program: str = "",
        generic: Generic | None = None,
        logins: Logins | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        options = Options.of(settings, lmtp)
        self.service = service_name
        self.program = program or ("lmtp" if lmtp else "smtp")
        self._source = source
        self._line_limit = options.line_limit
        self._pool = Pool(options, reactor)
        self._parts = Parts(
            options,
            TLSPolicy(settings, "lmtp_" if lmtp else "smtp_"),
            HostFinder(options, resolver, own_addresses, randomness or random.SystemRandom()),
            Connector(options, reactor, log, self.program),
            self._pool,
            log,
            self.program,
            reactor.seconds,
            generic,
            logins,
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
        """See IDescribes: the hosts in the order in which they would be tried, and the TLS level."""
        options = self._parts.options
        lines = [f"TLS level {self._parts.tls.level}"]
        if self._parts.generic is not None:
            for address in (request.entry.envelope.sender, *request.addresses):
                if (outside := await self._parts.generic.address(address)) != address:
                    lines.append(f"generic: {address} becomes {outside}")
        for text in (*split(request.nexthop), *options.fallback):
            try:
                hop = parse(text, options.ports, default_port=options.port, lmtp=options.lmtp)
            except ValueError as error:
                lines.append(f"{text}: {error}")
                continue
            hosts = await self._parts.finder.find(hop)
            lines += [f"{text}: {peer.relay}" for peer in hosts.peers[: options.address_limit or None]]
            if hosts.why is not None and not hosts.peers:
                lines.append(f"{text}: would wait or be returned: {hosts.why.reason}")
        return lines

    async def stop(self) -> None:
        self._pool.close()
