"""Tables of keys and values in a text file: hash, btree, dbm, sdbm, cdb, lmdb, texthash; postmap(1), aliases(5).

Whatever the type is called, the text file itself is read: there is no index that could be forgotten or out of date.
Files that alias_maps or alias_database name are in the format of aliases(5), all others in that of postmap(1).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.findings import WARNING, Finding
from gateway.tables.base import PROGRAM, Environment, Spec, Table, absolute, fold, owner_of
from gateway.tables.text import Content, find_line, read_table
from gateway.tables.watch import Watched

if TYPE_CHECKING:
    from gateway.config.settings import Settings

INDEXED_TYPES = frozenset({"hash", "btree", "dbm", "sdbm", "cdb", "lmdb"})


class IndexedTable(Table):
    """Give ``alias`` to say which format it is, whatever the settings say."""

    def __init__(self, spec: Spec, environment: Environment, *, alias: bool | None = None) -> None:
        super().__init__(spec.name)
        self.path = spec.path
        self.alias = is_alias_file(spec.type, self.path, spec.settings) if alias is None else alias
        self._utf8 = spec.settings.flag("smtputf8_enable")
        self._log = environment.log
        self._file = Watched(spec.name, self.path, self._read, environment, self._loaded)

    async def lookup(self, key: str) -> str | None:
        return self._file.get().entries.get(key)

    def owner(self) -> int:
        return owner_of(self.path)

    def source(self, key: str) -> str | None:
        try:
            line = find_line(self.path, fold(key), alias=self.alias, utf8=self._utf8)
        except OSError:
            return None
        return f"{self.path}:{line}" if line else None

    def entries(self) -> list[tuple[str, str]]:
        return list(self._file.get().entries.items())

    def findings(self) -> list[Finding]:
        found = self._file.findings()
        if not found:
            found = [
                Finding(WARNING, str(self.path), problem.line, problem.what)
                for problem in self._file.get().problems
            ]
        return found

    def _read(self, path: Path) -> Content:
        return read_table(path, alias=self.alias, utf8=self._utf8)

    def _loaded(self, content: Content, renewed: bool) -> None:
        if renewed:
            for line, what in content.problems:
                self._log.warning(PROGRAM, f"{self.path}, line {line}: {what}")


def is_alias_file(type: str, path: Path, settings: Settings) -> bool:
    """Whether a file holds aliases: if alias_maps or alias_database has it."""
    if type not in INDEXED_TYPES:
        return False
    for word in settings.words("alias_maps") + settings.words("alias_database"):
        while word.startswith("proxy:"):
            word = word[6:]
        known, colon, argument = word.partition(":")
        if (not colon and absolute(word, settings) == path) or (
            known in INDEXED_TYPES and absolute(argument, settings) == path
        ):
            return True
    return False
