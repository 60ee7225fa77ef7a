"""Several tables searched in an order, as the xxx_maps parameters list them.

    match = await maps.find("user@example.com")
    if match: use(match.value)

Keys are folded here, a table at a time.  A table that cannot answer ends the search with TableError (never "not
found": mail is deferred, not bounced), and the log has Postfix's two lines about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.interfaces import TableError
from gateway.tables.base import fold

if TYPE_CHECKING:
    from gateway.interfaces import Log


class Match(NamedTuple):
    """What was found, where, by which key."""

    value: str
    table: str
    """"type:name" as configured."""
    key: str


class Maps:
    """``tables``: ILookupTable providers.  False if there are none, so that callers can skip the work."""

    def __init__(
        self, tables: Sequence[Any], *, title: str = "", program: str = "trivial-rewrite", log: Log | None = None
    ) -> None:
        self.tables = list(tables)
        self.title = title
        self._program = program
        self._log = log
        self._asked = [(table, table.folds_case, table.whole_keys) for table in self.tables]

    @property
    def empty(self) -> bool:
        return not self._asked

    def __bool__(self) -> bool:
        return bool(self._asked)

    async def find(self, key: str, *, partial: bool = False) -> Match | None:
        """The first table's answer.  ``partial``: the key is only a part of what is looked for (a parent domain, an
        address without its extension): tables that want whole keys are left out.  Raises TableError."""
        if not key:
            return None
        for table, folds, whole in self._asked:
            if partial and whole:
                continue
            asked = fold(key) if folds else key
            try:
                value = await table.lookup(asked)
            except TableError as error:
                self._warn(str(error))
                self._warn(f'{table.name} lookup error for "{key[:100]}"')
                raise
            if value is not None:
                if not value:
                    self._refuse_empty(table.name, key)
                return Match(value, table.name, asked)
        return None

    async def find_first(self, keys: Iterable[tuple[str, bool]]) -> Match | None:
        """The answer for the first of several (key, partial) pairs that any table has: see gateway.tables.search."""
        for key, partial in keys:
            match = await self.find(key, partial=partial)
            if match is not None:
                return match
        return None

    def _refuse_empty(self, name: str, key: str) -> None:
        title = self.title or name
        self._warn(f"{title} lookup of {key} returns an empty string result")
        self._warn(f"{title} should return NO RESULT in case of NOT FOUND")
        raise TableError(f"{name}: lookup of {key} returns an empty string result")

    def _warn(self, text: str) -> None:
        if self._log is not None:
            self._log.warning(self._program, text)
