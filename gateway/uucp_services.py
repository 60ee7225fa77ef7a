"""The ``uucp`` services of master.cf: composed here, since they are more than a transport.

Where the rights are (the executor, or the one process there is) a service queues mail and answers questions about
jobs; beside the queue a keeper stands before it, who asks over the link.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from gateway.config import Service, Settings
from gateway.interfaces import Content, IContentSource, ITransport
from gateway.notices.notices import Notices
from spool.interfaces import SpoolError
from transports.executor import RemoteTransport
from transports.uucp.jobs import Jobs
from transports.uucp.keeper import Ask, UucpKeeper
from transports.uucp.register import Register
from transports.uucp.service import UucpService
from transports.uucp.transport import UucpTransport

if TYPE_CHECKING:
    from gateway.parts import Parts

COMMAND = "uucp"
QUESTION = "uucp"
"""The name of calls that ask the executor about jobs."""


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
        ask = _over_the_link(parts.executor, service.name)
    register = parts.uucp_register
    made: ITransport = UucpKeeper(
        read, queues, ask, register, parts.spool,
        Notices(parts.settings, parts.cleanup, Kept(register), parts.log, parts.reactor),
        parts.log, parts.reactor, parts.in_thread, keep=parts.settings.number("bounce_size_limit"),
    )
    return made


def _over_the_link(link: Any, service: str) -> Ask:
    async def ask(question: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await link.call(QUESTION, {**question, "service": service})
        return answer

    return ask


async def answer(parts: Parts, value: Any) -> dict[str, Any]:
    """The executor's side of a question.  Raises ValueError."""
    name = value.get("service") if isinstance(value, dict) else None
    transport = parts.transports.get(str(name))
    if not isinstance(transport, UucpTransport):
        raise ValueError(f"no such service: {name}")
    return await transport.jobs.answer(value)


class Keepers:
    """All of them, for whoever has to do with the queue."""

    def __init__(self, parts: Parts) -> None:
        self._keepers = [one for one in parts.transports.values() if isinstance(one, UucpKeeper)]

    def start(self) -> None:
        for one in self._keepers:
            one.start()

    def pause(self) -> None:
        """Another process, or another configuration, follows the jobs from now on."""
        for one in self._keepers:
            one.pause()

    def listing(self) -> Iterator[dict[str, Any]]:
        for one in self._keepers:
            yield from one.listing()

    async def cancel(self, ids: Collection[str]) -> list[str]:
        return [done for one in self._keepers for done in await one.cancel(ids)]


@implementer(IContentSource)
class Kept:
    """What the register has kept of messages, for notices."""

    def __init__(self, register: Register) -> None:
        self._register = register

    async def content(self, id: str, where: str = "") -> Content:
        for record in self._register.records.values():
            if record.id == id:
                try:
                    data = await self._register.content(record)
                except OSError as error:
                    raise SpoolError(str(error)) from None
                return _Memory(data, record.size)
        raise SpoolError("nothing was kept of it")


class _Memory:
    """``size`` is the whole message's: if it is larger than what there is, only the header is returned."""

    offset = 0

    def __init__(self, data: bytes, size: int) -> None:
        self.size = size
        self._file = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    def seek(self, position: int) -> None:
        self._file.seek(position)

    def fileno(self) -> int:
        raise OSError("a message in memory has no descriptor")

    def close(self) -> None:
        self._file.close()
