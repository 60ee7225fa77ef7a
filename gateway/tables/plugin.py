"""``python:NAME`` and ``python:NAME:ARGUMENT``: a table of another package, by its IGatewayPlugin drop-in."""

from __future__ import annotations

from typing import Any

from gateway.interfaces import ILookupTable, TableError
from gateway.plugins import PluginError, answer, make
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
        return await answer(self.name, self._table.lookup, key)

    def source(self, key: str) -> str | None:
        source = getattr(self._table, "source", None)
        return source(key) if source is not None else None

    def close(self) -> None:
        close = getattr(self._table, "close", None)
        if close is not None:
            close()
