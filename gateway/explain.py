"""What would happen to a mail, and why: `mailgateway explain`.

Nothing here decides anything.  The gateway's own parts are composed as ever, with tables and restrictions that write
down what they are asked and what they answer; then a made-up mail is taken through them, without being delivered:

    restrictions    each with its outcome, as an SMTP client would meet them
    rewriting       each step that changes an address, with the table entry that says so
    expansion       virtual aliases, with the entries
    routing         address class, transport, next hop, and the parameter or entry that decides
    delivery        what the transport says of itself: hosts in order, TLS level, the command line that would run
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from zope.interface import implementer

from gateway.clock import time_of_day
from gateway.config import Configuration
from gateway.interfaces import (
    DNSError,
    Entry,
    Envelope,
    IRestriction,
    Log,
    Place,
    Recipient,
    Request,
    TableError,
)
from gateway.log import MemoryLog
from gateway.parts import Parts
from gateway.policy.evaluator import Evaluator, Item
from gateway.policy.session import Session
from gateway.policy.verdict import Outcome, Verdict
from gateway.tables.base import Table
from gateway.tables.registry import Tables
from spool.interfaces import RecipientState

STAGES = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")


@dataclass(slots=True)
class Mail:
    """The mail that is asked about.  Without a client it is handed in on this machine."""

    recipient: str
    sender: str = ""
    client: str = ""
    client_name: str = ""
    """Its verified host name; "" = look it up."""
    helo: str = ""
    service: str = ""
    """The smtpd service of master.cf; "" = the first."""


@dataclass(slots=True)
class Step:
    """One thing that would happen."""

    part: str
    """restriction, rewriting, expansion, routing, delivery, or table (an entry that was found on the way)."""
    what: str
    """The restriction, the parameter, the service …"""
    outcome: str
    because: list[str] = field(default_factory=list)
    """Table entries, "type:name, key KEY, FILE:LINE: VALUE"."""


async def explain(configuration: Configuration, reactor: Any, mail: Mail) -> tuple[list[Step], list[str]]:
    """The steps in their order, and what the gateway would warn of."""
    log = MemoryLog()
    work = _Explanation(configuration, reactor, log, mail)
    try:
        await work.run()
    finally:
        work.parts.tables.close()
    return work.steps, [text for _, text in log.lines if text.startswith(("warning:", "error:"))]


class _Explanation:
    def __init__(self, configuration: Configuration, reactor: Any, log: Log, mail: Mail) -> None:
        async def nowhere(site: str) -> str:
            return ""

        self.mail = mail
        self.steps: list[Step] = []
        self.hits: list[str] = []
        self.parts = Parts(configuration, reactor, log, notify=lambda *message: None, flush_site=nowhere)
        self.parts.tables = WatchedTables(
            self.hits, clock=reactor, log=log, reactor=reactor, resolver=self.parts.resolver
        )

    def add(self, part: str, what: str, outcome: str) -> None:
        self.steps.append(Step(part, what, outcome, list(self.hits)))
        self.hits.clear()

    async def run(self) -> None:
        try:
            if self.mail.client and not await self._restrictions():
                return
            sender = await self._rewritten(self.mail.sender, Place.ENVELOPE_SENDER, "sender")
            recipient = await self._rewritten(self.mail.recipient, Place.ENVELOPE_RECIPIENT, "recipient")
            members = await self.parts.rewriting.expand(recipient)
            if members != [recipient]:
                self.add("expansion", "virtual_alias_maps", ", ".join(members))
            for member in members:
                await self._routed(sender, member)
        except TableError as error:
            self.add("table", "look-up failed", f"{error}: the mail would wait and be tried again")

    # --- the SMTP dialogue ---------------------------------------------------------------------------------------

    async def _restrictions(self) -> bool:
        """False if the client is refused."""
        factories = self.parts.smtpd_factories()
        if not factories:
            self.add("restriction", "master.cf", "no smtpd service: nobody listens")
            return False
        name = self.mail.service or next(iter(factories))
        evaluator = factories[name].service.evaluator
        self._watch(evaluator)
        session = await self._session()
        reply = await evaluator.connect(session)
        if reply is None:
            reply = await evaluator.helo(session, self.mail.helo)
        session.helo, session.protocol = self.mail.helo, "ESMTP"
        if reply is None:
            session.where = "MAIL"
            reply = await evaluator.mail(session, self.mail.sender)
        session.sender = self.mail.sender
        if reply is None:
            session.where = "RCPT"
            reply = await evaluator.rcpt(session, self.mail.recipient)
        self.add("restriction", f"smtpd service {name}", f"refused: {reply}" if reply else "accepted")
        return reply is None

    async def _session(self) -> Session:
        address, name = self.mail.client, self.mail.client_name or "unknown"
        if not self.mail.client_name:
            try:
                found = await self.parts.resolver.hostname(address)
                if address in await self.parts.resolver.native(found):
                    name = found
            except DNSError:
                pass
        return Session(client_name=name, client_address=address, client=f"{name}[{address}]", reverse_name=name)

    def _watch(self, evaluator: Evaluator) -> None:
        lists = evaluator.lists
        for stage in STAGES:
            setattr(lists, stage, self._watched(f"smtpd_{stage}_restrictions", getattr(lists, stage)))
        if lists.unlisted_recipient is not None:
            lists.unlisted_recipient = _Watched(self, "smtpd_reject_unlisted_recipient", lists.unlisted_recipient)
        if lists.unlisted_sender is not None:
            lists.unlisted_sender = _Watched(self, "smtpd_reject_unlisted_sender", lists.unlisted_sender)

    def _watched(self, where: str, items: Iterable[Item]) -> list[Item]:
        return [Item(_Watched(self, where, item.restriction), item.warn) for item in items]

    def met(self, where: str, restriction: IRestriction, verdict: Verdict) -> Verdict:
        outcomes = {
            Outcome.DUNNO: "goes on", Outcome.PERMIT: "permits", Outcome.ACT: f"{verdict.action} {verdict.argument}"
        }
        outcome = outcomes.get(verdict.outcome, verdict.reply if verdict.code else verdict.outcome.name.lower())
        if verdict.outcome is Outcome.THEN:
            outcome = "the result is a list of restrictions"
            verdict = replace(verdict, items=self._watched(f"{where}, {restriction.name}", verdict.items))
        self.add("restriction", f"{where}: {restriction.name}", outcome.strip())
        return verdict

    # --- rewriting and routing -----------------------------------------------------------------------------------

    async def _rewritten(self, address: str, place: Place, what: str) -> str:
        rewriting = self.parts.rewriting
        for step in rewriting.steps:
            if place not in step.places:
                continue
            new = await step.rewrite(address, place)
            if new != address:
                self.add("rewriting", f"{what}: {step.name}", f"{address or '<>'} becomes {new}")
                address = new
            self.hits.clear()
        if place is Place.ENVELOPE_SENDER:
            return await rewriting.envelope_sender(self.mail.sender)
        return await rewriting.envelope_recipient(self.mail.recipient)

    async def _routed(self, sender: str, recipient: str) -> None:
        self.hits.clear()
        found = await self.parts.router.explain(sender, recipient)
        route = found.route
        self.add(
            "routing", f"{recipient}: {route.address_class.value} domain",
            f"transport {route.transport}, next hop {route.nexthop} (by {found.reason})",
        )
        service = self.parts.configuration.service(route.transport)
        transport = self.parts.transports.get(route.transport)
        if service is None or transport is None:
            self.add("delivery", route.transport, "no such service in master.cf: the mail would wait")
            return
        settings = self.parts.settings
        if route.transport in settings.words("defer_transports"):
            self.add("delivery", "defer_transports", "waits until mail is flushed (sendmail -q)")
        limits = ", ".join(
            f"{name.replace('_', ' ')} {settings.transport_number(route.transport, name) or 'unlimited'}"
            for name in ("destination_concurrency_limit", "destination_recipient_limit")
        )
        place = f"{service.path}, line {service.line}"
        self.add("delivery", f"service {service.name}", f"{service.command}, {limits} ({place})")
        describe = getattr(transport, "describe", None)
        if describe is not None:
            envelope = Envelope(sender, [Recipient(recipient, self.mail.recipient)], time_of_day(self.parts.reactor))
            entry = Entry("QUEUEID", envelope, [RecipientState()])
            for line in await describe(Request(entry, route.transport, route.nexthop, [0], [route.recipient])):
                self.add("delivery", f"service {service.name}", line)


@implementer(IRestriction)
class _Watched:
    """A restriction whose verdict is noted."""

    def __init__(self, explanation: _Explanation, where: str, inner: IRestriction) -> None:
        self.name = inner.name
        self._explanation, self._where, self._inner = explanation, where, inner

    async def check(self, session: Any) -> Verdict:
        self._explanation.hits.clear()
        return self._explanation.met(self._where, self._inner, await self._inner.check(session))


class WatchedTables(Tables):
    """Tables that note each entry they give, with its place, in ``hits``."""

    def __init__(self, hits: list[str], **environment: Any) -> None:
        super().__init__(**environment)
        self._hits = hits

    def _make(self, name: str, settings: Any, substitution: bool) -> Table:
        return WatchedTable(super()._make(name, settings, substitution), self._hits)


class WatchedTable(Table):
    def __init__(self, inner: Table, hits: list[str]) -> None:
        super().__init__(inner.name)
        self.folds_case, self.whole_keys = inner.folds_case, inner.whole_keys
        self.source, self.findings, self.entries, self.close = (  # type: ignore[method-assign]
            inner.source, inner.findings, inner.entries, inner.close
        )
        self._inner, self._hits = inner, hits

    async def lookup(self, key: str) -> str | None:
        value = await self._inner.lookup(key)
        if value is not None:
            place = self._inner.source(key)
            self._hits.append(f"{self.name}, key {key}{f', {place}' if place else ''}: {value}")
        return value


