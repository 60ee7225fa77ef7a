"""Typed settings: what main.cf says over the table's defaults, with all $names replaced; postconf(5).

    settings = Settings({"myhostname": "mail.example"})
    settings.text("mydomain")            → "example"
    settings.seconds("maximal_queue_lifetime") → 432000.0
    settings.transport_number("smtp", "destination_recipient_limit")

A Settings never changes; with_overrides gives another one (master.cf's "-o").  Values are worked out when they are
first asked for and kept.  A value that cannot be used (bad number, broken $expression) raises ConfigError with its
place; a name that is neither in the table nor set is a mistake of the program: UnknownParameter, a KeyError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from gateway.config import computed, parameters
from gateway.config.expand import ExpandError, expand
from gateway.config.findings import ConfigError

T = TypeVar("T")

_SEPARATORS = ", \t\r\n"
_NUMBER = re.compile(r"[ \t\r\n]*[+-]?[0-9]{1,18}\Z")
_TIME = re.compile(r"([0-9]{1,18})([smhdwSMHDW]?)\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Place(NamedTuple):
    """Where a setting stands."""

    file: str
    line: int


class UnknownParameter(KeyError):
    """Asked for by a name that nobody knows."""


class Settings:
    """Parameter values.  ``values`` are raw, as in main.cf; ``places`` say where each stands, for messages."""

    def __init__(
        self,
        values: Mapping[str, str] | None = None,
        *,
        directory: Path | None = None,
        places: Mapping[str, Place] | None = None,
    ) -> None:
        self.directory = directory
        """Where main.cf is; None = built-in defaults only."""
        self.values: dict[str, str] = dict(values or {})
        """What is set, raw."""
        self.places: dict[str, Place] = dict(places or {})
        self._texts: dict[str, str] = {}
        self._typed: dict[tuple[str, str], object] = {}
        self._open: list[str] = []

    # --- one value -------------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The value with all names replaced (parameters of type raw: as it is)."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = self._evaluate(name)
        return found

    def raw(self, name: str) -> str:
        """The value as written, its $names untouched."""
        if name in self.values:
            return self.values[name]
        known = parameters.find(name)
        if known is None:
            raise UnknownParameter(name)
        if known.default == parameters.COMPUTED:
            return computed.DEFAULTS[name](self)
        return known.default

    def number(self, name: str) -> int:
        return self._as(name, "number", self._number)

    def seconds(self, name: str) -> float:
        return self._as(name, "seconds", self._seconds)

    def flag(self, name: str) -> bool:
        return self._as(name, "flag", self._flag)

    def words(self, name: str) -> list[str]:
        """The list's members; a part in braces is one member, braces included."""
        return list(self._as(name, "words", lambda _, text: tuple(self._words(name, text))))

    def is_set(self, name: str) -> bool:
        """Whether the configuration says anything about it, be it the default or an empty value."""
        return name in self.values

    def place(self, name: str) -> Place:
        """Where it is set; Place("", 0) when it is not."""
        return self.places.get(name, Place("", 0))

    def expand(self, text: str) -> str:
        """Any text with $names of parameters replaced.  Raises ExpandError."""
        return expand(text, self._lookup)

    # --- the families of a delivery service -----------------------------------------------------------------------

    def transport_text(self, service: str, suffix: str) -> str:
        return self.text(self._member(service, suffix))

    def transport_number(self, service: str, suffix: str) -> int:
        return self.number(self._member(service, suffix))

    def transport_seconds(self, service: str, suffix: str) -> float:
        return self.seconds(self._member(service, suffix))

    @staticmethod
    def _member(service: str, suffix: str) -> str:
        if suffix not in parameters.FAMILIES:
            raise UnknownParameter(f"SERVICE_{suffix}")
        return f"{service}_{suffix}"

    # --- other settings from these -----------------------------------------------------------------------------

    def with_overrides(self, overrides: Mapping[str, str], place: Place | None = None) -> Settings:
        """These settings with some raw values replaced.  ``place``: where the overrides stand."""
        if not overrides:
            return self
        places = self.places | {name: place or Place("", 0) for name in overrides}
        return Settings(self.values | dict(overrides), directory=self.directory, places=places)

    # --- within --------------------------------------------------------------------------------------------------

    def error(self, name: str, what: str, mend: str = "") -> ConfigError:
        """A ConfigError about that parameter, with its place."""
        place = self.place(name)
        return ConfigError(what, mend, file=place.file or "main.cf", line=place.line)

    def _evaluate(self, name: str) -> str:
        raw = self.raw(name)
        if "$" not in raw:
            return self._first_line(name, raw) if raw[:1] == "/" and name == "myorigin" else raw
        known = parameters.find(name)
        if known is not None and known.type == parameters.RAW:
            other = parameters.table().get(raw[1:])
            return self.text(other.name) if other is not None and other.type == parameters.RAW else raw
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise self.error(name, f"{name} refers to itself ({circle})", "break the circle")
        self._open.append(name)
        try:
            return expand(raw, self._lookup)
        except ExpandError as problem:
            raise self.error(name, f"{name}: {problem}", "correct the expression") from None
        except RecursionError:
            raise self.error(name, f"{name}: expressions are nested too deeply", "simplify the value") from None
        finally:
            self._open.pop()

    def _first_line(self, name: str, path: str) -> str:
        """Debian's habit: "myorigin = /etc/mailname" means the first line of that file."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return file.readline().strip()
        except OSError as problem:
            what = f"{name}: {path} cannot be read: {problem.strerror}"
            raise self.error(name, what, "create the file, or give the domain itself") from None

    def _lookup(self, name: str) -> str | None:
        try:
            return self.text(name)
        except UnknownParameter:
            return None

    def _as(self, name: str, type: str, convert: Callable[[str, str], T]) -> T:
        key = (type, name)
        if key not in self._typed:
            self._typed[key] = convert(name, self.text(name))
        return self._typed[key]  # type: ignore[return-value]

    def _number(self, name: str, text: str) -> int:
        if not _NUMBER.match(text):
            raise self.error(name, f"bad numerical configuration: {name} = {text}", "give a whole number")
        return int(text)

    def _flag(self, name: str, text: str) -> bool:
        lower = text.lower()
        if lower not in ("yes", "no"):
            raise self.error(name, f"bad boolean configuration: {name} = {text}", "give yes or no")
        return lower == "yes"

    def _seconds(self, name: str, text: str) -> float:
        match = _TIME.match(text)
        if not match:
            raise self.error(
                name,
                f"parameter {name}: bad time value or unit: {text}",
                "give a number with s, m, h, d or w behind it",
            )
        unit = match.group(2).lower() or self.unit(name)
        return float(int(match.group(1)) * _UNITS[unit])

    def unit(self, name: str) -> str:
        """The unit of a time that is written without one: that of the parameter's default."""
        known = parameters.find(name)
        default = known.default if known is not None else ""
        for _ in range(10):
            if default[-1:] in _UNITS and (default[:-1].isdigit() or default[-2:-1] == "}"):
                return default[-1]
            known = parameters.find(default[1:]) if default.startswith("$") else None
            if known is None:
                break
            default = known.default
        return "s"

    def _words(self, name: str, text: str) -> Iterable[str]:
        try:
            return split_words(text)
        except ValueError as problem:
            raise self.error(name, f"{name}: {problem}", "balance the braces") from None


def split_service(word: str) -> tuple[str, list[tuple[str, str, str | None]]]:
    """A server with options of its own: SERVER, or {SERVER, name=value, {name = value} …}.  The server ("" = there is
    none), and of each option how it is written, its name, and its value (None = there is no "=").  ValueError for
    braces that don't match."""
    if not word.startswith("{"):
        return word, []
    server, *options = split_words(word[1:-1]) or [""]
    found: list[tuple[str, str, str | None]] = []
    for option in options:
        name, equals, value = option.removeprefix("{").removesuffix("}").partition("=")
        found.append((option, name.strip(), value.strip() if equals else None))
    return server, found


def split_words(text: str, separators: str = _SEPARATORS) -> list[str]:
    """Split at commas and blanks; {…} stays whole, its braces included.  ValueError for braces that don't match."""
    if "{" not in text and "}" not in text:
        return text.replace(",", " ").split() if separators == _SEPARATORS else _plain_split(text, separators)
    words: list[str] = []
    start, level = -1, 0
    for at, character in enumerate(text):
        if level == 0 and character in separators:
            if start >= 0:
                words.append(text[start:at])
                start = -1
            continue
        if start < 0:
            start = at
        if character == "{":
            level += 1
        elif character == "}":
            level -= 1
            if level < 0:
                raise ValueError(f'unexpected "}}" in "{text}"')
    if level:
        raise ValueError(f'missing "}}" in "{text}"')
    if start >= 0:
        words.append(text[start:])
    return words


def _plain_split(text: str, separators: str) -> list[str]:
    return [word for word in re.split(f"[{re.escape(separators)}]+", text) if word]
