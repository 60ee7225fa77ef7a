"""The ``fax`` services of master.cf: composed here, since they are more than a transport (see gateway.following)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.config import Service, Settings
from gateway.following import ask_over_the_link, notices
from gateway.interfaces import IAcceptance, ILookupTable, ITransport
from transports.executor import RemoteTransport
from transports.fax.acceptance import FaxAcceptance
from transports.fax.hylafax import HylaFax
from transports.fax.jobs import Jobs
from transports.fax.keeper import FaxKeeper
from transports.fax.line import IFaxLine
from transports.fax.rules import NETWORKS, Rules
from transports.fax.service import FaxService
from transports.fax.transport import FaxTransport
from transports.following import Ask
from transports.following.published import Published

if TYPE_CHECKING:
    from gateway.parts import Parts

COMMAND = "fax"
FOLDER = "fax"


def make(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    read = FaxService.from_service(service, settings)
    if parts.executor is None:
        jobs = Jobs(_line(parts, read), parts.in_thread)
        draws: ITransport = FaxTransport(read, jobs, parts.runner.run, parts.spool, parts.log, parts.reactor)
        if parts.is_executor:
            return draws
        ask: Ask = jobs.answer
    else:
        draws = RemoteTransport(parts.executor, COMMAND)
        ask = ask_over_the_link(parts.executor, service.name)
    register = parts.register(FOLDER)
    made: ITransport = FaxKeeper(
        read, _rules(parts, read, settings), draws, ask, register, parts.spool, notices(parts, register), parts.log,
        parts.reactor, parts.in_thread, keep=parts.settings.number("bounce_size_limit"),
    )
    return made


def acceptance(parts: Parts, service: Service, settings: Settings) -> IAcceptance:
    read = FaxService.from_service(service, settings)
    made: IAcceptance = FaxAcceptance(
        read, _rules(parts, read, settings), Published(parts.queue_directory / FOLDER, service.name), parts.reactor
    )
    return made


def _line(parts: Parts, read: FaxService) -> IFaxLine:
    made: IFaxLine
    if read.provider == "phaxio":
        from transports.fax.phaxio import Phaxio  # HTTP is loaded where somebody needs it

        made = Phaxio(read, parts.reactor, parts.in_thread)
    else:
        made = HylaFax(read, parts.reactor, parts.in_thread)
    return made


def _rules(parts: Parts, read: FaxService, settings: Settings) -> Rules:
    def opened(names: tuple[str, ...]) -> list[ILookupTable]:
        return [parts.tables.open(name, settings, substitution=False) for name in names if name != NETWORKS]

    in_networks = parts.tables.address_list(NETWORKS, settings).match if NETWORKS in read.senders else None
    return Rules(read, opened(read.senders), opened(read.zones), in_networks)
