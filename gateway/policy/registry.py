"""From the words of a restriction list to its restrictions: name → maker.

A maker gets the Toolbox (what restrictions may use) and the Arguments (the words that follow its name, of which it
takes what is its own).  ``compile_list`` is called at composition for main.cf's lists, and later for lists that stand
in access tables.  A name that nobody knows raises RestrictionError with Postfix's words; if it stands in a table, the
answer is 451 4.3.5 then.  Adding a restriction is adding an entry to RESTRICTIONS, or a plug-in that main.cf names as
``python:NAME``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gateway import plugins
from gateway.addresses.recipients import Destination, Recipients
from gateway.config import Settings
from gateway.interfaces import IAcceptance, IResolver, IRestriction, Log
from gateway.policy.evaluator import Item
from gateway.policy.session import Session
from gateway.policy.verdict import Verdict, refuse, then
from gateway.tables import Tables


class RestrictionError(Exception):
    """A restriction list cannot be understood; one line."""


@dataclass(slots=True)
class Toolbox:
    """What restrictions may use; ``settings`` are those of the service."""

    settings: Settings
    log: Log
    tables: Tables
    resolver: IResolver
    addresses: Recipients
    clock: IReactorTime
    own_addresses: frozenset[str] = frozenset()
    """The IP addresses that we receive mail on (inet_interfaces, proxy_interfaces)."""
    plugins: Mapping[str, Callable[[Settings, str], IRestriction]] = field(default_factory=dict)
    verify: Callable[[str], Awaitable[Sequence[str]]] | None = None
    """Asks whether mail to an address would be taken: (status, reason), see gateway.policy.verification."""
    acceptances: Mapping[str, IAcceptance] = field(default_factory=dict)
    """Delivery services with limits of their own, by name."""
    classes: dict[str, Sequence[Item]] = field(default_factory=dict)
    """smtpd_restriction_classes, compiled when first used."""
    opening: list[str] = field(default_factory=list)
    services: dict[str, Any] = field(default_factory=dict)
    """Policy services by how they are written: who asks the same one shares its connections."""

    async def destination(self, session: Session, address: str) -> Destination:
        """Where an address leads; asked once for each address that a session is about."""
        known = session.resolved.get(address)
        if known is None:
            sender = session.sender if address == session.recipient and session.sender else ""
            known = session.resolved[address] = await self.addresses.destination(address, sender)
        return known


class Arguments:
    """The words behind a restriction's name."""

    def __init__(self, words: Sequence[str], list_name: str) -> None:
        self.words = list(words)
        self.list_name = list_name
        self._at = 0

    def next(self) -> str | None:
        if self._at >= len(self.words):
            return None
        self._at += 1
        return self.words[self._at - 1]

    def back(self) -> None:
        self._at -= 1

    def need(self, name: str, what: str) -> str:
        word = self.next()
        if word is None:
            raise RestrictionError(f'{self.list_name}: restriction "{name}" needs {what} behind it')
        return word


Maker = Callable[[Toolbox, Arguments], IRestriction]
RESTRICTIONS: dict[str, Maker] = {}


def restriction(*names: str) -> Callable[[Maker], Maker]:
    """Decorator: register a maker."""

    def register(maker: Maker) -> Maker:
        for name in names:
            RESTRICTIONS[name] = maker
        return maker

    return register


@implementer(IRestriction)
class Asking:
    """A restriction that is a coroutine function of the session."""

    def __init__(self, name: str, ask: Callable[[Session], Awaitable[Verdict]]) -> None:
        self.name = name
        self._ask = ask

    def check(self, session: Session) -> Awaitable[Verdict]:
        return self._ask(session)


@implementer(IRestriction)
class Plain:
    """A restriction that is a plain function of the session."""

    def __init__(self, name: str, answer: Callable[[Session], Verdict]) -> None:
        self.name = name
        self._answer = answer

    async def check(self, session: Session) -> Verdict:
        return self._answer(session)


def compile_list(tools: Toolbox, words: Sequence[str], list_name: str, default_access: str = "") -> list[Item]:
    """``default_access``: the restriction that a bare "type:name" stands for in this list ("" = none)."""
    items: list[Item] = []
    arguments = Arguments(words, list_name)
    warn = False
    while (word := arguments.next()) is not None:
        name = word.lower()
        if name == "warn_if_reject":
            warn = True
            continue
        if ":" in word and not word.startswith("{"):
            made = _by_table(tools, arguments, word, default_access)
        elif name in RESTRICTIONS:
            made = RESTRICTIONS[name](tools, arguments)
        elif (members := _class(tools, word)) is not None:
            made = _always(word, then(members))
        else:
            raise RestrictionError(f'unknown smtpd restriction: "{word}"')
        items.append(Item(made, warn, word))
        warn = False
    return items


def _always(name: str, verdict: Verdict) -> IRestriction:
    return Plain(name, lambda _: verdict)


def _by_table(tools: Toolbox, arguments: Arguments, word: str, default: str) -> IRestriction:
    kind, _, name = word.partition(":")
    if kind == "python":
        if name in tools.plugins:
            return tools.plugins[name](tools.settings, name)
        if plugins.find(IRestriction, name.partition(":")[0]) is not None:
            return _by_plugin(tools, word, name)
    if not default:
        raise RestrictionError(
            f"{arguments.list_name}: specify one of (check_client_access, check_helo_access, check_sender_access, "
            f'check_recipient_access, check_etrn_access) before access map "{word}"'
        )
    arguments.back()
    return RESTRICTIONS[default](tools, arguments)


def _by_plugin(tools: Toolbox, word: str, name: str) -> IRestriction:
    try:
        made = plugins.make(IRestriction, name, tools.settings)
    except plugins.PluginError as error:
        raise RestrictionError(str(error)) from error

    async def ask(session: Session) -> Verdict:
        try:
            verdict = await made.check(session)
        except Exception as error:
            tools.log.warning("smtpd", f"{word}: {type(error).__name__}: {error}")
            return refuse(451, "4.3.5", "Server configuration error", serious=True)
        if not isinstance(verdict, Verdict):
            tools.log.warning("smtpd", f"{word}: the answer is no Verdict")
            return refuse(451, "4.3.5", "Server configuration error", serious=True)
        return verdict

    return Asking(word, ask)


def _class(tools: Toolbox, name: str) -> Sequence[Item] | None:
    """The list of a restriction class; None if there is no such class."""
    if name in tools.classes:
        return tools.classes[name]
    if name not in tools.settings.words("smtpd_restriction_classes"):
        return None
    if name in tools.opening:
        raise RestrictionError(f"restriction class `{name}' refers to itself")
    if not tools.settings.is_set(name):
        raise RestrictionError(f"restriction class `{name}' needs a definition")
    tools.opening.append(name)
    try:
        tools.classes[name] = compile_list(tools, tools.settings.words(name), name)
    finally:
        tools.opening.pop()
    return tools.classes[name]
