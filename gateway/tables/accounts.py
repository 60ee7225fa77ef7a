"""``unix:passwd.byname`` and ``unix:group.byname``: the system's accounts.

The answers are lines as in passwd(5) and group(5).  Accounts may come from a directory service that takes its time,
so they are asked for in a thread; found ones are kept for ten seconds, missing ones for one.  A directory service that
is away is a TableError: mail waits.
"""

from __future__ import annotations

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table
from gateway.tables.directory import group_by_name, user_by_name

KEEP_FOUND, KEEP_MISSING = 10.0, 1.0
MAX_KEPT = 5000


class AccountTable(Table):
    """The argument is "passwd.byname" or "group.byname"."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        found = _READERS.get(spec.argument)
        if found is None:
            raise TableError(f"unknown table: {spec.name}")
        self._read = found
        self._clock = environment.clock
        self._in_thread = environment.in_thread
        self._kept: dict[str, tuple[float, str | None]] = {}

    async def lookup(self, key: str) -> str | None:
        now = self._clock.seconds()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]
        try:
            if self._in_thread is None:
                line = self._read(key)
            else:
                line = await self._in_thread(lambda: self._read(key))
        except OSError as error:
            raise TableError(f"{self.name}: {error.strerror}") from None
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = now + (KEEP_MISSING if line is None else KEEP_FOUND), line
        return line


def _passwd(key: str) -> str | None:
    user = user_by_name(key)
    return None if user is None else ":".join(map(str, user))


def _group(key: str) -> str | None:
    group = group_by_name(key)
    if group is None:
        return None
    return f"{group.gr_name}:{group.gr_passwd}:{group.gr_gid}:{','.join(group.gr_mem)}"


_READERS = {"passwd.byname": _passwd, "group.byname": _group}
