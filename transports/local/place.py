"""Where a local delivery stands, and what has become of it.

A Place is what the step at hand knows: the recipient as it is now, with whose rights, by which alias or file it came
here. It never changes; a step that goes deeper makes another one.  A Delivery is one recipient of a request: it
gathers results, remembers what was done already, and collects the addresses that are to get a message of their own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.addresses.forms import quote, split_domain, unquote
from gateway.addresses.syntax import Extensions
from gateway.config.expand import expand
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    EXPANDED,
    SENT,
    IContentSource,
    IForwarder,
    ILookupTable,
    IRouter,
    ITransport,
    Log,
    Request,
    Result,
)
from spool.envelope import NOTIFY_NEVER, NOTIFY_SUCCESS, Recipient
from spool.interfaces import Content
from transports import message
from transports.accounts import Accounts, User
from transports.local.config import LocalConfig
from transports.local.turns import Turn
from transports.process import Identity, Runner
from transports.store import Store
from transports.verdict import Verdict

RELAY = "local"

_UNCONDITIONAL = re.compile(r"\$(?:([A-Za-z0-9_]+)|\{\s*([A-Za-z0-9_]+)\s*\}|\(\s*([A-Za-z0-9_]+)\s*\))")
_RANKS = {DEFERRED: 0, BOUNCED: 1, SENT: 2, EXPANDED: 3}


@dataclass(slots=True)
class Tools:
    """What local delivery works with."""

    config: LocalConfig
    runner: Runner
    store: Store
    contents: IContentSource
    accounts: Accounts
    forwarder: IForwarder
    router: IRouter
    qualify: Callable[[str], str]
    """Completes an address (external form) by this machine's rules."""
    log: Log
    clock: Any
    """IReactorTime."""
    alias_maps: Sequence[ILookupTable] = ()
    command_maps: Sequence[ILookupTable] = ()
    transport_maps: Sequence[ILookupTable] = ()
    fallback_maps: Sequence[ILookupTable] = ()
    transports: Mapping[str, ITransport] = field(default_factory=dict)
    """Other services, for mailbox_transport and fallback_transport."""
    owner_of: Callable[[Any], int] = lambda table: 0
    """The uid of who may write a table of alias_maps; 0 = root, or who runs all this."""
    tell_user: Callable[[str, int], None] | None = None
    """Called when mail has come into a user's mbox, with where in it (biff)."""


@dataclass(slots=True, frozen=True)
class Rights:
    """On whose behalf: the user whose mailbox or .forward file it is, or the owner of a list's file."""

    identity: Identity
    home: str = ""
    shell: str = ""

    @classmethod
    def of(cls, user: User) -> Rights:
        return cls(user.identity, user.home, user.shell)


@dataclass(slots=True, frozen=True)
class Place:
    """Addresses are in internal form, but for ``original``."""

    recipient: str
    sender: str
    original: str = ""
    """As the mail system got it, external form; "" = not to be told."""
    orcpt: str = ""
    notify: int = 0
    """What the sender wants to hear (RFC 3461)."""
    local: str = ""
    """Local part, lower case."""
    user: str = ""
    extension: str = ""
    delimiter: str = ""
    first_delimiter: str = ""
    """The one that stands for $recipient_delimiter where there is no extension."""
    refused_extension: str = ""
    """One with "/", with its delimiter; it counts as none."""
    domain: str = ""
    delivered: str = ""
    """For Delivered-To:."""
    level: int = 0
    """How deep, counted as local(8) counts: a recipient is two below the alias or file that lists it, these two below
    the recipient, and a file one below a file.  The same recipient twice on one level is one."""
    within: str = ""
    """What listed this recipient: "alias", "forward", "include"; "" = the request itself."""
    expanded_from: str = ""
    """The alias that is being expanded."""
    owner: str = ""
    """The list owner, the user whose .forward file it is, or the recipient for whom an :include: file is read: others
    than this one get a message of their own.  "" = nobody."""
    unmatched: str = ""
    """Extension, with its delimiter, to be added to addresses."""
    rights: Rights | None = None
    """None: nobody's in particular."""

    def at(self, recipient: str, extensions: Extensions) -> Place:
        """The same for another recipient, with its parts worked out."""
        local, domain = split_domain(recipient)
        local = local.lower()
        user, extension = extensions.split(local)
        refused = ""
        if "/" in extension:  # it could name a file
            local, refused, extension = user, extension, ""
        return replace(
            self, recipient=recipient, local=local, user=user, extension=extension[1:], delimiter=extension[:1],
            first_delimiter=extensions.delimiters[:1], refused_extension=refused, domain=domain.lower(),
            delivered=self.delivered or recipient,
        )

    def bare(self) -> Place:
        """The same without the backslash in front."""
        return replace(
            self, recipient=self.recipient[1:], local=self.local.removeprefix("\\"), user=self.user.removeprefix("\\")
        )

    @property
    def known(self) -> Recipient:
        """The recipient as results name it."""
        return Recipient(quote(self.recipient), self.original, self.orcpt, self.notify)

    @property
    def has_extension(self) -> bool:
        """Also an empty one."""
        return bool(self.delimiter)

    def taken_over(self) -> Place:
        """For the members of a list: its success has been told (RFC 3461 5.2.7), theirs is not."""
        if not self.notify & NOTIFY_SUCCESS:
            return self
        return replace(self, notify=self.notify & ~NOTIFY_SUCCESS or NOTIFY_NEVER)

    def identity(self, default: Identity) -> Identity:
        """Whose rights programs and files get here; never root's."""
        return self.rights.identity if self.rights and self.rights.identity.uid else default

    def values(self) -> dict[str, str]:
        """What forward_path, luser_relay and command_execution_directory may name."""
        return {
            "user": self.user, "home": self.rights.home if self.rights else "", "domain": self.domain,
            "shell": self.rights.shell if self.rights else "", "recipient": self.recipient, "local": self.local,
            "mailbox": self.local, "extension": self.extension,
            "recipient_delimiter": self.delimiter or self.first_delimiter,
        }

    def fill(self, text: str, allowed: frozenset[str] | None) -> str:
        """``text`` with these values in it, censored unless ``allowed`` is None."""
        values = self.values()
        if allowed is None:
            return expand(text, values.get)
        return expand(text, lambda name: censored(values.get(name, ""), allowed))

    def has_all(self, text: str) -> bool:
        """Whether none of the values that the text names, without condition, is missing."""
        values = self.values()
        return all(values.get(match.group(match.lastindex or 0)) for match in _UNCONDITIONAL.finditer(text))


def censored(text: str, allowed: frozenset[str]) -> str:
    """Everything that a shell or a file system might take for more than a name becomes "_"."""
    if allowed.issuperset(text):
        return text
    return "".join(
        letter if letter in allowed else "_" * len(letter.encode("utf-8", "surrogateescape")) for letter in text
    )


class Delivery:
    """One recipient of a request."""

    def __init__(
        self, tools: Tools, request: Request, position: int, content: Content, been_at: frozenset[str], turn: Turn
    ) -> None:
        self.tools = tools
        self.request = request
        self.position = position
        self.content = content
        self.been_at = been_at
        """Recipients (internal form, lower case) that Delivered-To: fields of the message name."""
        self.turn = turn
        """To be had while a program runs or another service delivers."""
        self.parts: list[Result] = []
        self.forwards: dict[tuple[str, str], list[Recipient]] = {}
        """(Delivered-To, sender) → those who get a message of their own."""
        self.relayed: Place | None = None
        """The recipient for whom luser_relay was asked last."""
        self.started = tools.clock.seconds()
        self._asked = replace(request.recipients[position], address=request.addresses[position])
        self._sender = unquote(request.entry.envelope.sender)
        self.deliver: Callable[[Delivery, Place], Awaitable[None]]
        """Delivers to another local recipient (agent.deliver_to)."""
        self._seen: set[str] = set()
        self._users: dict[str, User | None] = {}

    @property
    def config(self) -> LocalConfig:
        return self.tools.config

    @property
    def only_asked(self) -> bool:
        """sendmail -bv: say what would be done."""
        return self.request.entry.envelope.trace == "verify"

    async def user(self, name: str) -> User | None:
        """The account of that name."""
        if name not in self._users:
            self._users[name] = await self.tools.accounts.find(name)
        return self._users[name]

    def original_to(self, place: Place) -> bytes:
        """The header line that names the recipient as it was given, if one is wanted."""
        return message.original_to(unquote(place.original)) if self.config.original_recipients else b""

    def first_time(self, what: str, *, always: bool = False) -> bool:
        """Whether this has not been done yet for this recipient (the duplicate filter).  ``always``: it is remembered
        beyond duplicate_filter_limit."""
        if what in self._seen:
            return False
        if always or len(self._seen) < self.config.remembered or not self.config.remembered:
            self._seen.add(what)
        return True

    # --- results ------------------------------------------------------------------------------------------------

    def sent(self, place: Place, reason: str, action: str = "delivered") -> None:
        self._add(place, Result(SENT, "2.0.0", reason, RELAY, self.started, details={"action": action}))

    def expanded(self, place: Place, action: str) -> None:
        """A list takes the recipient's place; the sender hears of it who asked for success."""
        if place.notify & NOTIFY_SUCCESS:
            self._add(place, Result(EXPANDED, "2.0.0", "alias expanded", RELAY, details={"action": action}))

    def failed(self, place: Place, dsn: str, reason: str) -> None:
        """Deferred if the code begins with 4, else bounced."""
        status = DEFERRED if dsn.startswith("4") else BOUNCED
        self._add(place, Result(status, dsn, reason, RELAY, self.started))

    def judged(self, place: Place, verdict: Verdict, sent: str) -> None:
        self._add(place, verdict.result(RELAY, sent=sent, action="delivered", connected=self.started))

    def passed(self, place: Place, results: Sequence[Result]) -> None:
        """Another transport's results."""
        for result in results:
            self._add(place, result)

    def _add(self, place: Place, result: Result) -> None:
        known = place.known
        if known != self._asked:
            result.recipient = known
        if result.status == BOUNCED and place.sender != self._sender:
            result.details["return_to"] = quote(place.sender)
        self.parts.append(result)

    def result(self) -> Result:
        """What is worst (deferred before bounced before sent), with the rest."""
        main = min(self.parts, key=lambda part: _RANKS[part.status], default=None)
        if main is None:  # nobody to deliver to
            main = Result(EXPANDED, "2.0.0", "alias expanded", RELAY, self.started)
        main.others = tuple(part for part in self.parts if part is not main)
        return main


async def ask(tables: Sequence[ILookupTable], key: str, *, partial: bool = False) -> str | None:
    """The first table's answer.  ``partial``: the key is part of what is looked for; not every table is asked such.
    Raises TableError."""
    for table in tables:
        if partial and table.whole_keys:
            continue
        found: str | None = await table.lookup(key.lower() if table.folds_case else key)
        if found is not None:
            return found
    return None
