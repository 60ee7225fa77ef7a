"""All that the connections of one smtpd service share: options, collaborators, lists of clients.

A Service never changes.  A reload makes another one, which new connections get; running ones keep theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IReactorTime

from gateway.addresses.probe_sender import ProbeSender
from gateway.addresses.recipients import Recipients
from gateway.config import Settings
from gateway.content.options import IntakeOptions
from gateway.interfaces import IAcceptance, ICleanup, ILookupTable, IResolver, IRestriction, Log
from gateway.policy.compose import make_evaluator
from gateway.policy.evaluator import Evaluator
from gateway.policy.registry import Toolbox
from gateway.smtpd.footer import Footers
from gateway.smtpd.limits import ClientLimits, Room
from gateway.smtpd.login import Login
from gateway.smtpd.milters import Milters
from gateway.smtpd.options import Options
from gateway.smtpd.proxy_filter import ProxyFilter
from gateway.smtpd.reject_filter import RejectFilter
from gateway.smtpd.tls import ServerTLS, server_tls
from gateway.tables import AddressList, Maps, StringList, Tables
from gateway.tables.requests import Reach

FLUSHED, NOT_ELIGIBLE, UNABLE = "flushed", "not eligible", "unable"
"""What ``flush_site`` answers to ETRN."""


async def _no_flush(site: str) -> str:
    return UNABLE


async def _here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What the composition gives to an smtpd service."""

    cleanup: ICleanup
    addresses: Recipients
    tables: Tables
    resolver: IResolver
    log: Log
    clock: IReactorTime
    limits: ClientLimits
    own_addresses: frozenset[str] = frozenset()
    free_bytes: Callable[[], int] = lambda: 1 << 62
    """Room on the spool's file system."""
    flush_site: Callable[[str], Awaitable[str]] = _no_flush
    """ETRN: deliver the mail for a domain now; FLUSHED, NOT_ELIGIBLE or UNABLE."""
    report_session: Callable[[AbstractSet[str], str, Sequence[str], str], Awaitable[None]] | None = None
    """Tells the postmaster of a session with errors: their classes, NAME[ADDRESS], the transcript's lines."""
    verify: Callable[[str], Awaitable[Sequence[str]]] | None = None
    """Address verification; see gateway.policy.registry.Toolbox."""
    in_thread: Callable[..., Awaitable[Any]] = _here
    """For what takes long: checking a password."""
    room: Room = field(default_factory=Room)
    plugins: Mapping[str, Callable[[Settings, str], IRestriction]] = field(default_factory=dict)
    acceptances: Mapping[str, IAcceptance] = field(default_factory=dict)
    """Delivery services with limits of their own, by name."""


@dataclass(slots=True)
class Service:
    name: str
    """As in master.cf, for warnings about limits."""
    program: str
    """The program name for the log."""
    options: Options
    evaluator: Evaluator
    with_: Collaborators
    intake_options: IntakeOptions
    rate_limits: Mapping[str, int]
    """Of an event in a time unit, by the names of gateway.smtpd.limits; 0 = none.  "open": connections at a time."""
    unlimited_clients: AddressList
    lenient_clients: AddressList
    """smtpd_forbid_bare_newline_exclusions."""
    xclient_clients: AddressList
    xforward_clients: AddressList
    verp_clients: AddressList
    proxies: AddressList
    """smtpd_upstream_proxy_clients."""
    networks: AddressList
    discard_maps: Maps
    """smtpd_discard_ehlo_keyword_address_maps."""
    reject_filter: RejectFilter | None
    footers: Footers | None
    rewrite_words: list[str]
    """local_header_rewrite_clients."""
    rewrite_tables: Sequence[ILookupTable]
    forbidden: StringList
    command_filter: ILookupTable | None
    probe_sender: ProbeSender
    tls: ServerTLS | None
    login: Login | None = None
    milters: Milters | None = None
    proxy_filter: ProxyFilter | None = None
    stand_alone: bool = False
    """sendmail -bs: the client is a user of this machine, no restrictions apply."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        with_: Collaborators,
        *,
        name: str = "smtp",
        program: str = "smtpd",
        stand_alone: bool = False,
    ) -> Service:
        """Raises ConfigError or RestrictionError for what cannot be used."""
        options = Options.of(settings)
        tables = with_.tables
        tools = Toolbox(
            settings,
            with_.log,
            tables,
            with_.resolver,
            with_.addresses,
            with_.clock,
            with_.own_addresses,
            with_.plugins,
            with_.verify,
            with_.acceptances,
        )
        reach = Reach(with_.clock, with_.resolver)
        wants_tls = options.tls_level != "none" or options.tls_wrapper
        words = settings.words("local_header_rewrite_clients")
        rewrite_tables = [tables.open(word, settings) for word in words if ":" in word]
        return cls(
            name=name,
            program=program,
            options=options,
            evaluator=make_evaluator(tools, program=program),
            with_=with_,
            intake_options=IntakeOptions.of(settings),
            rate_limits=_rate_limits(settings),
            unlimited_clients=tables.address_list("smtpd_client_event_limit_exceptions", settings),
            lenient_clients=tables.address_list("smtpd_forbid_bare_newline_exclusions", settings),
            xclient_clients=tables.address_list("smtpd_authorized_xclient_hosts", settings),
            xforward_clients=tables.address_list("smtpd_authorized_xforward_hosts", settings),
            proxies=tables.address_list("smtpd_upstream_proxy_clients", settings),
            verp_clients=tables.address_list("smtpd_authorized_verp_clients", settings),
            networks=tables.address_list("mynetworks", settings),
            discard_maps=tables.maps(
                settings.words("smtpd_discard_ehlo_keyword_address_maps"),
                settings,
                title="smtpd_discard_ehlo_keyword_address_maps",
                program=program,
            ),
            reject_filter=RejectFilter.of(settings, tables, with_.log, program),
            footers=Footers.of(settings, tables, with_.log, program),
            rewrite_words=[word.lower() for word in words],
            rewrite_tables=rewrite_tables,
            forbidden=tables.string_list("smtpd_forbidden_commands", settings),
            command_filter=tables.open(options.command_filter, settings) if options.command_filter else None,
            probe_sender=ProbeSender(settings),
            tls=_server_tls(settings, tables, options, with_, program) if wants_tls else None,
            login=Login.of(settings, tables, reach, with_.log, program, with_.in_thread),
            proxy_filter=None if stand_alone else ProxyFilter.of(settings, reach),
            milters=None if stand_alone else Milters.of(settings, tables, reach, with_.log, program),
            stand_alone=stand_alone,
        )

    @property
    def log(self) -> Log:
        return self.with_.log


def _server_tls(
    settings: Settings, tables: Tables, options: Options, with_: Collaborators, program: str
) -> ServerTLS | None:
    level = "encrypt" if options.tls_wrapper else options.tls_level
    return server_tls(settings, tables, level, with_.log, program, with_.clock.seconds)


def _rate_limits(settings: Settings) -> dict[str, int]:
    return {
        "open": settings.number("smtpd_client_connection_count_limit"),
        "connections": settings.number("smtpd_client_connection_rate_limit"),
        "messages": settings.number("smtpd_client_message_rate_limit"),
        "recipients": settings.number("smtpd_client_recipient_rate_limit"),
        "tls": settings.number("smtpd_client_new_tls_session_rate_limit"),
        "logins": settings.number("smtpd_client_auth_rate_limit"),
    }
