"""``python:NAME`` and ``python:NAME:ARGUMENT``: a table of another package, by its IGatewayPlugin drop-in."""

from __future__ import annotations

from typing import Any

from gateway.interfaces import ILookupTable, TableError
from gateway.plugins import PluginError, make
from gateway.tables.base import Environment, Spec, Table


class PluginTable(Table):
    """Whatever the plug-in makes, behind our own interface; its exceptions become TableErrors."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        try:
            self._table: Any = make(ILookupTable, spec.argument, spec.settings)
        except PluginError as error:
            raise TableError(str(error)) from error
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
