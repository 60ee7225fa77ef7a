"""Tables made of other tables: pipemap, unionmap, randmap, proxy, debug; DATABASE_README.

The members fold keys each in its own way, so these get the key as it is.
"""

from __future__ import annotations

from gateway.config.findings import Finding
from gateway.config.settings import split_words
from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table, braced


class _Combined(Table):
    """The common part: ``TYPE:{type:name, type:name …}``."""

    folds_case = False

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self.members: list[Table] = [spec.open(word) for word in _members(spec, "type:name")]
        self.whole_keys = all(member.whole_keys for member in self.members)

    def source(self, key: str) -> str | None:
        return next((place for member in self.members if (place := member.source(key))), None)

    def findings(self) -> list[Finding]:
        return [finding for member in self.members for finding in member.findings()]

    def owner(self) -> int:
        return next(filter(None, (member.owner() for member in self.members)), 0)


class PipeTable(_Combined):
    """``pipemap:{A, B …}``: what A answers is asked of B, and so on."""

    async def lookup(self, key: str) -> str | None:
        value: str | None = key
        for member in self.members:
            assert value is not None
            value = await member.ask(value)
            if value is None:
                return None
        return value

    def source(self, key: str) -> str | None:
        return self.members[0].source(key)


class UnionTable(_Combined):
    """``unionmap:{A, B …}``: all that any of them answers, with commas between."""

    async def lookup(self, key: str) -> str | None:
        answers = [answer for member in self.members if (answer := await member.ask(key)) is not None]
        return ",".join(answers) if answers else None


class RandomTable(Table):
    """``randmap:{ONE, OTHER …}``: one of them, whatever the key."""

    folds_case = False
    whole_keys = True

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._choose = environment.choose
        self._values = _members(spec, "value")

    async def lookup(self, key: str) -> str | None:
        return self._choose(self._values)


class DebugTable(Table):
    """``debug:TYPE:NAME``: that table, and every question and answer in the log."""

    folds_case = False

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._inner = spec.open(spec.argument)
        self._log = environment.log
        self.whole_keys = self._inner.whole_keys

    async def lookup(self, key: str) -> str | None:
        try:
            value = await self._inner.ask(key)
        except TableError as error:
            self._log.info("debug", f'{self._inner.name} lookup: "{key}": error: {error}')
            raise
        self._log.info("debug", f'{self._inner.name} lookup: "{key}": {"not found" if value is None else value}')
        return value

    def source(self, key: str) -> str | None:
        return self._inner.source(key)

    def owner(self) -> int:
        return self._inner.owner()

    def findings(self) -> list[Finding]:
        return self._inner.findings()

    def entries(self) -> list[tuple[str, str]] | None:
        return self._inner.entries()


def proxy_table(spec: Spec, environment: Environment) -> Table:
    """``proxy:TYPE:NAME``: the table itself, as all tables are shared here."""
    return spec.open(spec.argument)


def _members(spec: Spec, need: str) -> list[str]:
    inside = braced(spec.argument)
    members = split_words(inside) if inside else []
    if not members:
        raise TableError(f'bad syntax: "{spec.name}"; need "{spec.type}:{{{need}...}}"')
    return members
