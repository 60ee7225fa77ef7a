"""Services whose mail goes on waiting in another program's queue: UUCP, fax.  What they need of the gateway is composed
here; each medium has a module of its own beside it.

Where the rights are (the executor, or the one process there is) the service hands mail on and answers questions about
jobs; beside the queue a keeper stands before it, who asks over the link.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from gateway.interfaces import Content, IContentSource
from gateway.notices.notices import Notices
from spool.interfaces import SpoolError
from transports.following import Ask, HasJobs, Keeper, Register

if TYPE_CHECKING:
    from gateway.parts import Parts

QUESTION = "jobs"
"""The name of calls that ask the executor about jobs."""


def ask_over_the_link(link: Any, service: str) -> Ask:
    async def ask(question: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await link.call(QUESTION, {**question, "service": service})
        return answer

    return ask


async def answer(parts: Parts, value: Any) -> dict[str, Any]:
    """The executor's side of a question.  Raises ValueError."""
    name = value.get("service") if isinstance(value, dict) else None
    transport = parts.transports.get(str(name))
    if not isinstance(transport, HasJobs):
        raise ValueError(f"no such service: {name}")
    return await transport.jobs.answer(value)


def notices(parts: Parts, register: Register) -> Notices:
    """Notices on messages that the register keeps."""
    return Notices(parts.settings, parts.cleanup, Kept(register), parts.log, parts.reactor)


class Keepers:
    """All of them, for whoever has to do with the queue."""

    def __init__(self, parts: Parts) -> None:
        self._keepers = [one for one in parts.transports.values() if isinstance(one, Keeper)]

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

    def waiting(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By service and peer."""
        return {one.terms.name: found for one in self._keepers if (found := one.waiting())}

    async def cancel(self, ids: Collection[str] | None) -> list[str]:
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
