"""What all lookup tables have in common.

A table is opened from a Spec ("type:name" and the settings it stands in) and an Environment (clock, log, threads,
reactor, names: whatever a table may need from outside).  A constructor that cannot make anything of its name raises
TableError; gateway.tables.registry turns that into an Unavailable table, so that a broken table defers mail and
never bounces it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zope.interface import implementer

from gateway.config.findings import ERROR, Finding
from gateway.interfaces import ILookupTable, TableError

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.interfaces import Log
    from gateway.tables.databases.pool import Databases
    from gateway.tables.databases.served import Elsewhere
    from gateway.tables.matcher import Matcher

T = TypeVar("T")

PROGRAM = "postmap"
"""The tag under which tables log what they find in their files: Postfix says it when postmap builds the index."""


class Clock(Protocol):
    """The part of IReactorTime that tables use."""

    def seconds(self) -> float: ...


@dataclass(slots=True)
class Environment:
    """What tables need from outside."""

    clock: Clock
    log: Log
    wall: Callable[[], float]
    """Seconds since the epoch, to be compared with a file's modification time."""
    choose: Callable[[Sequence[str]], str]
    """Picks one at random (randmap)."""
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    """Runs a call in a thread of the tables' own; None = there is no reactor, so block."""
    reactor: Any = None
    """For connections; None = tables that need the network take the global one."""
    matcher: Callable[[], Matcher] | None = None
    """Where patterns are tried that may take long; None = there is no reactor, so try them and block."""
    databases: Callable[[], Databases] | None = None
    """Connections to databases, shared; None = each table has its own, and blocks."""
    elsewhere: Elsewhere | None = None
    """Another role that asks databases for this one: see gateway.tables.databases.served."""
    resolver: Any = None
    """An IResolver for host names in tcp: and socketmap:; None = the system's, blocking."""


@dataclass(slots=True, frozen=True)
class Spec:
    """One "type:name", and where it stands."""

    name: str
    """As configured."""
    type: str
    argument: str
    settings: Settings
    open: Callable[[str], Table]
    """Opens another table, for those that are made of others."""
    substitution: bool = True
    """False: results must not take in parts of the key ($1), for security (alias_maps, transport_maps …)."""

    @property
    def path(self) -> Path:
        return absolute(self.argument, self.settings)


def absolute(name: str, settings: Settings) -> Path:
    """The path of a table: a relative one counts from the configuration directory."""
    return (settings.directory or Path.cwd()) / name


def owner_of(path: Path) -> int:
    """The uid of a file's owner; 0 if it is not there."""
    try:
        return path.stat().st_uid
    except OSError:
        return 0


def fold(key: str) -> str:
    """The key in the form that case-folding tables keep."""
    return key.lower() if key.isascii() else key.casefold()


@implementer(ILookupTable)
class Table:
    """The common part of the tables here; see ILookupTable."""

    folds_case = True
    whole_keys = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def lookup(self, key: str) -> str | None:
        raise NotImplementedError

    async def ask(self, key: str) -> str | None:
        """lookup() with the key in the form that this table wants."""
        return await self.lookup(fold(key) if self.folds_case else key)

    def owner(self) -> int:
        """The uid of who may write the table's file; 0 if there is no file, or it is not there."""
        return 0

    def source(self, key: str) -> str | None:
        """Where the answer for that key stands, "file:line"; None where there is no such place."""
        return None

    def findings(self) -> list[Finding]:
        """What is wrong with the table, as far as it is known without asking it."""
        return []

    def entries(self) -> list[tuple[str, str]] | None:
        """All keys and values in the table's order; None where they cannot be listed."""
        return None

    def close(self) -> None:
        """Let go of connections."""


class Unavailable(Table):
    """Stands for a table that cannot be opened: every look-up is a TableError."""

    folds_case = False

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name)
        self.why = why

    async def lookup(self, key: str) -> str | None:
        raise TableError(f"{self.name} is unavailable. {self.why}")

    def findings(self) -> list[Finding]:
        return [Finding(ERROR, "", 0, f"{self.name}: {self.why}", "mend it, or take another table")]


def braced(text: str) -> str | None:
    """The inside of "{ … }", trimmed; None if the text is not one pair of braces around it all."""
    if not text.startswith("{") or not text.endswith("}"):
        return None
    level = 0
    for at, character in enumerate(text):
        level += (character == "{") - (character == "}")
        if level == 0 and at < len(text) - 1:
            return None
    return text[1:-1].strip() if level == 0 else None
