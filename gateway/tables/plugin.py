"""``python:NAME`` and ``python:NAME:ARGUMENT``: a table of another package, by its IGatewayPlugin drop-in."""

from __future__ import annotations

from typing import Any

from twisted.plugin import getPlugins

from gateway.interfaces import IGatewayPlugin, ILookupTable, TableError
from gateway.tables.base import Environment, Spec, Table


class PluginTable(Table):
    """Whatever the plug-in makes, behind our own interface; its exceptions become TableErrors."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        name, _, argument = spec.argument.partition(":")
        plugins: Any = getPlugins(IGatewayPlugin)
        plugin = next((known for known in plugins if known.name == name and known.kind is ILookupTable), None)
        if plugin is None:
            raise TableError(f'no plug-in "{name}" for lookup tables is installed')
        try:
            self._table = plugin.make(spec.settings, argument)
        except Exception as error:
            raise TableError(f'plug-in "{name}": {error}') from error
        if not ILookupTable.providedBy(self._table):
            raise TableError(f'plug-in "{name}" makes something that is no ILookupTable')
        self.folds_case = self._table.folds_case
        self.whole_keys = self._table.whole_keys

    async def lookup(self, key: str) -> str | None:
        try:
            value = await self._table.lookup(key)
        except TableError:
            raise
        except Exception as error:
            raise TableError(f"{self.name}: {type(error).__name__}: {error}") from error
        if value is not None and not isinstance(value, str):
            raise TableError(f"{self.name}: the answer is no text")
        return value

    def source(self, key: str) -> str | None:
        source = getattr(self._table, "source", None)
        return source(key) if source is not None else None

    def close(self) -> None:
        close = getattr(self._table, "close", None)
        if close is not None:
            close()
