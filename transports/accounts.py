"""Accounts of this machine and their folders, looked at in threads: a directory service or a server of homes that is
slow holds nobody up.  What was found serves for a few seconds more, and one look for all who ask for the same while it
is taken.

A directory service that is away is told from a user who does not exist: AccountsAway, and mail waits.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from gateway.config import Settings
from gateway.tables.directory import user_by_id, user_by_name
from transports.process import Identity

KEEP = 5.0
"""Seconds."""
MAX_KEPT = 5000


@dataclass(slots=True, frozen=True)
class User:
    name: str
    identity: Identity
    home: str
    shell: str


class AccountsAway(Exception):
    """Nobody can say now whether there is such an account."""


class Accounts:
    """``in_thread``: runs a function in a thread pool that is used for such look-ups only.  ``seconds``: a clock;
    None = nothing is kept."""

    def __init__(
        self, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]], seconds: Callable[[], float] | None = None
    ) -> None:
        self._in_thread = in_thread
        self._seconds = seconds
        self._kept: dict[str, tuple[float, Any]] = {}
        """By name of a user, or path of a folder."""
        self._asking: dict[Hashable, list[Deferred[Any]]] = {}
        """Who waits for an answer that somebody else has asked for."""

    async def find(self, name: str) -> User | None:
        """The account of that name; None if there is none.  Raises AccountsAway."""
        if not name or "/" in name or "\0" in name:
            return None
        found: User | None = await self._once(name, lambda: _by_name(name))
        return found

    async def _once(self, key: str, look: Callable[[], Any]) -> Any:
        if self._seconds is None:
            return await self._in_thread(look)
        now = self._seconds()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]
        found = await self._shared(key, look)
        if found is not None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = now + KEEP, found
        return found

    async def _shared(self, key: Hashable, look: Callable[[], Any]) -> Any:
        waiting = self._asking.get(key)
        if waiting is not None:
            answer: Deferred[Any] = Deferred()
            waiting.append(answer)
            return await answer
        waiting = self._asking[key] = []
        try:
            found = await self._in_thread(look)
        except Exception as error:
            del self._asking[key]
            for one in waiting:
                one.errback(error)
            raise
        del self._asking[key]
        for one in waiting:
            one.callback(found)
        return found

    async def of_uid(self, uid: int) -> User | None:
        found: User | None = await self._in_thread(lambda: _by_uid(uid))
        return found

    async def look_at(self, path: str) -> os.stat_result | None:
        """What stat(2) says of an absolute path; None if nothing can be seen there."""
        found: os.stat_result | None = await self._once(path, lambda: _stat(path))
        return found

    async def trouble_with(self, path: str) -> str:
        """Why nothing can be seen there; "" = something can."""
        found: str = await self._in_thread(lambda: _trouble(path))
        return found

    async def first_present(self, paths: Sequence[str]) -> str | None:
        """The first path at which something is, as far as can be seen (what cannot be looked at may be there)."""
        found: str | None = await self._shared(tuple(paths), lambda: next(filter(_may_exist, paths), None))
        return found


def _by_name(name: str) -> User | None:
    return _account(lambda: user_by_name(name))


def _by_uid(uid: int) -> User | None:
    return _account(lambda: user_by_id(uid))


def _account(ask: Callable[[], pwd.struct_passwd | None]) -> User | None:
    try:
        found = ask()
    except OSError as error:
        raise AccountsAway(error.strerror) from None
    return None if found is None else _user(found)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _trouble(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return ""


def _may_exist(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _user(entry: pwd.struct_passwd) -> User:
    return User(entry.pw_name, Identity(entry.pw_uid, entry.pw_gid), entry.pw_dir, entry.pw_shell or "/bin/sh")


def default_privileges(settings: Settings) -> Identity:
    """The rights of default_privs ("user" or "user:group"); whoever runs the gateway, if it is not root.  Raises
    ConfigError."""
    if os.geteuid() != 0:
        return Identity(os.geteuid(), os.getegid())
    user, colon, group = settings.text("default_privs").partition(":")
    try:
        entry = pwd.getpwnam(user)
        gid = grp.getgrnam(group).gr_gid if colon else entry.pw_gid
    except KeyError:
        raise settings.error(
            "default_privs", f"default_privs = {user}{colon}{group}: there is no such account", "name one that exists"
        ) from None
    if entry.pw_uid == 0 or gid == 0:
        raise settings.error("default_privs", "default_privs must not be root's rights", "use nobody")
    return Identity(entry.pw_uid, gid)
