"""One delivery request: its recipients, host by host, until each of them has its last word.

What goes on to the next host, as in Postfix: a recipient that was put off (4xx), a message or a host that failed for
now, as long as there is another host to try: more addresses of this next hop, within smtp_mx_address_limit and
smtp_mx_session_limit (which counts sessions that got through their handshake), or a further next hop or
smtp_fallback_relay.  A 5xx is final at once.  At the last host a 4xx is final too: the recipient is deferred.
When no host is left, the last failure holds for all who are still without a word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.addresses.rewriting import Generic
from gateway.interfaces import BOUNCED, DEFERRED, SENT, Log, Request, Result, TableError
from transports.smtp import commands
from transports.smtp.channel import Peer
from transports.smtp.connect import NO_CONNECTION, NOT_BOUND, Connector
from transports.smtp.features import Features
from transports.smtp.generic import translated
from transports.smtp.hosts import LOOP, HostFinder, Hosts
from transports.smtp.introduction import Introductions
from transports.smtp.nexthop import NextHop, destination, parse, split
from transports.smtp.opening import Hello
from transports.smtp.options import Options
from transports.smtp.payload import Check, Payload
from transports.smtp.pool import Pool, Terms
from transports.smtp.session import Session, Transaction
from transports.smtp.tls_policy import Level, Policies, Policy, PolicyError
from transports.smtp.transcript import Postmaster
from transports.smtp.verdict import LOST, Outcome, Verdict

UNAVAILABLE = "server unavailable or unable to receive mail"
CONFIGURATION = "4.3.5"


class MessageChecks(Protocol):
    """What changes messages while they are sent; see gateway.content.outgoing."""

    def begin(self, queue_id: str, translate: Callable[[bytes], Awaitable[bytes]] | None) -> Check: ...


class Parts:
    """What the deliveries of one service share."""

    __slots__ = (
        "checks", "connector", "finder", "generic", "introductions", "log", "now", "options", "policies", "pool",
        "postmaster", "program", "usual",
    )

    def __init__(
        self,
        options: Options,
        policies: Policies,
        introductions: Introductions,
        finder: HostFinder,
        connector: Connector,
        pool: Pool,
        log: Log,
        program: str,
        now: Callable[[], float],
        generic: Generic | None = None,
        checks: MessageChecks | None = None,
        postmaster: Postmaster | None = None,
    ) -> None:
        self.options, self.policies, self.introductions = options, policies, introductions
        self.finder, self.connector = finder, connector
        self.pool, self.log, self.program, self.now = pool, log, program, now
        self.generic, self.checks, self.postmaster = generic, checks, postmaster
        self.usual: Terms | None = None
        """The same for every next hop and sender: nobody needs to be asked."""
        if policies.constant and introductions.logins is None and not policies.standard.checked:
            self.usual = Terms(policies.standard)


class Delivery:
    def __init__(self, parts: Parts, request: Request, payload: Payload) -> None:
        self._parts, self._request, self._payload = parts, request, payload
        self._mail_from = request.entry.envelope.sender
        self._rcpt_to = request.addresses
        self._results: list[Result | None] = [None] * len(request.indexes)
        self._left = list(range(len(request.indexes)))
        """Positions in the request that have no last word yet."""
        self._why: Verdict | None = None
        """Why the last host or name failed."""
        self._put_off: dict[int, Result] = {}
        """What the last host that spoke said to each of them; void when a host has failed after that."""
        self._tried: set[tuple[str, int]] = set()
        """Addresses that have had their say in a session from the pool."""
        self._addresses = 0
        self._sessions = 0
        self._age = parts.now() - request.entry.envelope.arrival
        payload.long_lines = self._long_lines

    async def run(self) -> list[Result]:
        checks, generic = self._parts.checks, self._parts.generic
        if checks is not None:
            translate = None if generic is None else lambda header: translated(header, generic)
            self._payload.checks = lambda: checks.begin(self._request.entry.id, translate)
        try:
            if generic is not None:
                await self._translate(generic)
            if self._parts.options.flags:
                await self._prepend(self._parts.options.flags)
        except TableError as error:
            self._settle_all(Verdict("4.3.0", f"address rewriting failed: {error}"), "none")
        else:
            if self._refuse_bad_addresses():
                await self._try_hops()
        return [result for result in self._results if result is not None]

    async def _translate(self, generic: Generic) -> None:
        """generic(5): other addresses on the wire, in envelope and header."""
        self._mail_from = await generic.address(self._mail_from)
        self._rcpt_to = [await generic.address(address) for address in self._rcpt_to]
        if self._parts.checks is None:
            await self._payload.change_header(lambda header: translated(header, generic))

    async def _prepend(self, flags: str) -> None:
        """flags=DOR of smtp(8).  A message for several recipients is told none of them."""
        lines = [f"Return-Path: <{self._mail_from}>"] if "R" in flags else []
        if len(self._rcpt_to) == 1:
            (recipient,) = self._request.recipients
            if "O" in flags:
                lines.append(f"X-Original-To: {recipient.original or recipient.address}")
            if "D" in flags:
                lines.append(f"Delivered-To: {self._rcpt_to[0]}")
        new = "".join([f"{line}\n" for line in lines if line.isprintable()]).encode("utf-8", "surrogateescape")

        async def longer(header: bytes) -> bytes:
            return new + header

        if new:
            await self._payload.change_header(longer)

    # --- where to

    async def _try_hops(self) -> None:
        options = self._parts.options
        hops = split(self._request.nexthop)
        first_fallback = len(hops)
        hops += options.fallback
        if not hops:
            self._settle_all(Verdict(CONFIGURATION, "no next hop", site=True), "none")
        tried = 0
        for number, text in enumerate(hops):
            tried = number
            last = number == len(hops) - 1
            problem, terms = "", self._parts.usual
            if terms is None:
                problem, terms = await self._agree(text)
            session = self._parts.pool.take_hop(text, terms) if terms is not None else None
            if session is not None and terms is not None:
                await self._with_session(session, text, terms, final=False)
                if not self._left:
                    return
            try:
                hop = parse(text, options.ports, default_port=options.port, lmtp=options.lmtp)
            except ValueError as error:
                self._parts.log.warning(self._parts.program, str(error))
                self._note(Verdict(CONFIGURATION, str(error), site=True))
                continue
            hosts = await self._parts.finder.find(hop)
            if hosts.why is not None:
                self._note(hosts.why)
            looped = not hosts.peers and hosts.why is not None and hosts.why.dsn == LOOP
            last = last or hosts.we_are_mx or looped
            if terms is None:
                self._without_policy(problem, text, hosts)
            else:
                await self._try_hosts(hop, text, terms, hosts, last)
            if not self._left or last:
                break
        if self._left:
            self._give_up(hops, tried, first_fallback)

    async def _agree(self, text: str) -> tuple[str, Terms | None]:
        """What a session with that next hop must be like; or why nobody can tell."""
        parts = self._parts
        try:
            policy = await parts.policies.find(destination(text, parts.options.lmtp))
        except PolicyError as error:
            return str(error), None
        logins = parts.introductions.logins
        # A session that was checked for another next hop's name proves nothing for this one, and one that was logged
        # in for it is not this one's.
        bound = text if policy.checked or logins is not None else ""
        owner = logins.owner(self._request.entry.envelope.sender) if logins is not None else ""
        return "", Terms(policy, owner, bound)

    def _without_policy(self, problem: str, text: str, hosts: Hosts) -> None:
        name = destination(text, self._parts.options.lmtp)
        for peer in hosts.peers[: self._parts.options.address_limit or None]:
            self._parts.log.warning(self._parts.program, f"TLS policy lookup for {name}/{peer.host}: {problem}")
        if hosts.peers:
            self._note(Verdict("4.7.5", problem, site=True))

    def _note(self, why: Verdict) -> None:
        """A look-up failed.  A temporary failure outlives a later permanent one."""
        if self._why is None or not self._why.temporary or why.temporary:
            self._why = why
            self._put_off.clear()

    def _long_lines(self) -> None:
        text = f"breaking line > {self._parts.options.line_limit} bytes with <CR><LF>SPACE"
        self._parts.log.info(self._parts.program, f"{self._request.entry.id}: {text}")

    async def _try_hosts(self, hop: NextHop, text: str, terms: Terms, hosts: Hosts, last_hop: bool) -> None:
        options = self._parts.options
        peers = hosts.peers
        for number, peer in enumerate(peers):
            self._addresses += 1
            last = number == len(peers) - 1 or self._addresses == options.address_limit
            if not self._has_had_its_say(peer):
                session = self._parts.pool.take_address(peer, terms)
                if session is not None:
                    session.peer = peer  # the same address, which may have had another name for another domain
                    await self._with_session(session, text, terms, final=False)
            if self._left and not self._has_had_its_say(peer):
                await self._with_host(hop, text, terms, peer, last_hop, last)
            if not self._left or last or self._sessions == options.session_limit:
                return

    def _has_had_its_say(self, peer: Peer) -> bool:
        return (peer.address, peer.port) in self._tried

    async def _with_host(
        self, hop: NextHop, text: str, terms: Terms, peer: Peer, last_hop: bool, last: bool
    ) -> None:
        """Connect, and hand over what is left.  ``last``: the last host of this next hop."""
        parts, final = self._parts, last_hop and last
        hello = await self._introduce(hop, text, terms.policy, peer, final)
        while hello is not None:
            session, problem = await parts.connector.connect(peer, hello)
            if problem is not None:
                self._tell_postmaster(session)
                again = session.tls_failed and self._may_do_without_tls(hello)
                if again:
                    parts.log.info(parts.program, f"{self._request.entry.id}: {problem.reason}")
                else:
                    self._host_failed(problem, peer, final=final)
            else:
                self._sessions += 1
                full = self._sessions == parts.options.session_limit
                again = await self._with_session(session, text, terms, final=last_hop and (last or full))
                self._sessions -= again
            hello = hello.plain() if again else None

    async def _introduce(self, hop: NextHop, text: str, policy: Policy, peer: Peer, final: bool) -> Hello | None:
        """None: nothing can be said to this host now."""
        parts = self._parts
        if policy.wrapped and not policy.required:
            prefix = "lmtp" if parts.options.lmtp else "smtp"
            needed = f'{prefix}_tls_wrappermode requires "{prefix}_tls_security_level = encrypt" (or stronger)'
            parts.log.warning(parts.program, needed)
            return None
        detect_loops = parts.finder.detects_loops(hop)
        try:
            return await parts.introductions.hello(
                self._request, policy, hop, text, peer, self._age, detect_loops
            )
        except PolicyError as error:
            self._without_policy(str(error), text, Hosts([peer]))
        except TableError:
            self._host_failed(
                Verdict("4.3.0", f"local data error while talking to {peer.named}", site=True), peer, final=final
            )
        return None

    def _may_do_without_tls(self, hello: Hello) -> bool:
        """Optional TLS has failed: Postfix waits whether it works at the next attempt, and never shows a password
        because of that."""
        old_enough = self._age >= self._parts.options.plain_after
        return hello.policy.level is Level.MAY and old_enough and hello.login is None

    def _host_failed(self, problem: Verdict, peer: Peer, *, final: bool) -> None:
        """No session came about."""
        self._why = problem
        self._put_off.clear()
        if problem.dsn in (NO_CONNECTION, NOT_BOUND):
            self._parts.log.info(self._parts.program, problem.reason)
        elif final or not problem.temporary:
            self._settle_all(problem, peer.relay)
        else:
            self._parts.log.info(self._parts.program, f"{self._request.entry.id}: {problem.reason}")

    # --- a session

    async def _with_session(self, session: Session, text: str, terms: Terms, *, final: bool) -> bool:
        """Hand over what is left.  Not ``final``: another host can be tried for what is put off.  True: the host can be
        tried again without TLS."""
        left = self._left
        reused = session.uses > 0
        connected = self._parts.now() if reused else session.ready
        if reused and session.secure is not None:
            session.secure.summarize(session.tls_connection, "reused")
        outcome = await session.deliver(
            Transaction(self._payload, self._commands, self._downgraded, self._request.entry.envelope.trace == "verify")
        )
        self._tell_postmaster(session)
        if session.usable:
            self._parts.pool.keep(session, text, terms, self._request.nexthop)
        if outcome.stale:
            return False
        if reused:
            self._tried.add((session.peer.address, session.peer.port))
        broken = outcome.failure is not None and outcome.failure.dsn == LOST and session.secure is not None
        again = broken and not reused and self._may_do_without_tls(session.hello)
        self._judge(session, outcome, left, connected, final and not again)
        return again and bool(self._left)

    def _tell_postmaster(self, session: Session) -> None:
        if self._parts.postmaster is not None and session.transcript is not None:
            self._parts.postmaster.hear(session.transcript, session.peer.relay, self._request.entry.envelope.sender)

    def _judge(
        self, session: Session, outcome: Outcome, left: list[int], connected: float, final: bool
    ) -> None:
        relay, uses = session.peer.relay, session.uses
        kept: list[int] = []
        success: dict[str, str] | None = None
        noted: set[str] = set()
        verdicts = outcome.verdicts or [None] * len(left)
        for position, verdict in zip(left, verdicts, strict=True):
            verdict = verdict or outcome.failure
            assert verdict is not None
            if verdict.sent:
                if success is None:
                    success = _success_details(verdict, outcome, final="X" in self._parts.options.flags)
                self._results[position] = Result(
                    SENT, verdict.dsn, verdict.reason, relay, connected, uses, details=success
                )
            elif verdict.temporary and not final:
                self._put_off[position] = _failed(verdict, relay, connected, uses)
                kept.append(position)
                if verdict.reason not in noted:
                    noted.add(verdict.reason)
                    self._parts.log.info(self._parts.program, f"{self._request.entry.id}: {verdict.reason}")
            else:
                self._results[position] = _failed(verdict, relay, connected, uses)
        self._left = kept

    def _commands(self, features: Features, peer: Peer) -> tuple[list[bytes], bytes, list[bytes]] | Verdict:
        envelope, payload, request = self._request.entry.envelope, self._payload, self._request
        known = envelope.recipients
        size = payload.wire_size
        if features.size and size > features.size:
            text = f"message size {size} exceeds size limit {features.size} of server {peer.named}"
            return Verdict("5.3.4", text)
        if envelope.smtputf8 and not features.utf8 and self._needs_utf8():
            return Verdict("5.6.7", f"SMTPUTF8 is required, but was not offered by host {peer.named}")
        mail = commands.mail(
            envelope, features, None if self._may_convert(features) else size,
            sender=self._mail_from, eight_bit=payload.eight_bit, utf8=envelope.smtputf8,
            dummy_auth=self._parts.options.dummy_auth,
        )
        rcpts = [
            commands.rcpt(known[request.indexes[position]], self._rcpt_to[position], features)
            for position in self._left
        ]
        forward: list[bytes] = []
        if features.xforward and self._parts.options.xforward:
            forward = list(commands.xforward(envelope, request.entry.id, features.xforward))
        return forward, mail, rcpts

    def _needs_utf8(self) -> bool:
        addresses = (self._rcpt_to[position] for position in self._left)
        return self._payload.needs_utf8 or not all(address.isascii() for address in addresses)

    def _may_convert(self, features: Features) -> bool:
        """A text that is not known to be of 7 bits may have to be changed for this server; then nobody knows its size
        yet, and none is told."""
        return self._parts.options.convert_8bit and not features.eight_bit and self._payload.may_have_8_bits

    def _downgraded(self, features: Features) -> bool:
        return self._may_convert(features) and (self._payload.eight_bit or not self._payload.is_ascii)

    # --- the last word

    def _refuse_bad_addresses(self) -> bool:
        """Nothing that could break out of a command line is sent.  True: somebody is left."""
        try:
            commands.path(self._mail_from)
        except commands.BadAddress:
            self._settle_all(Verdict("5.1.7", "bad sender address syntax"), "none")
        for position in list(self._left):
            try:
                commands.path(self._rcpt_to[position])
            except commands.BadAddress:
                self._results[position] = _failed(Verdict("5.1.3", "bad recipient address syntax"), "none")
                self._left.remove(position)
        return bool(self._left)

    def _give_up(self, hops: list[str], tried: int, first_fallback: int) -> None:
        """No host took these recipients."""
        for position in list(self._left):
            if position in self._put_off:
                self._results[position] = self._put_off[position]
                self._left.remove(position)
        why = self._why or Verdict("4.3.0", UNAVAILABLE, site=True)
        if not why.temporary:
            # A mistake in our own configuration must not return people's mail.
            parameter = ""
            if tried >= first_fallback:
                parameter = "smtp_fallback_relay"
            elif not self._parts.options.lmtp and hops[0] == self._parts.options.relayhost:
                parameter = "relayhost"
            if parameter:
                self._parts.log.warning(self._parts.program, f"{parameter} configuration problem")
                why = Verdict(CONFIGURATION, why.reason, why.reply, site=True, host=why.host)
        self._settle_all(why, "none")

    def _settle_all(self, verdict: Verdict, relay: str) -> None:
        for position in self._left:
            self._results[position] = _failed(verdict, relay)
        self._left = []


def _failed(verdict: Verdict, relay: str, connected: float = 0.0, uses: int = 1) -> Result:
    status = DEFERRED if verdict.temporary else BOUNCED
    details = {"action": "delayed" if verdict.temporary else "failed"}
    if verdict.reply:
        details |= {"remote_mta": f"dns; {verdict.host}", "diagnostic_type": "smtp", "diagnostic": verdict.reply}
    return Result(
        status, verdict.dsn, verdict.reason, relay, connected, uses, details=details,
        destination_down=verdict.site and verdict.temporary,
    )


def _success_details(verdict: Verdict, outcome: Outcome, *, final: bool) -> dict[str, str]:
    """Action "passed": the next host sends the notification of success, if one was asked for (RFC 3461 5.2.1).
    ``final``: it goes no further from there."""
    return {
        "action": "passed" if outcome.handed_on_dsn else "delivered" if final else "relayed",
        "remote_mta": f"dns; {verdict.host}",
        "diagnostic_type": "smtp",
        "diagnostic": verdict.reply,
    }


