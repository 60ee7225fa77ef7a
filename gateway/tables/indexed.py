"""Tables of keys and values: hash, btree, dbm, sdbm, cdb, lmdb, texthash; postmap(1), postalias(1), aliases(5).

Whatever an indexed type is called, its index is NAME.lmdb (gateway.tables.index), and the newer of text and index
counts: a text that was changed needs no postmap, and one without an index is read itself.  texthash has no index.
Files that alias_maps or alias_database name are in the format of aliases(5), all others in that of postmap(1).

A text that is read itself becomes a dict; a large one an index of this process's own, lest it fill the memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.findings import WARNING, Finding
from gateway.interfaces import TableError
from gateway.tables.base import PROGRAM, Environment, Spec, Table, absolute, fold, owner_of
from gateway.tables.index import Index, IndexProblem, index_path, open_index, private_index
from gateway.tables.text import Problem, find_line, is_utf8, read_table
from gateway.tables.watch import Watched

if TYPE_CHECKING:
    from gateway.config.settings import Settings

INDEXED_TYPES = frozenset({"hash", "btree", "dbm", "sdbm", "cdb", "lmdb"})

LARGE = 1 << 22
"""Bytes of text: some hundred thousand entries, which are 25 MB as a dict."""


class _Entries:
    """What is in force: a dict or an index."""

    __slots__ = ("get", "index", "plain", "problems")

    def __init__(self, source: dict[str, str] | Index, problems: list[Problem]) -> None:
        self.get = source.get
        self.index = source if isinstance(source, Index) else None
        self.plain = source if isinstance(source, dict) else {}
        self.problems = problems


class IndexedTable(Table):
    """Give ``alias`` to say which format it is, whatever the settings say."""

    def __init__(self, spec: Spec, environment: Environment, *, alias: bool | None = None) -> None:
        super().__init__(spec.name)
        self.path = spec.path
        self.alias = is_alias_file(spec.type, self.path, spec.settings) if alias is None else alias
        self._utf8 = spec.settings.flag("smtputf8_enable")
        self._log = environment.log
        self._has_index = spec.type in INDEXED_TYPES
        self._file = Watched(spec.name, self.path, self._read, environment, self._loaded, self._in_force)

    async def lookup(self, key: str) -> str | None:
        try:
            value = self._file.get().get(key)
        except IndexProblem as problem:
            raise TableError(f"{self.name}: {problem}") from None
        if value and self._utf8 and not (value.isascii() or is_utf8(value)):
            raise TableError(f"{self.name}: non-UTF-8 lookup result")
        return value

    def source(self, key: str) -> str | None:
        try:
            line = find_line(self.path, fold(key), alias=self.alias, utf8=self._utf8)
        except OSError:
            line = None
        if line:
            return f"{self.path}:{line}"
        place, is_index = self._in_force()
        return str(place) if is_index and self._file.get().get(fold(key)) is not None else None

    def owner(self) -> int:
        return owner_of(self._in_force()[0])

    def entries(self) -> list[tuple[str, str]]:
        known = self._file.get()
        return list(known.plain.items() if known.index is None else known.index.items())

    def findings(self) -> list[Finding]:
        found = self._file.findings()
        if not found:
            found = [
                Finding(WARNING, str(self.path), problem.line, problem.what)
                for problem in self._file.get().problems
            ]
        return found

    def _in_force(self) -> tuple[Path, bool]:
        return in_force(self.path) if self._has_index else (self.path, False)

    def _read(self, path: Path) -> _Entries:
        if path != self.path:
            return _Entries(open_index(path), [])
        size = os.stat(path).st_size
        if size >= LARGE:
            try:
                with open(path, "rb") as file:
                    return _Entries(*private_index(file, size, alias=self.alias, utf8=self._utf8))
            except (OSError, IndexProblem):
                # No room for temporary files: memory, then.
                pass
        content = read_table(path, alias=self.alias, utf8=self._utf8)
        return _Entries(content.entries, content.problems)

    def _loaded(self, entries: _Entries, renewed: bool) -> None:
        if renewed:
            for line, what in entries.problems:
                self._log.warning(PROGRAM, f"{self.path}, line {line}: {what}")


def in_force(path: Path) -> tuple[Path, bool]:
    """The text or its index, and whether it is the index: the newer one, and the index if both are of one time."""
    index = index_path(path)
    try:
        made = os.stat(index).st_mtime_ns
    except OSError:
        return path, False
    try:
        written = os.stat(path).st_mtime_ns
    except OSError:
        return index, True
    return (index, True) if made >= written else (path, False)


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
