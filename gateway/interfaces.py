"""The joints of the gateway: what others can plug into, and the values that cross them.

Whatever is *awaitable* may be an ``async def`` or return a Deferred; the caller awaits it inside a coroutine
that runs under Twisted.  Nothing here blocks the reactor.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from zope.interface import Attribute, Interface

from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import Content, Entry, IContentSource


class Log(Protocol):
    """The mail log (gateway.log.MailLog): one line a call, in Postfix's wording, made safe, with the program's tag."""

    def info(self, program: str, text: str) -> None: ...

    def warning(self, program: str, text: str) -> None:
        """The text goes out with "warning: " in front."""
        ...

    def error(self, program: str, text: str) -> None:
        """The text goes out with "error: " in front."""
        ...


# --- tables ----------------------------------------------------------------------------------------------------


class TableError(Exception):
    """A look-up could not be answered now (database away, file broken): defer, never bounce."""


class ILookupTable(Interface):
    """A lookup table, "type:name" in main.cf."""

    name = Attribute("'type:name' as configured, for messages")
    folds_case = Attribute("True: the caller lower-cases keys (hash, texthash, inline …); False: regexp, pcre …")
    whole_keys = Attribute("True: asked with the whole key only, no partial look-ups (regexp, pcre, cidr, tcp …)")

    def lookup(key: str) -> Awaitable[str | None]:
        """The value, or None.  Raises TableError."""


# --- rewriting -------------------------------------------------------------------------------------------------


class Place(enum.Enum):
    """Where an address stands; canonical_classes, masquerade_classes and the like speak of these."""

    ENVELOPE_SENDER = "envelope_sender"
    ENVELOPE_RECIPIENT = "envelope_recipient"
    HEADER_SENDER = "header_sender"
    HEADER_RECIPIENT = "header_recipient"


class IAddressRewriter(Interface):
    """One step of address rewriting."""

    name = Attribute("The parameter or plug-in that it stands for, such as 'masquerade_domains'")
    places = Attribute("frozenset of Place: where it applies; the caller leaves it out elsewhere")

    def rewrite(address: str, place: Place) -> Awaitable[str]:
        """The address as it is after this step (the same one if it does not concern it).  Raises TableError."""


# --- policy ----------------------------------------------------------------------------------------------------


class IRestriction(Interface):
    """One restriction of an smtpd_*_restrictions list; the evaluator is gateway.policy."""

    name = Attribute("As it stands in the list, with its argument")

    def check(session: Any) -> Awaitable[Any]:
        """A gateway.policy.verdict.Verdict; DUNNO lets the next restriction decide.  ``session`` is the
        gateway.policy.session.Session: client, helo, sender, recipient, SASL and TLS facts."""


class IMessageFilter(Interface):
    """Looks at a message while it is received (header checks, body checks, milters, plug-ins)."""

    name = Attribute("For the log")

    def header(name: str, value: bytes) -> Awaitable[str | None]:
        """An action for one logical header field, or None: "REJECT text", "HOLD", "PREPEND field" … as in
        header_checks(5).  Folded lines of the value are joined by LF.  Raises TableError."""

    def body(line: bytes) -> Awaitable[str | None]:
        """An action for one line of the body, without its line end, or None; as in body_checks(5)."""


# --- routing and delivery --------------------------------------------------------------------------------------



class AddressClass(enum.Enum):
    """ADDRESS_CLASS_README."""

    LOCAL = "local"
    VIRTUAL_ALIAS = "virtual alias"
    VIRTUAL_MAILBOX = "virtual mailbox"
    RELAY = "relay"
    DEFAULT = "default"


@dataclass(slots=True, frozen=True)
class Route:
    """What "resolve" answers: trivial-rewrite(8)."""

    transport: str
    """A service of master.cf."""
    nexthop: str
    """As configured, with its brackets and port; for local the recipient's domain."""
    recipient: str
    """The recipient in the form that the transport gets."""
    address_class: AddressClass


class IRouter(Interface):
    def resolve(sender: str, recipient: str) -> Awaitable[Route]:
        """Raises TableError when a table is away."""

    def address_class(recipient: str) -> Awaitable[AddressClass]:
        """The class alone, as smtpd needs it."""


SENT, DEFERRED, BOUNCED, EXPANDED = "sent", "deferred", "bounced", "expanded"
DELIVERABLE, UNDELIVERABLE = "deliverable", "undeliverable"
"""What the scheduler makes of results when it only asks (sendmail -bv)."""


@dataclass(slots=True)
class Result:
    """What became of one recipient in one attempt."""

    status: str
    """SENT, DEFERRED or BOUNCED; among ``others`` also EXPANDED: a list has taken the recipient's place, which is told
    to who asked for success, and not logged."""
    dsn: str
    """Enhanced status code (RFC 3463), its class agreeing with the status."""
    reason: str
    """For the log line "status=… (reason)", the queue listing and the notification; printable."""
    relay: str = "none"
    """"HOST[IP]:PORT", "local", "none", or the service's name."""
    connected: float = 0.0
    """Clock seconds at which a connection (or program) was ready; 0 = no such moment."""
    conn_use: int = 1
    """How often the connection was used, this delivery included."""
    recipient: Recipient | None = None
    """Whom this is about, if not the requested one (local: after aliases), with what may be told of it."""
    details: dict[str, str] = field(default_factory=dict)
    """For the notification: "remote_mta" ("dns; host"), "diagnostic_type" ("smtp", "x-unix") and "diagnostic" (text),
    if somebody else said it; "action" ("delivered", "relayed", "expanded", "failed", "delayed";
    "passed": the next hop has taken over the notification of success), "return_to" (who hears of a bounce instead of
    the sender: a list's owner)."""
    program: str = ""
    """Who has delivered, for the log line; "" = the transport that was asked."""
    soft: bool = False
    """A failure that soft_bounce has made a deferral: the log says so."""
    destination_down: bool = False
    """The next hop as a whole could not be reached: concurrency feedback is negative (see SCHEDULER_README)."""
    others: tuple[Result, ...] = ()
    """Where one recipient stands for several (an alias, a .forward file): what else became of it, for log and notices.
    Whether it is tried again is decided by the result that these belong to."""


@dataclass(slots=True, frozen=True)
class Attachment:
    """What goes along with a notice."""

    name: str
    type: str
    """Media type."""
    data: str
    """Base64."""


@dataclass(slots=True)
class Request:
    """Recipients of one message for one next hop, to be handed to a transport."""

    entry: Entry
    service: str
    """The transport: a service name of master.cf."""
    nexthop: str
    indexes: list[int]
    """Which recipients: indexes into entry.envelope.recipients."""
    addresses: list[str]
    """Their addresses as resolved (Route.recipient), parallel to ``indexes``."""
    bundle: int = 0
    """Requests of one service with the same number, but 0, are one delivery as far as limits are concerned: what they
    have to do that these limit, such as to run a program, they do one after the other."""

    @property
    def recipients(self) -> list[Recipient]:
        known = self.entry.envelope.recipients
        return [known[index] for index in self.indexes]


class ITransport(Interface):
    """Delivers.  It never touches the queue: it answers with one Result a recipient.

    With entry.envelope.trace == "verify" it delivers nothing: the results say what would become of the mail."""

    program = Attribute("The program name for the log line: 'smtp', 'pipe', 'local', 'error' …")

    def deliver(request: Request) -> Awaitable[Sequence[Result]]:
        """One Result for each of ``request.indexes``, in that order.
        A raised exception counts as "unknown mail transport error": all are deferred."""

    def stop() -> Awaitable[None]:
        """End what is idle (cached connections); deliveries in flight finish by themselves."""


@dataclass(slots=True, frozen=True)
class Offer:
    """Mail for one recipient, as an SMTP client offers it."""

    address: str
    """Where it leads (Route.recipient), without quotes."""
    nexthop: str
    sender: str
    """As given, in external form."""
    size: int
    """0 = not said."""
    client: str
    """Its IP address."""
    login: str
    """Whom it has logged in as; "" = nobody."""


class IAcceptance(Interface):
    """What a delivery service with limits of its own lets the SMTP server ask (reject_link_limits)."""

    def refuse(offer: Offer) -> Awaitable[tuple[int, str, str] | None]:
        """Why it is not taken: code, enhanced status code, text.  Raises TableError."""


class IUsesContent(Interface):
    """What a transport of another package may provide as well: it is given the way to the messages."""

    def use_content(source: Any) -> None:
        """Called once, before the first delivery, with an IContentSource: ``await source.content(entry.id)`` opens the
        message of ``request.entry``."""


class IDescribes(Interface):
    """What a transport may provide as well, for `mailgateway explain`."""

    def describe(request: Request) -> Awaitable[list[str]]:
        """Lines for people: what deliver() would do with that request.  Nothing is delivered."""


class IForwarder(Interface):
    """Puts a copy of a queued message back into the spool for other recipients (local aliases, .forward)."""

    def forward(entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> Awaitable[str]:
        """Queue the content of ``entry`` with the header lines ``prepend`` (Received, Delivered-To; LF) in front.
        Returns the new queue ID once durable; raises SpoolError."""


# --- the door into the spool -----------------------------------------------------------------------------------


class Rejected(Exception):
    """cleanup refuses a message: ``code`` (SMTP), ``dsn`` and text of the reply."""

    def __init__(self, code: int, dsn: str, text: str) -> None:
        super().__init__(f"{code} {dsn} {text}")
        self.code, self.dsn, self.text = code, dsn, text


class IIntake(Interface):
    """One message on its way through cleanup (gateway.content.cleanup.Cleanup.begin makes it)."""

    id = Attribute("The queue ID that it will have")

    def write(block: bytes) -> None:
        """Content with LF line ends, in blocks of any size and split.  Never raises for what is in it: the
        verdict comes with finish()."""

    full = Attribute("Too much waits for the disk: write no more until drained() fires")

    def drained() -> Awaitable[None]:
        """Fires when the intake is not ``full`` (any more)."""

    def finish() -> Awaitable[str]:
        """End of content: rewrite, expand, store durably.  Returns the queue ID (also for a discarded message).
        Raises Rejected (nothing is stored)."""

    def abort() -> None:
        """The client went away.  Idempotent."""


class ICleanup(Interface):
    def new_id() -> str:
        """A queue ID for a message that may come."""

    def begin(
        service: str, envelope: Envelope, received: Sequence[bytes] = (), options: Any = None, id: str = ""
    ) -> Awaitable[Any]:
        """Start a message (an IIntake).  ``envelope`` holds sender and recipients as received; ``received`` are the
        lines of the Received header to put in front, in which b"%(id)s" stands for the queue ID; ``id``: from
        new_id(), by default a fresh one."""


# --- names -----------------------------------------------------------------------------------------------------


class DNSError(Exception):
    """A name could not be looked up.  ``temporary``: try again later; else there is no such name or record.
    ``dsn``: an enhanced status code of its own."""

    def __init__(self, text: str, *, temporary: bool, dsn: str = "") -> None:
        super().__init__(text)
        self.temporary = temporary
        self.dsn = dsn


@dataclass(slots=True, frozen=True)
class MX:
    preference: int
    host: str


class IResolver(Interface):
    """DNS and the hosts file.  Names in answers are as they were given, without the final dot, of safe characters only.
    Errors: DNSError with the text of Postfix ("Host or domain name not found. Name service error for name=… type=MX:
    Host not found, try again")."""

    disabled = Attribute("True: no MX look-ups (smtp_dns_support_level, disable_dns_lookups)")

    def mx(domain: str) -> Awaitable[list[MX]]:
        """By preference; [] when the name exists and has no MX.  A null MX (RFC 7505) is [MX(0, "")]."""

    def addresses(host: str) -> Awaitable[list[str]]:
        """IPv4 and IPv6 addresses by inet_protocols, from DNS and/or the hosts file by smtp_host_lookup."""

    def native(host: str) -> Awaitable[list[str]]:
        """As ``addresses``, but as getaddrinfo(3) would find them: hosts file, then DNS, whatever smtp_host_lookup
        says (for the verification of client names)."""

    def hostname(address: str) -> Awaitable[str]:
        """PTR (hosts file first)."""

    def query(name: str, type: str) -> Awaitable[list[Any]]:
        """The rdata objects of dnspython for any other type; [] = no data."""


# --- plug-ins --------------------------------------------------------------------------------------------------


class IGatewayPlugin(Interface):
    """What another package provides through a ``twisted.plugin`` drop-in; main.cf and master.cf name it."""

    name = Attribute("As in 'python:NAME'")
    kind = Attribute(
        "ILookupTable, IAddressRewriter, IRestriction, IMessageFilter, ITransport, or ICredentialsChecker of Twisted"
    )

    def make(settings: Any, argument: str) -> Any:
        """An object that provides ``kind``."""


__all__ = [
    "BOUNCED", "DEFERRED", "DELIVERABLE", "EXPANDED", "MX", "SENT", "UNDELIVERABLE", "AddressClass", "Attachment",
    "Client", "Content", "DNSError", "Entry", "Envelope", "IAcceptance", "IAddressRewriter", "ICleanup",
    "IContentSource", "IDescribes", "IForwarder", "IGatewayPlugin", "IIntake", "ILookupTable", "IMessageFilter",
    "IResolver", "IRestriction", "IRouter", "ITransport", "IUsesContent", "Log", "Offer", "Place", "Recipient",
    "Rejected", "Request", "Result", "Route", "TableError",
]
