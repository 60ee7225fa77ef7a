"""The parameters of one database table: "TYPE:/file" or, as of old, NAME_parameter in main.cf for "TYPE:NAME".

A file is in the form of main.cf, without $names; a name that begins with neither a slash nor a dot is looked for in
main.cf.  Raises TableError, with file and line where there is one.
"""

from __future__ import annotations

from pathlib import Path

from gateway.config import main_cf
from gateway.config.findings import ERROR
from gateway.config.settings import UnknownParameter
from gateway.interfaces import TableError
from gateway.tables.base import Spec, absolute

_FLAGS = {"yes": True, "true": True, "no": False, "false": False}


class Parameters:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._file: Path | None = None
        self._values: dict[str, str] = {}
        if spec.argument.startswith(("/", ".")):
            self._file = absolute(spec.argument, spec.settings)
            self._read(self._file)

    def _read(self, path: Path) -> None:
        try:
            text = path.read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise TableError(f"open {path}: {error.strerror}") from None
        file = main_cf.parse(text, str(path))
        broken = [finding for finding in file.findings if finding.severity == ERROR]
        if broken:
            raise TableError(f"{path}, line {broken[0].line}: {broken[0].what}")
        self._values = {name: entry.value for name, entry in file.entries.items()}

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def text(self, name: str, default: str = "") -> str:
        found = self._find(name)
        return default if found is None else found

    def required(self, name: str) -> str:
        found = self.text(name)
        if not found:
            raise TableError(f"{self.place}: bad or missing parameter: {self.name_of(name)}")
        return found

    def number(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit()):
            raise TableError(f"{self.place}: bad numerical parameter: {self.name_of(name)} = {text}")
        return int(text)

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name)
        if text and text.lower() not in _FLAGS:
            raise TableError(f"{self.place}: bad boolean parameter: {self.name_of(name)} = {text}")
        return _FLAGS[text.lower()] if text else default

    def words(self, name: str, default: str = "") -> list[str]:
        return self.text(name, default).replace(",", " ").split()

    @property
    def place(self) -> str:
        """For messages."""
        return str(self._file or "main.cf")

    def name_of(self, name: str) -> str:
        return name if self._file is not None else f"{self._spec.argument}_{name}"

    def _find(self, name: str) -> str | None:
        if self._file is not None:
            return self._values.get(name)
        try:
            return self._spec.settings.text(self.name_of(name))
        except UnknownParameter:
            return None
