"""One set of connections for the whole gateway: the receivers ask the scheduler's role, which asks the database.

Roles that run as the same user share connections this way, so that max_connections does not grow with the number of
receivers, and with the machine's processors.  Who cannot reach the other role asks the database itself.  The executor,
which has more rights, always does: what it is told must not come from a role with fewer.

    served = Served(tables, configuration)     # where the connections are; opens what it serves, with root's rights
    await served.answer(["pgsql:/x.cf", key])  # ["found", value or null] | ["error", text] | ["unknown"]
    elsewhere(link.call, LinkError, reactor)   # the other end, for Tables
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from gateway.config import ConfigError
from gateway.interfaces import TableError

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.tables.base import Table
    from gateway.tables.registry import Tables

LOOK_UP = "look-up"
PATIENCE = 60.0
"""Seconds that an answer may take: some time limits of the database."""
SHARED = frozenset({"ldap", "mysql", "pgsql"})
_SPEC = re.compile(rf"\b(?:{'|'.join(sorted(SHARED))}):[^\s,{{}}]+")

Elsewhere = Callable[[str, str], Awaitable[list[Any]]]


class Served:
    def __init__(self, tables: Tables, configuration: Configuration) -> None:
        self._tables: dict[str, Table] = {}
        main = configuration.settings
        settings = [main, *(service.settings(main) for service in configuration.services if service.overrides)]
        for each in settings:
            for name in each.values:
                try:
                    text = each.text(name)
                except ConfigError:
                    continue
                for spec in _SPEC.findall(text):
                    if spec not in self._tables:
                        self._tables[spec] = tables.open(spec, each)

    async def answer(self, value: Any) -> list[Any]:
        spec, key = value
        table = self._tables.get(spec)
        if table is None:
            return ["unknown"]
        try:
            return ["found", await table.lookup(key)]
        except TableError as error:
            return ["error", str(error)]


def elsewhere(call: Callable[[str, Any], Coroutine[Any, Any, Any]], lost: type[Exception], reactor: Any) -> Elsewhere:
    """``call``: of the link to the other role; ``lost``: what it raises when that is not there."""
    from twisted.internet.defer import Deferred, TimeoutError

    async def ask(spec: str, key: str) -> list[Any]:
        try:
            answer: list[Any] = await Deferred.fromCoroutine(call(LOOK_UP, [spec, key])).addTimeout(PATIENCE, reactor)
        except lost:
            return ["unknown"]
        except TimeoutError:
            return ["error", f"{spec}: no answer within {PATIENCE:g} s"]
        return answer

    return ask
