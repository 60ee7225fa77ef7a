"""The words of a master.cf service that are NAME=VALUE: read once, each in the form that it must have.

Whatever is wrong raises ConfigError with the service's name and line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from gateway.config import ConfigError, Service

_AMOUNT = re.compile(r"([0-9]{1,15})([kMG]?)\Z")
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
_TIME = re.compile(r"([0-9]{1,9})([smhdw]?)\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Attributes:
    """``given``: values by name."""

    def __init__(self, service: Service, given: Mapping[str, str]) -> None:
        self._service = service
        self.given = dict(given)

    @classmethod
    def of(cls, service: Service, known: Collection[str]) -> Attributes:
        """All words of the service.  ``known``: the names that there are."""
        found = cls(service, {})
        for word in service.arguments:
            name, equals, value = word.partition("=")
            if not equals or name not in known:
                takes = " ".join(f"{one}=" for one in sorted(known))
                raise found.wrong(f'unknown attribute "{word}"', f"it takes {takes}")
            found.given[name] = value
        return found

    def wrong(self, what: str, mend: str) -> ConfigError:
        service = self._service
        return ConfigError(f"service {service.name}: {what}", mend, file=service.path, line=service.line)

    def text(self, name: str, default: str = "") -> str:
        return self.given.get(name, default)

    def needed(self, name: str, mend: str) -> str:
        value = self.given.get(name, "")
        if not value:
            raise self.wrong(f"{name}= is missing", mend)
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """The first one is the default."""
        value = self.given.get(name, choices[0])
        if value not in choices:
            raise self.wrong(f"{name}={value} is not known", f"use {', '.join(choices[:-1])} or {choices[-1]}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        return self.choice(name, ("yes", "no") if default else ("no", "yes")) == "yes"

    def words(self, name: str) -> list[str]:
        return [word for word in re.split(r"[,\s]+", self.given.get(name, "").strip("{}")) if word]

    def amount(self, name: str, default: int = 0) -> int:
        """50000, 50k, 10M, 1G."""
        return self.amount_of(name, self.given[name]) if name in self.given else default

    def amount_of(self, name: str, text: str) -> int:
        """The same of a part of the value."""
        match = _AMOUNT.match(text)
        if match is None:
            raise self.wrong(f"{name}={text} is no number", "write 50000, 50k, 10M or 1G")
        return int(match[1]) * _UNITS[match[2]]

    def money(self, name: str, default: float = 0.0) -> float:
        if name not in self.given:
            return default
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,4})?", self.given[name]) is None:
            raise self.wrong(f"{name}={self.given[name]} is no amount of money", "write 20 or 4.50")
        return float(self.given[name])

    def seconds(self, name: str, default: float = 0.0) -> float:
        """30s, 10m, 2h, 5d."""
        if name not in self.given:
            return default
        match = _TIME.match(self.given[name])
        if match is None:
            raise self.wrong(f"{name}={self.given[name]} is no time", "write 30s, 10m, 2h or 5d")
        return float(match[1]) * _SECONDS[match[2]]
