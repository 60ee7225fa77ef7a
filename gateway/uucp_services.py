"""The services ``uucp`` and ``uucp-retrieve`` of master.cf: composed here, since they are more than transports (see
gateway.following)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.addresses.forms import quote
from gateway.clock import time_of_day
from gateway.config import Service, Settings
from gateway.content.options import INTERNAL
from gateway.content.received import local_received
from gateway.following import ask_over_the_link, notices
from gateway.interfaces import Envelope, IAcceptance, ITransport, Recipient
from transports.executor import RemoteTransport
from transports.following import Ask
from transports.following.published import Published
from transports.uucp.acceptance import UucpAcceptance
from transports.uucp.jobs import Jobs
from transports.uucp.keeper import UucpKeeper
from transports.uucp.retrieval import RetrieveTransport
from transports.uucp.service import UucpService
from transports.uucp.shelf import Shelf
from transports.uucp.transport import UucpTransport

if TYPE_CHECKING:
    from gateway.parts import Parts

COMMAND = "uucp"
FOLDER = "uucp"
BLOCK = 65536


def make(parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]) -> ITransport:
    read = UucpService.from_service(service, settings)
    if parts.executor is None:
        jobs = Jobs(read, parts.runner, parts.in_thread)
        queues: ITransport = UucpTransport(
            read, parts.runner, jobs, parts.spool, parts.guards.uux(read.taylor.spool), parts.log, parts.reactor,
            parts.queue_directory / FOLDER,
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


def acceptance(parts: Parts, service: Service, settings: Settings) -> IAcceptance:
    made: IAcceptance = UucpAcceptance(Published(parts.queue_directory / FOLDER, service.name), parts.reactor)
    return made


def make_retrieve(
    parts: Parts, service: Service, settings: Settings, others: Mapping[str, ITransport]
) -> ITransport:
    host, mail_name = settings.text("myhostname"), settings.text("mail_name")

    async def post(to: str, content: bytes) -> str:
        now = time_of_day(parts.reactor)
        envelope = Envelope("", [Recipient(quote(to))], arrival=now)
        received = local_received(host, mail_name, now)
        intake = await parts.cleanup.begin(RetrieveTransport.program, envelope, received, INTERNAL)
        try:
            for at in range(0, len(content), BLOCK):
                intake.write(content[at : at + BLOCK])
                if intake.full:
                    await intake.drained()
            return str(await intake.finish())
        except BaseException:
            intake.abort()
            raise

    made: ITransport = RetrieveTransport(
        service.name, Shelf(parts.queue_directory / FOLDER, parts.in_thread), parts.spool, post, parts.log,
        parts.reactor, parts.in_thread,
    )
    return made
