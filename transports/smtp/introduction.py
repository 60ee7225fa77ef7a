"""How we introduce ourselves to a host: what tables and parameters say about a session before it begins.

    hello = await introductions.hello(request, policy, peer, text)

It says whether TLS is used and how, as whom to log in, which of the server's extensions are not seen
(smtp_discard_ehlo_keyword_address_maps, smtp_discard_ehlo_keywords), and which work-arounds for a firewall are allowed
(smtp_pix_workaround_maps, smtp_pix_workarounds).  Raises PolicyError or TableError: nothing may be sent then.
"""

from __future__ import annotations

from gateway.config.settings import Settings
from gateway.interfaces import Log, Request, TableError
from gateway.tables.maps import Maps
from gateway.tables.registry import Tables
from transports.smtp.channel import Peer
from transports.smtp.login import Logins
from transports.smtp.nexthop import NextHop, destination
from transports.smtp.opening import Hello
from transports.smtp.options import Options
from transports.smtp.tls import ClientTLS
from transports.smtp.tls_policy import Policy


class Introductions:
    def __init__(
        self, settings: Settings, prefix: str, tables: Tables, program: str, options: Options, tls: ClientTLS,
        logins: Logins | None, log: Log,
    ) -> None:
        def maps(name: str) -> Maps | None:
            words = settings.words(prefix + name)
            return tables.maps(words, settings, title=prefix + name, program=program) if words else None

        self._options, self._tls = options, tls
        self._prefix, self._log, self._program = prefix, log, program
        self.logins = logins
        self._discards = maps(f"discard_{'lhlo' if options.lmtp else 'ehlo'}_keyword_address_maps")
        self._workarounds = maps("pix_workaround_maps")

    async def hello(
        self, request: Request, policy: Policy, hop: NextHop, text: str, peer: Peer, age: float, detect_loops: bool
    ) -> Hello:
        """``text``: the next hop as it is written; ``age``: of the message, in seconds."""
        options = self._options
        hello = Hello(
            policy, hop.host or hop.path, None, options.pix_workarounds, False, options.discard_keywords,
            request.entry.id, detect_loops,
        )
        name = destination(text, options.lmtp)
        if policy.level:
            hello.handshake = self._tls.handshake(policy, peer, name)
        if self.logins is not None:
            try:
                hello.login = await self.logins.find(request.entry.envelope.sender, peer.host, name)
            except TableError:
                self._log.warning(self._program, f"{request.entry.id}: {self._prefix}sasl_password_maps lookup error")
                raise
        if self._discards is not None:
            words = await self._ask(self._discards, peer.address, request.entry.id)
            if words is not None:
                hello.discarded = frozenset(words.upper().split())
        hello.old = age >= options.pix_threshold
        if self._workarounds is not None:
            try:
                match = await self._workarounds.find(peer.address)
            except TableError:  # nothing that mail has to wait for
                match = None
            if match is not None:
                hello.workarounds = tuple(match.value.replace(",", " ").split())
        return hello

    async def _ask(self, maps: Maps, key: str, queue_id: str) -> str | None:
        """Raises TableError."""
        try:
            match = await maps.find(key)
        except TableError:
            text = f"{queue_id}: {maps.title} map lookup error for {key}"
            self._log.warning(self._program, text)
            raise
        return None if match is None else match.value.replace(",", " ")
