"""The ``uucp`` services of master.cf: composed here, since they are more than a transport (see gateway.following)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.config import Service, Settings
from gateway.following import ask_over_the_link, notices
from gateway.interfaces import ITransport
from transports.executor import RemoteTransport
from transports.following import Ask
from transports.uucp.jobs import Jobs
from transports.uucp.keeper import UucpKeeper
from transports.uucp.service import UucpService
from transports.uucp.transport import UucpTransport

if TYPE_CHECKING:
    from gateway.parts import Parts

COMMAND = "uucp"
FOLDER = "uucp"


def make(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    read = UucpService.from_service(service, settings)
    if parts.executor is None:
        jobs = Jobs(read, parts.runner, parts.in_thread)
        queues: ITransport = UucpTransport(
            read, parts.runner, jobs, parts.spool, parts.guards.uux(read.taylor.spool), parts.log, parts.reactor
        )
        if parts.is_executor:
            return queues
        ask: Ask = jobs.answer
    else:
        queues = RemoteTransport(parts.executor, COMMAND)
        ask = ask_over_the_link(parts.executor, service.name)
    register = parts.register(FOLDER)
    made: ITransport = UucpKeeper(
        read, queues, ask, register, parts.spool, notices(parts, register), parts.log, parts.reactor, parts.in_thread,
        keep=parts.settings.number("bounce_size_limit"),
    )
    return made
