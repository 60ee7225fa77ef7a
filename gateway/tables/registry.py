"""The tables of a gateway: made once by the composition, asked by everybody.

    tables = Tables(clock=reactor, log=log, reactor=reactor, resolver=resolver)
    transports = tables.maps(settings.words("transport_maps"), settings, title="transport_maps")
    local = tables.string_list("mydestination", settings)

The same spec opened twice is the same table, so that a file is read once whoever uses it.  Opening never fails for
what is in a spec: a table that cannot be made answers with TableError, and findings() says what is wrong.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.config.findings import Finding
from gateway.interfaces import TableError
from gateway.tables.base import Clock, Environment, Spec, Table, Unavailable
from gateway.tables.lists import AddressList, DomainList, PatternList, Source, StringList
from gateway.tables.maps import Maps
from gateway.tables.types import make_table

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.interfaces import Log
    from gateway.tables.databases.served import Elsewhere

MAX_THREADS = 3
MAX_DEPTH = 20
_SETTINGS = ("smtputf8_enable", "header_size_limit", "alias_maps", "alias_database")
"""What tables read of the settings: where these differ, tables are not shared."""

_AnyList = TypeVar("_AnyList", bound=PatternList)


class Tables:
    """``reactor``: for threads and connections; None = look-ups may block (commands).  ``resolver``: IResolver for
    the host names of table servers.  ``elsewhere``: another role that has the connections to databases."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        reactor: Any = None,
        resolver: Any = None,
        wall: Callable[[], float] = time.time,
        choose: Callable[[Sequence[str]], str] = random.choice,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._environment = Environment(
            clock, log, wall, choose, reactor=reactor, resolver=resolver, elsewhere=elsewhere
        )
        self._pool: Any = None
        self._matcher: Any = None
        self._databases: Any = None
        if reactor is not None:
            self._environment.in_thread = self._in_thread
            self._environment.matcher = self._get_matcher
        self._environment.databases = self._get_databases
        self._tables: dict[tuple[object, ...], Table] = {}
        self._lists: list[PatternList] = []
        self._depth = 0

    def open(self, spec: str, settings: Settings, *, substitution: bool = True) -> Table:
        """The table "type:name".  ``substitution=False``: $1 in pattern tables is not allowed."""
        key = (spec, settings.directory, substitution, *map(settings.text, _SETTINGS))
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = self._make(spec, settings, substitution)
        return table

    def maps(
        self,
        specs: Sequence[str],
        settings: Settings,
        *,
        title: str = "",
        program: str = "trivial-rewrite",
        substitution: bool = True,
    ) -> Maps:
        """Several tables, to be searched in that order.  ``title``: the parameter they are from; ``program``: the tag
        under which failing look-ups are logged."""
        tables = [self.open(spec, settings, substitution=substitution) for spec in specs]
        return Maps(tables, title=title, program=program, log=self._environment.log)

    def domain_list(
        self, name: str, settings: Settings, *, words: Sequence[str] | None = None, program: str = "smtpd"
    ) -> DomainList:
        """A list such as relay_domains.  Whether "example.com" holds its subdomains says
        parent_domain_matches_subdomains.  ``words``: the list itself if it is not the value of ``name``."""
        parent = name in settings.words("parent_domain_matches_subdomains")
        source = self._source(settings, program)
        return self._list(DomainList(self._words(name, settings, words), source, name, parent=parent))

    def string_list(
        self, name: str, settings: Settings, *, words: Sequence[str] | None = None, program: str = "smtpd"
    ) -> StringList:
        """A list of names that stand for themselves only, such as mydestination."""
        return self._list(StringList(self._words(name, settings, words), self._source(settings, program), name))

    def address_list(
        self, name: str, settings: Settings, *, words: Sequence[str] | None = None, program: str = "smtpd"
    ) -> AddressList:
        """A list of networks, and of host names, such as mynetworks."""
        parent = name in settings.words("parent_domain_matches_subdomains")
        source = self._source(settings, program)
        return self._list(AddressList(self._words(name, settings, words), source, name, parent=parent))

    def findings(self) -> list[Finding]:
        """What is wrong with all tables and lists that are open, each thing once."""
        found: dict[Finding, None] = {}
        for table in self._tables.values():
            found.update(dict.fromkeys(table.findings()))
        for members in self._lists:
            found.update(dict.fromkeys(members.findings()))
        return list(found)

    def close(self) -> None:
        """Close connections, end threads and processes."""
        for table in self._tables.values():
            table.close()
        if self._databases is not None:
            self._databases.close()
            self._databases = None
        if self._matcher is not None:
            self._matcher.stop()
            self._matcher = None
        if self._pool is not None:
            self._pool.stop()
            self._pool = None

    def _make(self, name: str, settings: Settings, substitution: bool) -> Table:
        type, colon, argument = name.partition(":")
        if not colon or not argument:
            return Unavailable(name, f'open dictionary: expecting "type:name" form instead of "{name}"')

        def open_inner(inner: str) -> Table:
            return self.open(inner, settings, substitution=substitution)

        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise TableError("tables within tables are nested too deeply")
            return make_table(Spec(name, type, argument, settings, open_inner, substitution), self._environment)
        except (TableError, ValueError) as error:
            return Unavailable(name, str(error))
        finally:
            self._depth -= 1

    def _source(self, settings: Settings, program: str) -> Source:
        return Source(lambda spec: self.open(spec, settings), settings, self._environment, program)

    def _list(self, made: _AnyList) -> _AnyList:
        self._lists.append(made)
        return made

    @staticmethod
    def _words(name: str, settings: Settings, words: Sequence[str] | None) -> Sequence[str]:
        return settings.words(name) if words is None else words

    def _get_matcher(self) -> Any:
        from gateway.tables.matcher import Matcher

        if self._matcher is None:
            self._matcher = Matcher(self._environment.reactor)
        return self._matcher

    def _get_databases(self) -> Any:
        from gateway.tables.databases.pool import Databases

        if self._databases is None:
            self._databases = Databases(self._environment.reactor)
        return self._databases

    def _in_thread(self, call: Callable[[], Any]) -> Awaitable[Any]:
        from twisted.internet.threads import deferToThreadPool

        if self._pool is None:
            from twisted.python.threadpool import ThreadPool

            self._pool = ThreadPool(0, MAX_THREADS, "tables")
            self._pool.start()
        return deferToThreadPool(self._environment.reactor, self._pool, call)
