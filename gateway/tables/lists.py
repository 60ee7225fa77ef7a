"""Lists of patterns that a name or an address is in or not: mydestination, relay_domains, mynetworks …; postconf(5).

Members: literal patterns, ``!pattern`` to take out, ``/file/name`` (more members, a changed file is read anew),
``type:table``.  The first member that matches decides.  Runs of literals are kept in a dict, so that a list of
literals only is one quick look: ``match_now`` answers without awaiting anything wherever tables have no say.

A member that cannot be used, and a table that cannot answer, is a TableError for whoever gets that far, as guessing
would let in or bounce what it must not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.findings import ERROR, Finding
from gateway.config.settings import split_words
from gateway.interfaces import TableError
from gateway.tables.base import Environment, Table, absolute, fold
from gateway.tables.networks import BadPattern, NetworkIndex, parse_address, parse_network
from gateway.tables.search import domain_keys
from gateway.tables.text import open_text
from gateway.tables.watch import Watched

if TYPE_CHECKING:
    from gateway.config.settings import Settings

MAX_NESTING = 10
MOST_ANSWERS = 1024
"""Clients about which a list keeps in mind what it has answered."""

_ADDRESS_CHARACTERS = frozenset("0123456789./")


@dataclass(slots=True, frozen=True)
class Source:
    """Where the members of a list come from."""

    open: Callable[[str], Table]
    settings: Settings
    environment: Environment
    program: str
    """The tag under which failing look-ups are logged."""


class Literals:
    """A run of literal members: pattern → (place in the run, verdict)."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, bool]] = {}
        self.networks: NetworkIndex[tuple[int, bool]] | None = None
        self._count = 0

    def add(self, pattern: str, verdict: bool) -> None:
        self.known.setdefault(fold(pattern), (self._next(), verdict))

    def add_network(self, pattern: str, verdict: bool) -> None:
        """Raises BadPattern."""
        network = parse_network(pattern)
        if self.networks is None:
            self.networks = NetworkIndex()
        self.networks.add(network, (self._next(), verdict))

    def _next(self) -> int:
        self._count += 1
        return self._count


@dataclass(slots=True, frozen=True)
class InTable:
    """A member "type:table"."""

    table: Table
    verdict: bool


@dataclass(slots=True, frozen=True)
class InFile:
    """A member "/file/name"."""

    members: Watched[list[Member]]


@dataclass(slots=True, frozen=True)
class Broken:
    """A member that cannot be used."""

    what: str


Member = Literals | InTable | InFile | Broken


class PatternList:
    """The common part.  Subclasses say what a literal means and which keys a table is asked for."""

    def __init__(self, words: Sequence[str], source: Source, title: str) -> None:
        self.title = title
        self._source = source
        self._members = self._compile(words, True, 0)
        self.constant = all(isinstance(member, Literals) for member in self._members)
        """No file or table is concerned: a name's answer never changes."""

    @property
    def empty(self) -> bool:
        return not self._members

    def __bool__(self) -> bool:
        return bool(self._members)

    def match_now(self, name: str) -> bool | None:
        """Whether it is in the list, as far as that can be told at once; None = await match().  Raises TableError."""
        return self._now(self._members, fold(name))[1]

    async def match(self, name: str) -> bool:
        """Whether it is in the list.  Raises TableError."""
        verdict = await self._test(self._members, fold(name))
        return bool(verdict)

    def findings(self) -> list[Finding]:
        return list(self._findings(self._members))

    def _findings(self, members: list[Member]) -> Iterator[Finding]:
        place = self._source.settings.place(self.title)
        for member in members:
            if isinstance(member, Broken):
                yield Finding(ERROR, place.file, place.line, f"{self.title}: {member.what}", "correct the list")
            elif isinstance(member, InFile):
                found = member.members.findings()
                yield from found or self._findings(member.members.get())

    # --- for subclasses ---------------------------------------------------------------------------------------

    def _add(self, literals: Literals, pattern: str, verdict: bool) -> None:
        """Raises BadPattern."""
        literals.add(pattern, verdict)

    def _literal(self, literals: Literals, name: str) -> bool | None:
        found = literals.known.get(name)
        return found[1] if found else None

    async def _in_table(self, table: Table, name: str) -> bool:
        return await table.ask(name) is not None

    # --- matching ---------------------------------------------------------------------------------------------

    def _now(self, members: list[Member], name: str) -> tuple[bool, bool | None]:
        """(a member of these decides, the verdict); the verdict is None if a table has to be asked."""
        for member in members:
            if isinstance(member, Literals):
                verdict = self._literal(member, name)
                if verdict is not None:
                    return True, verdict
            elif isinstance(member, InFile):
                decided, verdict = self._now(self._read(member), name)
                if decided or verdict is None:
                    return decided, verdict
            elif isinstance(member, InTable):
                return False, None
            else:
                raise TableError(f"{self.title}: {member.what}")
        return False, False

    async def _test(self, members: list[Member], name: str) -> bool | None:
        for member in members:
            if isinstance(member, Literals):
                verdict = self._literal(member, name)
            elif isinstance(member, InFile):
                verdict = await self._test(self._read(member), name)
            elif isinstance(member, InTable):
                verdict = await self._ask(member, name)
            else:
                raise TableError(f"{self.title}: {member.what}")
            if verdict is not None:
                return verdict
        return None

    def _read(self, member: InFile) -> list[Member]:
        try:
            return member.members.get()
        except TableError as error:
            self._log_problem(str(error))
            raise

    async def _ask(self, member: InTable, name: str) -> bool | None:
        try:
            return member.verdict if await self._in_table(member.table, name) else None
        except TableError as error:
            self._log_problem(str(error))
            self._log_problem(f"{self.title}: {member.table.name}: table lookup problem")
            raise

    def _log_problem(self, text: str) -> None:
        self._source.environment.log.warning(self._source.program, text)

    # --- making -----------------------------------------------------------------------------------------------

    def _compile(self, words: Sequence[str], verdict: bool, depth: int) -> list[Member]:
        members: list[Member] = []
        for word in words:
            pattern = word.lstrip("!")
            holds = verdict if (len(word) - len(pattern)) % 2 == 0 else not verdict
            if pattern.startswith("/"):
                members.append(self._file(pattern, holds, depth))
            elif ":" in pattern and not pattern.startswith("["):
                members.append(InTable(self._source.open(pattern), holds))
            elif pattern:
                self._add_literal(members, pattern, holds)
        return members

    def _add_literal(self, members: list[Member], pattern: str, holds: bool) -> None:
        last = members[-1] if members else None
        literals = last if isinstance(last, Literals) else Literals()
        try:
            self._add(literals, pattern, holds)
        except BadPattern as problem:
            members.append(Broken(str(problem)))
        else:
            if literals is not last:
                members.append(literals)

    def _file(self, name: str, holds: bool, depth: int) -> Member:
        if depth >= MAX_NESTING:
            return Broken(f"{name}: files within files are nested too deeply")

        def parse(path: Path) -> list[Member]:
            return self._compile(_words_of_file(path), holds, depth + 1)

        path = absolute(name, self._source.settings)
        watched = Watched(f"{self.title}: {name}", path, parse, self._source.environment)
        return InFile(watched)


class StringList(PatternList):
    """Names that stand for themselves only."""


class DomainList(PatternList):
    """Domains.  ``parent``: "example.com" holds its subdomains; else ".example.com" stands for them."""

    def __init__(self, words: Sequence[str], source: Source, title: str, *, parent: bool) -> None:
        self._parent = parent
        super().__init__(words, source, title)

    def _literal(self, literals: Literals, name: str) -> bool | None:
        return _best(literals, name, self._parent, None)

    async def _in_table(self, table: Table, name: str) -> bool:
        for key, partial in domain_keys(name, parent=self._parent):
            if not (partial and table.whole_keys) and await table.ask(key) is not None:
                return True
        return False


class AddressList(PatternList):
    """Networks, and domains of client names.  match() and match_now() want an address; ``name`` is the client's host
    name, if the list may hold such (Postfix takes them in mynetworks too)."""

    def __init__(self, words: Sequence[str], source: Source, title: str, *, parent: bool) -> None:
        self._parent = parent
        self._answers: dict[str, bool | None] = {}
        super().__init__(words, source, title)

    def match_now(self, name: str, host: str = "") -> bool | None:
        both = f"{name} {host}" if host else name
        if not self.constant:
            return super().match_now(both)
        # Several restrictions ask about the same client, and a client comes again.
        found = self._answers.get(both)
        if found is None:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            found = self._answers[both] = super().match_now(both)
        return found

    async def match(self, name: str, host: str = "") -> bool:
        return await super().match(f"{name} {host}" if host else name)

    def _add(self, literals: Literals, pattern: str, verdict: bool) -> None:
        if pattern.startswith("[") or _ADDRESS_CHARACTERS.issuperset(pattern):
            literals.add_network(pattern, verdict)
        elif "/" in pattern:
            raise BadPattern(f'bad address pattern: "{pattern}"')
        else:
            literals.add(pattern, verdict)

    def _literal(self, literals: Literals, name: str) -> bool | None:
        text, _, host = name.partition(" ")
        found: tuple[int, bool] | None = None
        if literals.networks is not None:
            address = parse_address(text)
            if address is not None:
                found = literals.networks.find(address)
        if host and literals.known:
            return _best(literals, host, self._parent, found)
        return found[1] if found else None

    async def _in_table(self, table: Table, name: str) -> bool:
        text, _, host = name.partition(" ")
        if host and await table.ask(host) is not None:
            return True
        return await table.ask(text) is not None


def _best(literals: Literals, name: str, parent: bool, found: tuple[int, bool] | None) -> bool | None:
    """The verdict of the first literal in the list that holds the domain; ``found``: one that was found already."""
    known = literals.known
    for key, _ in domain_keys(name, parent=parent):
        other = known.get(key)
        if other is not None and (found is None or other < found):
            found = other
    return found[1] if found else None


def _words_of_file(path: Path) -> list[str]:
    lines = (line.strip() for line in open_text(path))
    return [word for line in lines if line and line[0] != "#" for word in split_words(line)]
