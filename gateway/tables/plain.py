"""Tables that stand in main.cf itself, or need nothing outside: static, inline, environ, fail; DATABASE_README."""

from __future__ import annotations

import os

from gateway.config.settings import split_words
from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table, braced, fold


class StaticTable(Table):
    """``static:TEXT`` or ``static:{ TEXT with spaces }``: the answer to every question."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._value = spec.argument
        if spec.argument.startswith("{"):
            inside = braced(spec.argument)
            if inside is None:
                raise TableError(f"bad static:name syntax: missing '}}' in \"{spec.argument}\"")
            self._value = inside

    async def lookup(self, key: str) -> str | None:
        return self._value


class InlineTable(Table):
    """``inline:{ key=value, { key = text with spaces } }``: of several entries with one key the last counts."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._entries: dict[str, str] = {}
        inside = braced(spec.argument)
        if not inside:
            raise TableError(f'bad syntax: "{spec.name}"; need "inline:{{name=value...}}"')
        for word in split_words(inside):
            self._add(word)

    def _add(self, word: str) -> None:
        text = word
        if word.startswith("{"):
            inside = braced(word)
            if inside is None:
                raise TableError(
                    f'syntax error after \'}}\' in "{word}": "{self.name}"; need "inline:{{name=value...}}"'
                )
            text = inside
        key, equals, value = text.partition("=")
        key = fold(key.strip())
        if not equals:
            raise TableError(f"missing '=' after attribute name: \"{self.name}\"; need \"inline:{{name=value...}}\"")
        self._entries[key] = value.strip()

    async def lookup(self, key: str) -> str | None:
        return self._entries.get(key)

    def entries(self) -> list[tuple[str, str]]:
        return list(self._entries.items())


class EnvironTable(Table):
    """``environ:ANYTHING``: the environment of the process."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)

    async def lookup(self, key: str) -> str | None:
        try:
            return os.environ.get(key)
        except ValueError:
            return None

    def entries(self) -> list[tuple[str, str]]:
        return list(os.environ.items())


class FailTable(Table):
    """``fail:REASON``: fails every time, to try out what the rest does then."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._reason = spec.argument

    async def lookup(self, key: str) -> str | None:
        raise TableError(f"{self.name}: {self._reason}")
