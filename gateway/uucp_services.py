"""The ``uucp`` services of master.cf: composed here, since they are more than a transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.config import Service, Settings
from gateway.interfaces import ITransport
from transports.uucp.jobs import Jobs
from transports.uucp.service import UucpService
from transports.uucp.transport import UucpTransport

if TYPE_CHECKING:
    from gateway.parts import Parts

COMMAND = "uucp"


def make(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    read = UucpService.from_service(service, settings)
    made: ITransport = UucpTransport(
        read, parts.runner, Jobs(read, parts.runner, parts.in_thread), parts.spool, parts.guards.uux(read.taylor.spool),
        parts.log, parts.reactor,
    )
    return made
