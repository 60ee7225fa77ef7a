"""What administrators' commands can ask a running gateway for, by the control socket (gateway.control).

Everybody may list the queue and flush it (authorized_mailq_users, authorized_flush_users); everything else is for root
and the mail owner.  Changes go through the spool, and the scheduler is told, so that they are safe while mail is being
delivered: what is in flight ends by itself; of a message that was put on hold what was delivered is on record.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

from gateway.config import Settings
from gateway.content.submission import shown
from gateway.control import Handler, Refused, control_factory, listed_object
from gateway.interfaces import Log
from gateway.pickup import Pickup, list_submissions
from gateway.scheduler.scheduler import Scheduler
from gateway.tables import StringList
from gateway.tables.registry import Tables
from gateway.uucp.door import REQUEST as NEIGHBOUR
from spool.interfaces import QUEUE_NAMES, ISpool, SpoolError

ENDS_ATTEMPT = frozenset({"delete", "hold"})
"""Changes after which an attempt that is going on is not the scheduler's any more."""


EVERYWHERE = frozenset({"hold", "incoming", "active", "deferred"})
"""Queues that somebody means who wants a message deleted wherever it is."""


class Jobs(Protocol):
    """Mail that has been handed on and waits elsewhere: gateway.following.Keepers."""

    def listing(self) -> Iterable[dict[str, Any]]: ...

    def waiting(self) -> dict[str, Any]: ...

    async def cancel(self, ids: Collection[str] | None) -> list[str]: ...


class Administration:
    """``request`` passes "reload", "restart" and "stop" on to whoever can do that; ``in_thread`` runs what blocks.
    ``jobs`` are listed and deleted like what is in the queue; ``receivers`` says how busy those who take mail are;
    ``admit`` whether a UUCP neighbour may hand in mail (gateway.uucp.neighbours)."""

    def __init__(
        self,
        settings: Settings,
        spool: ISpool,
        scheduler: Scheduler,
        pickup: Pickup,
        tables: Tables,
        log: Log,
        *,
        in_thread: Callable[..., Any],
        request: Callable[[str], None],
        jobs: Jobs | None = None,
        receivers: Callable[[], Awaitable[list[dict[str, Any]]]] | None = None,
        admit: Callable[[int, str, int, int], str] | None = None,
    ) -> None:
        self._spool = spool
        self._scheduler = scheduler
        self._pickup = pickup
        self._request = request
        self._log = log
        self._in_thread = in_thread
        self._jobs = jobs
        self._receivers = receivers
        self._admit = admit
        self._least_free = max(settings.number("queue_minfree"), 1.5 * settings.number("message_size_limit"))
        self._maildrop = Path(settings.text("queue_directory")) / "maildrop"
        self._lookers = tables.string_list("authorized_mailq_users", settings)
        self._flushers = tables.string_list("authorized_flush_users", settings)
        self._flushable = tables.domain_list("fast_flush_domains", settings)

    def factory(self) -> Any:
        """The server of the control socket."""
        handlers: dict[str, Handler] = {
            "list": self._list, "flush": self._flush, "flush-site": self._flush_site, "flush-id": self._flush_id,
            "poke": self._poke, "status": self._status, NEIGHBOUR: self._neighbour,
            "reload": self._passed_on("reload"), "restart": self._passed_on("restart"), "stop": self._passed_on("stop"),
        }
        for action in ("delete", "hold", "release", "requeue", "expire"):
            handlers[action] = self._changing(action)
        return control_factory(handlers, trouble=lambda text: self._log.error("qmgr", text))

    # --- who may -------------------------------------------------------------------------------------------------

    def _administrators_only(self, uid: int) -> None:
        if uid not in (0, os.geteuid()):
            raise Refused("only root and the mail owner may do this")

    async def _must_be_among(self, uid: int, users: StringList, what: str) -> None:
        if uid in (0, os.geteuid()):
            return
        if not await users.match(await self._in_thread(user_name, uid)):
            raise Refused(f"User {user_name(uid)}(uid={uid}) is not allowed to {what}")

    # --- the queue -----------------------------------------------------------------------------------------------

    async def _list(self, uid: int, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await self._must_be_among(uid, self._lookers, "view the mail queue")
        return self._listed()

    async def _listed(self) -> AsyncIterator[dict[str, Any]]:
        for name in await self._in_thread(list_submissions, self._maildrop, 0.0):
            yield {
                "queue_name": "maildrop", "queue_id": shown(name), "arrival_time": 0, "message_size": 0,
                "forced_expire": False, "sender": "", "recipients": [],
            }
        async for some in self._spool.slices():
            for one in some:
                item = listed_object(one)
                if self._scheduler.is_active(one.id):
                    item["queue_name"] = "active"
                yield item
        for item in self._jobs.listing() if self._jobs is not None else ():
            yield item

    async def _flush(self, uid: int, arguments: dict[str, Any]) -> int:
        await self._must_be_among(uid, self._flushers, "flush the mail queue")
        return await self._scheduler.flush()

    async def _flush_id(self, uid: int, arguments: dict[str, Any]) -> int:
        await self._must_be_among(uid, self._flushers, "flush the mail queue")
        return await self._scheduler.flush([str(arguments.get("id", ""))])

    async def _flush_site(self, uid: int, arguments: dict[str, Any]) -> int:
        await self._must_be_among(uid, self._flushers, "flush the mail queue")
        site = str(arguments.get("site", ""))
        if not await self.flush_site(site):
            raise Refused(f'Flush service is not configured for destination "{site}"')
        return 0

    async def flush_site(self, site: str) -> bool:
        """Try what is deferred for a domain of fast_flush_domains now; False if it is none.  Raises TableError."""
        if not await self._flushable.match(site):
            return False
        wanted, found = site.lower().strip("[]"), []
        async for some in self._spool.slices():
            for one in some:
                waiting = (
                    recipient.address for recipient, state in zip(one.envelope.recipients, one.states, strict=True)
                    if not state.done
                )
                if one.queue == "deferred" and any(to.rpartition("@")[2].lower() == wanted for to in waiting):
                    found.append(one.id)
        if found:
            await self._scheduler.flush(found)
        return True

    def _changing(self, action: str) -> Handler:
        async def change(uid: int, arguments: dict[str, Any]) -> dict[str, Any]:
            self._administrators_only(uid)
            given, where = arguments.get("ids"), arguments.get("queues")
            queues = [str(name) for name in (QUEUE_NAMES if where is None else where)]
            ids = None if given is None else [str(one) for one in given]
            try:
                changes = await self._spool.change(action, ids, queues)
            except SpoolError as error:
                raise Refused(str(error)) from None
            if action == "delete" and self._jobs is not None and EVERYWHERE.issubset(queues):
                taken_back = await self._jobs.cancel(None if ids is None else set(ids))
                if ids is None:
                    changes.count += len(taken_back)
                else:
                    changes.ids += [one for one in taken_back if one not in changes.ids]
                    changes.count = max(changes.count, len(changes.ids))
            if action in ENDS_ATTEMPT:
                for one in changes.ids:
                    self._scheduler.forget(one)
            self._scheduler.look_soon()
            return {"count": changes.count, "ids": changes.ids}

        return change

    # --- the gateway ---------------------------------------------------------------------------------------------

    async def _poke(self, uid: int, arguments: dict[str, Any]) -> None:
        self._pickup.poke()
        self._scheduler.poke()

    async def _neighbour(self, uid: int, arguments: dict[str, Any]) -> str:
        if self._admit is None or not isinstance(site := arguments.get("site"), str):
            return ""
        return self._admit(uid, site, int(arguments.get("messages") or 0), int(arguments.get("bytes") or 0))

    async def _status(self, uid: int, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            free: int | None = self._spool.free_bytes()
        except SpoolError:
            free = None
        return {
            "pid": os.getpid(), **self._scheduler.status(),
            "jobs": {} if self._jobs is None else self._jobs.waiting(),
            "receivers": [] if self._receivers is None else await self._receivers(),
            "free_bytes": free, "least_free": self._least_free,
        }

    def _passed_on(self, what: str) -> Handler:
        async def request(uid: int, arguments: dict[str, Any]) -> None:
            self._administrators_only(uid)
            self._request(what)

        return request


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
