"""The object graph of one configuration in one process: each collaborator is made when it is first asked for.

This is the one place where the gateway is composed (with gateway.roles, which says what each role needs of it).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from gateway import fax_services, following, plugins, uucp_services
from gateway.addresses.basis import Basis
from gateway.addresses.login_senders import LoginSenders
from gateway.addresses.patience import PatientRouter
from gateway.addresses.recipients import Recipients
from gateway.addresses.resolve import Router
from gateway.addresses.rewriting import Generic, Rewriting, blind_copies
from gateway.clock import time_of_day
from gateway.config import ConfigError, Configuration, Service, Settings
from gateway.config.networks import own_interfaces, proxy_addresses
from gateway.content.checks import Checks
from gateway.content.cleanup import Cleanup
from gateway.content.forwarding import Forwarder
from gateway.content.milter.filters import Filters
from gateway.content.outgoing import OutgoingChecks
from gateway.content.received import local_received
from gateway.content.verification import Verifier
from gateway.content.verification_store import open_store
from gateway.dns import DNSResolver
from gateway.dns_filter import RecordFilter
from gateway.interfaces import Entry, Envelope, IAcceptance, IForwarder, ITransport, IUsesContent, Log
from gateway.log import MailLog, file_writer, stderr_writer, syslog_writer
from gateway.notices.notices import Notices
from gateway.pickup import Pickup, authorized_users
from gateway.policy.registry import RestrictionError, Toolbox
from gateway.scheduler.backoff import RetryTimes
from gateway.scheduler.destination import Feedback, Limits
from gateway.scheduler.scheduler import Policy, Scheduler
from gateway.scheduler.transport_queue import Done, TransportQueue
from gateway.smtpd.limits import ClientLimits, Room, Together
from gateway.smtpd.peaks import Peaks
from gateway.smtpd.server import SmtpdFactory, make_smtpd
from gateway.smtpd.service import Collaborators
from gateway.tables.databases.served import Elsewhere
from gateway.tables.registry import Tables
from gateway.tables.requests import Reach
from gateway.uucp.neighbours import Neighbours
from spool.maildir import MaildirSpool
from transports.accounts import Accounts
from transports.comsat import Comsat
from transports.discard import DiscardTransport
from transports.error import ErrorTransport
from transports.executor import PASS, RemoteTransport
from transports.following import Register
from transports.local import LocalConfig, LocalTransport, Tools
from transports.pipe import PipeService, PipeTransport
from transports.process import Runner
from transports.programs import Guards
from transports.smtp import SMTPTransport
from transports.smtp.login import Logins
from transports.smtp.transcript import Postmaster
from transports.status_filter import FilteredTransport
from transports.store import Locking, Store
from transports.virtual import VirtualConfig, VirtualTables, VirtualTransport

# What runs as root in split mode, because each delivery runs as somebody else.
EXECUTED = frozenset({"pipe", "local", "virtual", "uucp", "fax"})

# Those whose mail goes on waiting elsewhere: a keeper of theirs is beside the queue.
FOLLOWED = frozenset({uucp_services.COMMAND, fax_services.COMMAND})

BUNDLED = {"local": 20, "virtual": 10}
"""Commands that are given several messages for one destination at once."""

FILTERED = frozenset({"smtp", "lmtp", "local", "virtual", "pipe"})
"""Commands with a delivery status filter."""

BLOCKING_THREADS = 4

LEEWAY = 120.0  # seconds by which clocks of a queue's machines may differ


def make_log(settings: Settings, reactor: Any) -> MailLog:
    """The mail log that main.cf asks for.  Opened at once: later nobody may have the right to.  Raises OSError."""
    path = settings.text("maillog_file")
    if path:
        write = stderr_writer if path in ("/dev/stderr", "/dev/stdout") else file_writer(path)
    else:
        write = syslog_writer(settings.text("syslog_facility")) if settings.is_set("syslog_facility") else stderr_writer
    return MailLog(
        settings.text("syslog_name"),
        write,
        None if reactor is None else lambda flush: reactor.callLater(0, flush),
        host=settings.text("myhostname"),
        as_json=settings.text("log_format") == "json",
    )


def program_of(service: Service, configuration: Configuration) -> str:
    """What stands behind "syslog_name/" in the log lines of a service: its command, and what a syslog_name of its
    own adds, such as "relay/smtp"."""
    command = service.command.rpartition("/")[2]
    base = configuration.settings.text("syslog_name") + "/"
    own = configuration.service_settings(service).text("syslog_name")
    return f"{own.removeprefix(base)}/{command}" if own.startswith(base) else command


class Parts:
    """``notify`` tells the scheduler of a new message; ``flush_site`` does what ETRN asks for.  ``executor``: the link
    to the role that runs EXECUTED services, or None where they run here; ``is_executor``: this is that role."""

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        log: Log,
        *,
        notify: Callable[[str, Envelope, bytes], None],
        flush_site: Callable[[str], Awaitable[str]],
        spool: MaildirSpool | None = None,
        executor: Any = None,
        forwarder: IForwarder | None = None,
        is_executor: bool = False,
        scheduler_link: Any = None,
        verify: Callable[[str], Awaitable[Sequence[str]]] | None = None,
        receivers: int = 1,
        together: Together | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self.reactor = reactor
        self.log = log
        self.notify = notify
        self.flush_site = flush_site
        self.queue_directory = Path(self.settings.text("queue_directory"))
        self.spool = spool or MaildirSpool(
            self.queue_directory, reactor=reactor, report=lambda text: log.warning("qmgr", text),
            longest_wait=self.settings.seconds("maximal_backoff_time") + LEEWAY,
        )
        self.executor = executor
        self.is_executor = is_executor
        self._scheduler_link = scheduler_link
        self._forwarder = forwarder
        self._cleanups: dict[str, Cleanup] = {}
        self._registers: dict[str, Register] = {}
        self._verify = verify
        self._receivers = receivers
        self._together = together
        self._elsewhere = elsewhere
        self._pool = ThreadPool(0, BLOCKING_THREADS, "blocking")

    def start(self) -> None:
        """Start threads.  Raises OSError when the spool cannot be used."""
        self.spool.start()
        self.start_threads()

    async def stop(self) -> None:
        """End what is idle, when nothing is going on any more; of parts that were made only."""
        made = vars(self)
        if "transports" in made:
            for transport in self.transports.values():
                await transport.stop()
        if "verifier" in made:
            self.verifier.stop()
        if "peaks" in made:
            self.peaks.report()
        if "runner" in made:
            self.runner.close()
        self.tables.close()
        self.stop_threads()
        await self.spool.stop()

    def start_threads(self) -> None:
        """For what blocks, without the spool."""
        self._pool.start()

    def stop_threads(self) -> None:
        self._pool.stop()

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """For what blocks: accounts, small files, syncs of foreign spools."""
        return deferToThreadPool(self.reactor, self._pool, function, *arguments)

    # --- addresses and tables ------------------------------------------------------------------------------------

    @cached_property
    def own_addresses(self) -> frozenset[str]:
        own = [str(one.ip) for one in own_interfaces(self.settings)]
        return frozenset([*own, *proxy_addresses(self.settings)])

    @cached_property
    def resolver(self) -> DNSResolver:
        return DNSResolver(self.reactor, self.settings)

    @cached_property
    def tables(self) -> Tables:
        return Tables(
            clock=self.reactor, log=self.log, reactor=self.reactor, resolver=self.resolver, elsewhere=self._elsewhere
        )

    @cached_property
    def basis(self) -> Basis:
        return Basis.of(self.settings, self.tables, self.own_addresses)

    @cached_property
    def router(self) -> Router:
        return Router.from_settings(self.settings, self.tables, self.own_addresses, self.log)

    # --- in ------------------------------------------------------------------------------------------------------

    @cached_property
    def cleanup(self) -> Cleanup:
        return self.cleanup_for(self.settings)

    def cleanup_for(self, client: Settings) -> Cleanup:
        """The cleanup service that a service with these settings hands mail to.  Raises ConfigError."""
        name = client.text("cleanup_service_name")
        made = self._cleanups.get(name)
        if made is None:
            made = self._cleanups[name] = self._make_cleanup(self.cleanup_settings(client))
        return made

    def cleanup_settings(self, client: Settings) -> Settings:
        """Its settings: main.cf's, and those of its own line in master.cf, without which "cleanup" can do."""
        name = client.text("cleanup_service_name")
        service = self.configuration.service(name)
        if service is not None and service.command.rpartition("/")[2] == "cleanup":
            return self.configuration.service_settings(service)
        if name != "cleanup":
            raise client.error("cleanup_service_name", f"master.cf has no service {name} with the command cleanup")
        return self.settings

    def _make_cleanup(self, settings: Settings) -> Cleanup:
        surroundings = settings, self.tables, self.own_addresses
        return Cleanup(
            settings, self.spool, Rewriting.from_settings(*surroundings, self.log), self.log, self.reactor,
            notify=self.notify,
            checks=Checks.of(settings, self.tables),
            sender_bcc=blind_copies("sender_bcc_maps", *surroundings),
            recipient_bcc=blind_copies("recipient_bcc_maps", *surroundings),
            filters=Filters(settings, self.tables, Reach(self.reactor, self.resolver), self.log),
        )

    @cached_property
    def notices(self) -> Notices:
        made = Notices(self.settings, self.cleanup, self.spool, self.log, self.reactor)
        made.on_probe = self._probed
        return made

    @cached_property
    def verifier(self) -> Verifier:
        """Made, with its file, only where somebody asks."""
        store = open_store(self.settings, self.log)
        made = Verifier(self.settings, self.cleanup, store, self.log, self.reactor)
        made.start()
        return made

    def _is_probe(self, envelope: Envelope) -> bool:
        return "verifier" in vars(self) and self.verifier.is_probe(envelope)

    def _probed(self, entry: Entry) -> bool:
        return "verifier" in vars(self) and self.verifier.report(entry.envelope, entry.states)

    @cached_property
    def pickup(self) -> Pickup:
        service = self.configuration.service("pickup")
        settings = self.settings if service is None else self.configuration.service_settings(service)
        return Pickup(
            settings, self.queue_directory, self.cleanup_for(settings), self.log, self.reactor, self.in_thread,
            refused=self.notices.refused,
            authorized=authorized_users(self.settings, self.tables, self.in_thread),
            senders=LoginSenders.of(self.settings, self.tables, "pickup"),
            neighbours=self.neighbours,
        )

    @cached_property
    def neighbours(self) -> Neighbours:
        addresses = Recipients.from_settings(self.settings, self.tables, self.own_addresses, self.log)
        tools = Toolbox(
            self.settings, self.log, self.tables, self.resolver, addresses, self.reactor, self.own_addresses,
            acceptances=self.acceptances,
        )
        return Neighbours(tools, self.reactor)

    @cached_property
    def acceptances(self) -> Mapping[str, IAcceptance]:
        """Of the delivery services that the SMTP server may ask, by name."""
        makers = {uucp_services.COMMAND: uucp_services.acceptance, fax_services.COMMAND: fax_services.acceptance}
        return {
            service.name: makers[command](self, service, self.configuration.service_settings(service))
            for service in self.configuration.services
            if service.type != "inet" and (command := service.command.rpartition("/")[2]) in makers
        }

    @cached_property
    def client_limits(self) -> ClientLimits:
        settings = self.settings
        return ClientLimits(
            self.reactor.seconds,
            settings.seconds("anvil_rate_time_unit"),
            settings.number("smtpd_client_ipv4_prefix_length"),
            settings.number("smtpd_client_ipv6_prefix_length"),
            processes=self._receivers, together=self._together, peaks=self.peaks,
        )

    @cached_property
    def peaks(self) -> Peaks:
        seconds = self.settings.seconds
        return Peaks(self.reactor, seconds("anvil_status_update_time"), seconds("anvil_rate_time_unit"), self.log)

    def smtpd_factories(self, room: Room | None = None) -> dict[str, SmtpdFactory]:
        """For each smtpd line of master.cf, by the service's name.  Raises ConfigError."""
        found = {}
        for service in self.configuration.services:
            if service.type != "inet" or service.command.rpartition("/")[2] != "smtpd":
                continue
            own, program = self.configuration.service_settings(service), program_of(service, self.configuration)
            record_filter = _record_filter(self, own, "smtpd_dns_reply_filter", program)
            collaborators = Collaborators(
                cleanup=self.cleanup_for(own),
                addresses=Recipients.from_settings(own, self.tables, self.own_addresses, self.log),
                tables=self.tables,
                resolver=self.resolver.for_service(own, record_filter),
                log=self.log,
                clock=self.reactor,
                limits=self.client_limits,
                own_addresses=self.own_addresses,
                free_bytes=self.spool.free_bytes,
                flush_site=self.flush_site,
                report_session=self.notices.session,
                verify=self._verify,
                in_thread=self.in_thread,
                room=room or Room(),
                acceptances=self.acceptances,
            )
            try:
                found[service.name] = make_smtpd(
                    own, collaborators, name=service.name, program=program,
                    process_limit=self._connection_limit(service),
                )
            except RestrictionError as error:
                raise ConfigError(f"service {service.name}: {error}", file=service.path, line=service.line) from None
        return found

    def _connection_limit(self, service: Service) -> int:
        """How many clients at a time: as many as there may be processes in Postfix, but only where somebody has set a
        limit.  The default is meant for processes, and a connection here costs none."""
        if service.maxproc is None and not self.settings.is_set("default_process_limit"):
            return 0
        return self._process_limit(service)

    # --- out -----------------------------------------------------------------------------------------------------

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.reactor)

    @cached_property
    def guards(self) -> Guards:
        return Guards(self.in_thread)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.in_thread, self.reactor.seconds)

    @cached_property
    def forwarder(self) -> IForwarder:
        return self._forwarder or Forwarder(self.cleanup, self.spool)

    @cached_property
    def transports(self) -> Mapping[str, ITransport]:
        """Every delivery service of master.cf, by name."""
        made: dict[str, ITransport] = {}
        for service in self.configuration.services:
            command = service.command.rpartition("/")[2]
            if service.type == "inet" or command not in MAKERS:
                continue
            if command in EXECUTED - FOLLOWED and self.executor is not None:
                made[service.name] = RemoteTransport(self.executor, program_of(service, self.configuration))
            elif command not in EXECUTED and self._scheduler_link is not None:
                program = program_of(service, self.configuration)
                made[service.name] = RemoteTransport(self._scheduler_link, program, PASS)
            else:
                own = self.configuration.service_settings(service)
                made[service.name] = self._filtered(command, own, MAKERS[command](self, service, own, made))
        return made

    def _filtered(self, command: str, settings: Settings, transport: ITransport) -> ITransport:
        """With its delivery status filter, if there is one."""
        parameter = f"{command}_delivery_status_filter"
        if command not in FILTERED or not settings.words(parameter):
            return transport
        tables = self.tables.maps(settings.words(parameter), settings, title=parameter, program=command)
        filtered: ITransport = FilteredTransport(transport, tables, parameter, self.log)
        return filtered

    def register(self, folder: str) -> Register:
        """Of a medium's jobs that are followed."""
        if folder not in self._registers:
            self._registers[folder] = Register(self.queue_directory / folder, self.in_thread)
        return self._registers[folder]

    @cached_property
    def keepers(self) -> following.Keepers:
        return following.Keepers(self)

    def scheduler(self) -> Scheduler:
        """A new scheduler on the spool.  It does nothing until it is started."""
        settings = self.settings
        times = RetryTimes(
            settings.seconds("minimal_backoff_time"),
            settings.seconds("maximal_backoff_time"),
            settings.seconds("maximal_queue_lifetime"),
            settings.seconds("bounce_queue_lifetime"),
            settings.seconds("delay_warning_time"),
        )
        policy = Policy(
            times,
            settings.number("qmgr_message_active_limit"),
            settings.seconds("queue_run_delay"),
            frozenset(settings.words("defer_transports")),
            settings.flag("confirm_delay_cleared"),
            settings.flag("soft_bounce"),
            settings.text("double_bounce_sender").lower(),
            settings.text("default_filter_nexthop"),
        )
        router = PatientRouter(self.router, self.reactor)
        probes = Router.from_settings(settings, self.tables, self.own_addresses, self.log, "address_verify_")
        return Scheduler(
            self.spool, router, self.notices, policy, self.reactor, self.log, self._queues, self._resubmit, probes,
            self._is_probe,
        )

    async def _resubmit(self, entry: Entry) -> str:
        """Take a message in again (postsuper -r)."""
        settings, uid, now = self.settings, os.geteuid(), time_of_day(self.reactor)
        received = local_received(settings.text("myhostname"), settings.text("mail_name"), now, uid)
        queue_id = await Forwarder(self.cleanup, self.spool).requeue(entry, received)
        self.log.info("pickup", f"{queue_id}: uid={uid} from=<{entry.envelope.sender}> orig_id={entry.id}")
        return queue_id

    def _queues(self, done: Done) -> dict[str, TransportQueue]:
        retry_time = self.settings.seconds("minimal_backoff_time")
        return {
            name: TransportQueue(
                name, transport, self._limits(name), process_limit=self._process_limit(self._service(name)),
                retry_time=retry_time, clock=self.reactor, log=self.log, done=done,
            )
            for name, transport in self.transports.items()
        }

    def _service(self, name: str) -> Service:
        service = self.configuration.service(name)
        assert service is not None
        return service

    def _process_limit(self, service: Service) -> int:
        return self.settings.number("default_process_limit") if service.maxproc is None else service.maxproc

    def _limits(self, name: str) -> Limits:
        settings = self.settings
        return Limits(
            initial_concurrency=settings.transport_number(name, "initial_destination_concurrency"),
            concurrency=settings.transport_number(name, "destination_concurrency_limit"),
            recipients=settings.transport_number(name, "destination_recipient_limit"),
            failed_cohorts=settings.transport_number(name, "destination_concurrency_failed_cohort_limit"),
            positive=Feedback.parse(settings.transport_text(name, "destination_concurrency_positive_feedback")),
            negative=Feedback.parse(settings.transport_text(name, "destination_concurrency_negative_feedback")),
            rate_delay=settings.transport_seconds(name, "destination_rate_delay"),
            together=BUNDLED.get(self._service(name).command.rpartition("/")[2], 1),
        )


Maker = Callable[[Parts, Service, Settings, Mapping[str, ITransport]], ITransport]


def _smtp(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    lmtp = service.command.endswith("lmtp")
    prefix = "lmtp_" if lmtp else "smtp_"
    program = program_of(service, parts.configuration)
    made: ITransport = SMTPTransport(
        settings, service.name, _resolver(parts, settings, prefix, program), parts.spool, parts.log, parts.reactor,
        parts.tables, parts.own_addresses, lmtp=lmtp, program=program, flags=_smtp_flags(service),
        generic=Generic.from_settings(
            settings, parts.tables, parts.own_addresses, f"{prefix}generic_maps", parts.log
        ),
        logins=Logins.of(settings, parts.tables, secrets.token_urlsafe, lmtp=lmtp, own_addresses=parts.own_addresses),
        checks=OutgoingChecks.of(settings, parts.tables, prefix, program, parts.log),
        postmaster=Postmaster.of(settings, parts.notices.client_session, parts.log, program),
    )
    return made


def _resolver(parts: Parts, settings: Settings, prefix: str, program: str) -> Any:
    """The DNS as that service sees it."""
    look_ups, title = settings, f"{prefix}dns_reply_filter"
    if prefix != "smtp_":
        names = ("host_lookup", "dns_support_level", "dns_resolver_options")
        look_ups = settings.with_overrides({f"smtp_{name}": settings.raw(prefix + name) for name in names})
    return parts.resolver.for_service(look_ups, _record_filter(parts, settings, title, program))


def _record_filter(parts: Parts, settings: Settings, title: str, program: str) -> RecordFilter | None:
    words = settings.words(title)
    if not words:
        return None
    maps = parts.tables.maps(words, settings, title=title, program=program)

    async def find(line: str) -> str | None:
        match = await maps.find(line)
        return None if match is None else match.value

    return RecordFilter(find, title, parts.log, program)


def _smtp_flags(service: Service) -> str:
    flags = ""
    for word in service.arguments:
        name, equals, value = word.partition("=")
        if name != "flags" or not equals:
            raise ValueError(f"{service.path}, line {service.line}: unknown attribute name: {name}")
        flags = value
    return flags


def _pipe(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    made: ITransport = PipeTransport(
        PipeService.from_service(service, settings), parts.runner, parts.spool, parts.guards, parts.log, parts.reactor
    )
    return made


def _safe_tables(parts: Parts, settings: Settings, parameter: str) -> list[Any]:
    """Tables that decide on whose rights or where mail is stored: what a stranger writes may not become part of their
    answers.  They are opened directly here, so that "proxy:" says nothing."""
    names = [name.removeprefix("proxy:") for name in settings.words(parameter)]
    return [parts.tables.open(name, settings, substitution=False) for name in names]


def _local(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    def tables(parameter: str) -> list[Any]:
        return _safe_tables(parts, settings, parameter)

    config = LocalConfig.from_settings(settings)
    made: ITransport = LocalTransport(
        Tools(
            config, parts.runner, Store(parts.runner, config.locking), parts.spool, parts.accounts, parts.forwarder,
            parts.router, parts.basis.qualify, parts.log, parts.reactor,
            tables("alias_maps"), tables("mailbox_command_maps"), tables("mailbox_transport_maps"),
            tables("fallback_transport_maps"), others,
            owner_of=(lambda table: table.owner()) if os.geteuid() == 0 else lambda table: 0,
            tell_user=Comsat(parts.log).tell if settings.flag("biff") else None,
        )
    )
    return made


def _virtual(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    def tables(parameter: str) -> list[Any]:
        return _safe_tables(parts, settings, parameter)

    made: ITransport = VirtualTransport(
        VirtualConfig.from_settings(settings),
        VirtualTables(tables("virtual_mailbox_maps"), tables("virtual_uid_maps"), tables("virtual_gid_maps")),
        Store(parts.runner, Locking.of(settings, "virtual_mailbox_lock")),
        parts.spool, parts.log, parts.reactor,
    )
    return made


def _error(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    made: ITransport = ErrorTransport(defers=service.name == "retry")
    return made


def _discard(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    made: ITransport = DiscardTransport()
    return made


def _python(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    """A transport of another package: "… python NAME" or "… python NAME:ARGUMENT"."""
    if len(service.arguments) != 1:
        raise ValueError(f"{service.path}, line {service.line}: need the name of one plug-in behind python")
    made: ITransport = plugins.make(ITransport, service.arguments[0], settings)
    if IUsesContent.providedBy(made):
        made.use_content(parts.spool)
    return made


# What makes a delivery service, by its command in master.cf.
MAKERS: dict[str, Maker] = {
    "smtp": _smtp, "lmtp": _smtp, "pipe": _pipe, "local": _local, "virtual": _virtual, "error": _error,
    "discard": _discard, "python": _python, "uucp": uucp_services.make,
    "uucp-retrieve": uucp_services.make_retrieve, "fax": fax_services.make,
}
