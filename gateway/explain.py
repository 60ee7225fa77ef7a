"""What would happen to a mail, and why: `mailgateway explain`.

Nothing here decides anything.  The gateway's own parts are composed as ever, with tables and restrictions that write
down what they are asked and what they answer; then made-up mails are taken through them, without being delivered:

    restriction     each with its outcome, as an SMTP client would meet them, and what access tables do to the mail
    rewriting       each step that changes an address, with the table entry that says so
    expansion       virtual aliases, with the entries
    copy            who gets a blind copy, and by which parameter
    routing         address class, transport, next hop, and the parameters and entries that decide
    delivery        limits; hosts in order and TLS level; the command line that would run; what local delivery does
    table           a table that does not answer

A Step that is not ``good`` says that the mail would be refused, returned, or wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from zope.interface import implementer

from gateway.addresses.rewriting import blind_copies
from gateway.clock import time_of_day
from gateway.config import Configuration, Service, Settings
from gateway.content.options import IntakeOptions
from gateway.interfaces import (
    SENT,
    DNSError,
    Entry,
    Envelope,
    IRestriction,
    Place,
    Recipient,
    Request,
    Result,
    TableError,
)
from gateway.log import MemoryLog
from gateway.parts import Parts
from gateway.policy.evaluator import Evaluator, Item
from gateway.policy.session import Session
from gateway.policy.verdict import Outcome, Verdict
from gateway.policy.verification import OK
from gateway.tables.base import Table
from gateway.tables.registry import Tables
from spool.interfaces import RecipientState
from spool.memory import MemorySpool

STAGES = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
REHEARSED = frozenset(("local", "virtual", "error", "discard"))
"""Programs that can say what they would do without asking anybody else: as sendmail -bv has them do."""


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
    login: str = ""
    """As whom the client has logged in; "" = it has not."""


@dataclass(slots=True)
class Found:
    """An entry of a table that was used."""

    table: str
    key: str
    place: str
    """FILE:LINE, if there is such a thing."""
    value: str

    def __str__(self) -> str:
        return f"{self.table}, key {self.key}{f', {self.place}' if self.place else ''}: {self.value}"


@dataclass(slots=True)
class Step:
    """One thing that would happen."""

    part: str
    """See the module."""
    what: str
    """The restriction, the parameter, the service …"""
    outcome: str
    good: bool = True
    because: list[Found] = field(default_factory=list)


class Explainer:
    """Explains mails of one configuration; ``close`` it at the end.  Raises ConfigError."""

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        async def nowhere(site: str) -> str:
            return ""

        self._hits: list[Found] = []
        self._steps: list[Step] = []
        self._log = MemoryLog()
        self._spool = MemorySpool(reactor=reactor)
        self._parts = Parts(
            configuration, reactor, self._log, notify=lambda *message: None, flush_site=nowhere,
            spool=cast(Any, self._spool), verify=self._unprobed,
        )
        self._parts.start_threads()
        self._parts.tables = WatchedTables(
            self._hits, _secret_tables(configuration), clock=reactor, log=self._log, reactor=reactor,
            resolver=self._parts.resolver,
        )
        self._evaluators: dict[str, Evaluator] = {}

    def close(self) -> None:
        self._parts.tables.close()
        self._parts.stop_threads()

    async def explain(self, mail: Mail) -> tuple[list[Step], list[str]]:
        """The steps in their order, and what the gateway would warn of."""
        self._steps, seen = [], len(self._log.lines)
        self._hits.clear()
        try:
            await self._run(mail)
        except TableError as error:
            self._add("table", "look-up failed", f"{error}: the mail would wait and be tried again", good=False)
        warnings = [text for _, text in self._log.lines[seen:] if text.startswith(("warning:", "error:"))]
        return self._steps, warnings

    def _add(self, part: str, what: str, outcome: str, *, good: bool = True) -> None:
        self._steps.append(Step(part, what, outcome, good, list(self._hits)))
        self._hits.clear()

    async def _run(self, mail: Mail) -> None:
        options, settings = IntakeOptions(), self._parts.settings
        if mail.client:
            name = self._smtpd(mail)
            if name is None or not await self._restrictions(name, mail):
                return
            configuration = self._parts.configuration
            service = next(one for one in configuration.services if one.name == name and one.type == "inet")
            settings = configuration.service_settings(service)
            options = IntakeOptions.of(settings)
        rewriting = self._parts.cleanup_for(settings).ways[options.address_mappings].rewriting
        sender = await self._rewritten(rewriting, mail.sender, Place.ENVELOPE_SENDER)
        recipient = await self._rewritten(rewriting, mail.recipient, Place.ENVELOPE_RECIPIENT)
        members = await self._expanded(rewriting, recipient)
        if options.address_mappings:
            for copy in await self._copies(self._parts.cleanup_settings(settings), sender, recipient):
                members += await self._expanded(rewriting, await rewriting.envelope_recipient(copy))
        for member in members:
            await self._routed(sender, member, mail.recipient)

    async def _unprobed(self, address: str) -> tuple[str, str]:
        """Stands for address verification (ADDRESS_VERIFICATION_README)."""
        self._add("restriction", "address verification", f"{address} would be probed; here it counts as deliverable")
        return OK, ""

    # --- the SMTP dialogue ---------------------------------------------------------------------------------------

    def _smtpd(self, mail: Mail) -> str | None:
        """The name of the service that the client meets."""
        if not self._evaluators:
            for name, factory in self._parts.smtpd_factories().items():
                evaluator = self._evaluators[name] = factory.service.evaluator
                self._watch(evaluator)
        if mail.service and mail.service not in self._evaluators:
            self._add("restriction", "master.cf", f"no smtpd service {mail.service}: nobody listens", good=False)
        elif not self._evaluators:
            self._add("restriction", "master.cf", "no smtpd service: nobody listens", good=False)
        else:
            return mail.service or next(iter(self._evaluators))
        return None

    async def _restrictions(self, name: str, mail: Mail) -> bool:
        """False if the client is refused."""
        evaluator, session = self._evaluators[name], await self._session(mail)
        reply = await self._dialogue(evaluator, session, mail)
        refused = reply is not None and not reply.startswith("2")
        self._add("restriction", f"smtpd service {name}", f"refused: {reply}" if refused else "accepted",
                  good=not refused)  # fmt: skip
        for what, value in (
            ("FILTER", session.decisions.filter), ("REDIRECT", session.decisions.redirect),
            ("BCC", ", ".join(session.decisions.copies)), ("PREPEND", ", ".join(session.decisions.prepend)),
            ("HOLD", "kept until it is released" if session.decisions.hold else ""),
            ("DISCARD", "accepted, and thrown away" if session.decisions.discard else ""),
        ):  # fmt: skip
            if value and not refused:
                self._add("restriction", f"action {what}", value, good=what not in ("HOLD", "DISCARD"))
        return not refused

    @staticmethod
    async def _dialogue(evaluator: Evaluator, session: Session, mail: Mail) -> str | None:
        """The first refusal."""
        reply = await evaluator.connect(session) or await evaluator.helo(session, mail.helo)
        session.helo, session.protocol = mail.helo, "ESMTP"
        if reply is None:
            session.where = "MAIL"
            reply = await evaluator.mail(session, mail.sender)
        session.sender = mail.sender
        if reply is None:
            session.where = "RCPT"
            reply = await evaluator.rcpt(session, mail.recipient)
        if reply is None:
            session.where, session.recipient, session.recipient_count = "DATA", mail.recipient, 1
            reply = await evaluator.data(session)
        if reply is None:
            session.where = "END-OF-MESSAGE"
            reply = await evaluator.end_of_data(session)
        return reply

    async def _session(self, mail: Mail) -> Session:
        address, name = mail.client, mail.client_name or "unknown"
        if not mail.client_name:
            try:
                found = await self._parts.resolver.hostname(address)
                if address in await self._parts.resolver.native(found):
                    name = found
            except DNSError:
                pass
        session = Session(client_name=name, client_address=address, client=f"{name}[{address}]", reverse_name=name)
        if mail.login:
            session.sasl_method, session.sasl_username = "PLAIN", mail.login
        return session

    def _watch(self, evaluator: Evaluator) -> None:
        lists = evaluator.lists
        for stage in STAGES:
            setattr(lists, stage, self._watched(f"smtpd_{stage}_restrictions", getattr(lists, stage)))
        for name in ("unlisted_recipient", "unlisted_sender"):
            inner = getattr(lists, name)
            if inner is not None:
                setattr(lists, name, _Watched(self, f"smtpd_reject_{name}", inner))

    def _watched(self, where: str, items: Iterable[Item]) -> list[Item]:
        return [item._replace(restriction=_Watched(self, where, item.restriction)) for item in items]

    async def check(self, where: str, inner: IRestriction, session: Session) -> Verdict:
        """Have a restriction's verdict, and note it."""
        self._hits.clear()
        verdict: Verdict = await inner.check(session)
        outcomes = {
            Outcome.DUNNO: "goes on", Outcome.PERMIT: "permits", Outcome.ACT: f"{verdict.action} {verdict.argument}"
        }
        outcome = outcomes.get(verdict.outcome, verdict.reply if verdict.code else verdict.outcome.name.lower())
        if verdict.outcome is Outcome.THEN:
            outcome = "the result is a list of restrictions"
            verdict = replace(verdict, items=self._watched(f"{where}, {inner.name}", verdict.items))
        if session.warning and verdict.code and not verdict.serious:
            outcome = f"goes on, and the log warns of {outcome} (warn_if_reject)"
        self._add("restriction", f"{where}: {inner.name}", outcome.strip())
        return verdict

    # --- rewriting -----------------------------------------------------------------------------------------------

    async def _rewritten(self, rewriting: Any, address: str, place: Place) -> str:
        is_sender = place is Place.ENVELOPE_SENDER
        what, first = "sender" if is_sender else "recipient", address
        for step in rewriting.steps:
            if place not in step.places:
                continue
            new = await step.rewrite(address, place)
            if new != address:
                self._add("rewriting", f"{what}: {step.name}", f"{address or '<>'} becomes {new}")
                address = new
            self._hits.clear()
        rewrite: Callable[[str], Awaitable[str]] = rewriting.envelope_sender if is_sender else (
            rewriting.envelope_recipient
        )
        result = await rewrite(first)
        self._hits.clear()
        return result

    async def _expanded(self, rewriting: Any, recipient: str) -> list[str]:
        members: list[str] = await rewriting.expand(recipient)
        if members != [recipient]:
            self._add("expansion", f"{recipient}: virtual_alias_maps", ", ".join(members))
        self._hits.clear()
        return members

    async def _copies(self, settings: Settings, sender: str, recipient: str) -> list[str]:
        parts, found = self._parts, []
        for parameter, address in (("sender_bcc_maps", sender), ("recipient_bcc_maps", recipient)):
            ask = blind_copies(parameter, settings, parts.tables, parts.own_addresses)
            if ask is not None and address and (copy := await ask(address)):
                self._add("copy", parameter, f"to {copy}")
                found.append(copy)
        if always := settings.text("always_bcc"):
            self._add("copy", self._parameter("always_bcc", settings), f"to {always}")
            found.append(always)
        return found

    # --- routing and delivery ------------------------------------------------------------------------------------

    def _parameter(self, name: str, settings: Settings | None = None) -> str:
        """With the place where it is set."""
        place = (settings or self._parts.settings).place(name)
        return f"{name} ({place.file}:{place.line})" if place.file else name

    async def _routed(self, sender: str, recipient: str, original: str) -> None:
        self._hits.clear()
        found = await self._parts.router.explain(sender, recipient)
        route, settings = found.route, self._parts.settings
        by = ", ".join(map(self._parameter, found.reason.split(", ")))
        outcome = f"transport {route.transport}, next hop {route.nexthop or 'none'} (by {by})"
        kind = "not an address" if found.broken else f"{route.address_class.value} domain"
        self._add("routing", f"{recipient}: {kind}", outcome, good=not found.broken)
        service = self._parts.configuration.service(route.transport)
        if service is None or route.transport not in self._parts.transports:
            what = "no such service in master.cf: the mail would wait"
            self._add("delivery", f"service {route.transport}", what, good=False)
            return
        if route.transport in settings.words("defer_transports"):
            what = "waits until mail is flushed (sendmail -q)"
            self._add("delivery", self._parameter("defer_transports"), what, good=False)
        self._add("delivery", f"service {service.name}", f"{service.command}, {self._limits(service)}")
        envelope = Envelope(sender, [Recipient(recipient, original)], time_of_day(self._parts.reactor))
        draft = self._spool.draft(envelope)
        draft.write(b"\n")
        await draft.commit(hold=True)  # an empty message, that nobody comes for
        entry = Entry(draft.id, envelope, [RecipientState()])
        await self._delivered(service, Request(entry, route.transport, route.nexthop, [0], [route.recipient]))
        await self._spool.delete(draft.id)

    def _limits(self, service: Service) -> str:
        settings, name = self._parts.settings, service.name
        told = [
            f"{suffix.replace('_', ' ')} {settings.transport_number(name, suffix) or 'unlimited'}"
            for suffix in ("destination_concurrency_limit", "destination_recipient_limit")
        ]
        if delay := settings.transport_seconds(name, "destination_rate_delay"):
            told.append(f"destination rate delay {delay:g} s")
        return f"{', '.join(told)} ({service.path}:{service.line})"

    async def _delivered(self, service: Service, request: Request) -> None:
        transport, what = self._parts.transports[service.name], f"service {service.name}"
        describe = getattr(transport, "describe", None)
        if describe is not None:
            for line in await describe(request):
                self._add("delivery", what, line, good="would " not in line)
        elif service.command.rpartition("/")[2] in REHEARSED:
            request.entry.envelope.trace = "verify"
            for result in await transport.deliver(request):
                self._result(what, request.addresses[0], result)

    def _result(self, what: str, address: str, result: Result) -> None:
        for one in (result, *result.others):
            whom = one.recipient.address if one.recipient else address
            good = one.status == SENT
            word = "" if good else "would wait: " if one.dsn.startswith("4") else "would be returned: "
            self._add("delivery", f"{what}: {whom}", f"{word}{one.reason}", good=good)


@implementer(IRestriction)
class _Watched:
    """A restriction whose verdict is noted."""

    def __init__(self, explainer: Explainer, where: str, inner: IRestriction) -> None:
        self.name = inner.name
        self._explainer, self._where, self._inner = explainer, where, inner

    async def check(self, session: Any) -> Verdict:
        return await self._explainer.check(self._where, self._inner, session)


class WatchedTables(Tables):
    """Tables that note each entry they give, with its place, in ``hits``; of those in ``secret``, not the passwords."""

    def __init__(self, hits: list[Found], secret: frozenset[str], **environment: Any) -> None:
        super().__init__(**environment)
        self._hits = hits
        self._secret = secret

    def _make(self, name: str, settings: Any, substitution: bool) -> Table:
        secret = any(name in one for one in self._secret)
        return WatchedTable(super()._make(name, settings, substitution), self._hits, secret)


def _secret_tables(configuration: Configuration) -> frozenset[str]:
    """Tables with passwords in them, and what stands for further ones."""
    every = [configuration.settings, *map(configuration.service_settings, configuration.services)]
    return frozenset(
        word for settings in every for side in ("smtp", "lmtp") for word in settings.words(f"{side}_sasl_password_maps")
    )


class WatchedTable(Table):
    def __init__(self, inner: Table, hits: list[Found], secret: bool) -> None:
        super().__init__(inner.name)
        self.folds_case, self.whole_keys = inner.folds_case, inner.whole_keys
        self.source, self.findings, self.entries, self.owner, self.close = (  # type: ignore[method-assign]
            inner.source, inner.findings, inner.entries, inner.owner, inner.close
        )
        self._inner, self._hits, self._secret = inner, hits, secret

    async def lookup(self, key: str) -> str | None:
        value = await self._inner.lookup(key)
        if value is not None:
            shown = f"{value.partition(':')[0]}:(not shown)" if self._secret else value
            self._hits.append(Found(self.name, key, self._inner.source(key) or "", shown))
        return value
