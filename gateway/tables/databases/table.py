"""What tables of databases have in common: which keys are asked for, the form of the results, and their number."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table
from gateway.tables.databases.pool import Databases, Limits
from gateway.tables.databases.served import SHARED
from gateway.tables.databases.source import Parameters
from gateway.tables.databases.template import Template
from gateway.tables.lists import Source, StringList
from gateway.tables.text import is_utf8


class DatabaseTable(Table):
    """``domain``, ``result_format``, ``expansion_limit``; ``timeout``, ``max_connections``, ``idle_interval``,
    ``retry_interval``."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self.parameters = parameters = Parameters(spec)
        self.result_format = Template(self._result_format(), "result_format")
        self._limit = parameters.number("expansion_limit", 0)
        words = parameters.words("domain")
        self._domains: StringList | None = None
        if words:
            self._domains = StringList(words, Source(spec.open, spec.settings, environment, "postmap"), "domain")
        self._elsewhere = environment.elsewhere if spec.type in SHARED else None
        self.databases = environment.databases() if environment.databases else Databases(None)
        self.limits = Limits(
            timeout=parameters.number("timeout", 10),
            connections=max(parameters.number("max_connections", 2), 1),
            idle=parameters.number("idle_interval", 60),
            retry=parameters.number("retry_interval", 60),
        )

    def _result_format(self) -> str:
        return self.parameters.text("result_format", "%s")

    async def lookup(self, key: str) -> str | None:
        if not is_utf8(key) or "\0" in key or not self.result_format.suits(key):
            return None
        if self._domains is not None:
            local, at, domain = key.rpartition("@")
            if not at or not local or not await self._domains.match(domain):
                return None
        if self._elsewhere is not None:
            status, *answer = await self._elsewhere(self.name, key)
            if status == "found":
                return answer[0] if isinstance(answer[0], str) else None
            if status == "error":
                raise TableError(str(answer[0]))
        try:
            return await self.ask_database(key)
        except TableError as problem:
            raise TableError(f"{self.name}: {problem}") from None

    async def ask_database(self, key: str) -> str | None:
        """Raises TableError, without the table's name."""
        raise NotImplementedError

    def joined(self, values: Iterable[str | None], key: str) -> str | None:
        """All results with commas between.  Raises TableError for too many."""
        found = [
            text for value in values if value is not None and (text := self.result_format.of_result(value, key))
        ]
        if self._limit and len(found) > self._limit:
            raise TableError(f"{self.parameters.place}: Expansion limit exceeded for key: '{key}'")
        return ",".join(found) if found else None


def as_text(value: object) -> str | None:
    """A value out of a database."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)
