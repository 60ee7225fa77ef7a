"""postmap: make, query and change lookup tables; postmap(1).  postalias and newaliases are the same for aliases.

    postmap [-fFnNoprUuvw] [TYPE:]FILE…          make a table's index, and report what is wrong in its text
    postmap -q KEY|- [-bfFhmjU] TYPE:NAME…       ask tables of any type; "-": keys from standard input
    postmap -s [-F] [-j] TYPE:FILE               list a table
    postmap -d KEY|- TYPE:FILE…                  take an entry out of the index
    postmap -i [-r|-w] TYPE:FILE                 add entries from standard input to the index

When the command is done, a gateway that runs has what is in the file.  Exit status 0; 1 when nothing was found, and for
every error, with one line on standard error.  Making and changing is gateway.commands.table_changes.
"""

from __future__ import annotations

import base64
import binascii
import getopt
import json
import re
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.addresses import tokens
from gateway.commands import taking_up
from gateway.commands.message_keys import message_keys
from gateway.commands.table_changes import Change, Fatal, add, build, delete
from gateway.config import Settings, read
from gateway.config.builtin import builtin
from gateway.config.findings import Finding
from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table, Unavailable, fold
from gateway.tables.indexed import INDEXED_TYPES, IndexedTable
from gateway.tables.registry import Tables

T = TypeVar("T")

SUMMARY = "make, query or change lookup tables"

_FILE_TYPES = INDEXED_TYPES | {"texthash", "regexp", "pcre", "cidr"}
_NEEDS_REACTOR = re.compile(r"\b(?:tcp|socketmap|python|memcache|redis):")


class StandardErrorLog:
    """Log lines of the tables, as Postfix's commands show them."""

    def __init__(self, program: str) -> None:
        self._program = program

    def info(self, program: str, text: str) -> None:
        _say(self._program, text)

    def warning(self, program: str, text: str) -> None:
        _say(self._program, f"warning: {text}")

    def error(self, program: str, text: str) -> None:
        _say(self._program, f"error: {text}")


class SystemClock:
    def seconds(self) -> float:
        return time.monotonic()


@dataclass
class Request:
    """What the command line asks for."""

    program: str
    alias: bool
    flags: set[str] = field(default_factory=set)
    action: str = ""
    """"q", "d", "s" or "" = make, or add with -i."""
    key: str = ""
    tables: list[str] = field(default_factory=list)
    directory: Path | None = None

    def change(self, settings: Settings) -> Change:
        return Change(settings, lambda text: _say(self.program, f"warning: {text}"), self.alias, self.flags)

    @property
    def usage(self) -> str:
        options = "[-fFijnNoprsuvw]" if self.alias else "[-bfFhijmnNoprsuUvw]"
        return f"usage: {self.program} {options} [-c config_dir] [-d key] [-q key] [map_type:]file..."


def main(arguments: list[str], directory: Path | None) -> int:
    return run("postmap", arguments, directory, alias=False)


def run(program: str, arguments: list[str], directory: Path | None, *, alias: bool) -> int:
    """The command under either name.  ``alias``: files are in the format of aliases(5)."""
    request = Request(program, alias, directory=directory)
    try:
        _parse(request, arguments)
        return _perform(request, settings_for(request.directory, request.flags))
    except Fatal as problem:
        _say(program, f"fatal: {problem}")
        return 1


def settings_for(directory: Path | None, flags: Iterable[str] = ()) -> Settings:
    """The settings of a configuration directory, or the built-in ones."""
    settings = builtin().settings if directory is None else read(directory.absolute(), services=False).settings
    return settings.with_overrides({"smtputf8_enable": "no"}) if "u" in flags else settings


def _parse(request: Request, arguments: list[str]) -> None:
    try:
        options, request.tables = getopt.getopt(arguments, "bc:d:fFhijmnNopq:rsuUvw")
    except getopt.GetoptError as problem:
        raise Fatal(f"{problem}; {request.usage}") from None
    for option, value in options:
        letter = option[1:]
        if letter == "c":
            request.directory = Path(value)
        elif letter in "dqs":
            if request.action:
                raise Fatal("specify only one of -s or -q or -d")
            request.action, request.key = letter, value
        elif request.alias and letter in "bhmU":
            raise Fatal(f"option -{letter} is not supported; {request.usage}")
        else:
            request.flags.add(letter)
    if not request.tables:
        raise Fatal(request.usage)
    if request.flags & {"b", "h", "m"} and (request.action, request.key) != ("q", "-"):
        raise Fatal("specify -b -h or -m only with \"-q -\"")


def _perform(request: Request, settings: Settings) -> int:
    default = settings.text("default_database_type")
    request.tables = [_absolute(name if ":" in name else f"{default}:{name}") for name in request.tables]
    if request.action == "d":
        return _delete(request, settings)
    if request.action == "":
        change = request.change(settings)
        text = sys.stdin.buffer.read() if "i" in request.flags else None
        made = [build(change, spec) if text is None else add(change, spec, text) for spec in request.tables]
        taking_up.wait(made, settings)
        return 0
    if any(_NEEDS_REACTOR.search(spec) for spec in request.tables):
        return _with_reactor(request, settings)
    tables = Tables(clock=SystemClock(), log=StandardErrorLog(request.program))
    try:
        return at_once(_ask(request, tables, settings))
    finally:
        tables.close()


def _absolute(spec: str) -> str:
    """Files that the user names count from where he is."""
    type, _, name = spec.partition(":")
    return f"{type}:{Path.cwd() / name}" if type in _FILE_TYPES and not name.startswith("{") else spec


# --- queries ---------------------------------------------------------------------------------------------------


async def _ask(request: Request, tables: Tables, settings: Settings) -> int:
    opened = [_open(request, tables, spec, settings) for spec in request.tables]
    if request.action == "s":
        return _list(request, opened[0])
    if request.key != "-":
        value = await _query(request, opened, request.key)
        if value is None:
            return 1
        _emit(_json(request.key, value) if "j" in request.flags else value)
        return 0
    found = False
    for key in _keys(request):
        value = await _query(request, opened, key)
        if value is not None:
            found = True
            _emit(_pair(request, key, value))
    return 0 if found else 1


async def _query(request: Request, tables: list[Table], key: str) -> str | None:
    for table in tables:
        try:
            value = await (table.lookup(key) if "f" in request.flags else table.ask(key))
        except TableError as error:
            raise Fatal(f"table {table.name}: query error: {error}") from None
        if value is not None:
            return _decoded(table, key, value) if "F" in request.flags else _as_kept(table, value)
    return None


def _as_kept(table: Table, value: str) -> str:
    """The value as Postfix's indexes have it: an alias's is a list of addresses, spelled in one way."""
    if isinstance(table, IndexedTable) and table.alias:
        return tokens.external(tokens.scan(value))
    return value


def _decoded(table: Table, key: str, value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        raise Fatal(f"table {table.name}: key {key}: malformed BASE64 value: {value[:100]}") from None


def _open(request: Request, tables: Tables, spec: str, settings: Settings) -> Table:
    type, _, name = spec.partition(":")
    if request.alias and type in INDEXED_TYPES:
        environment = Environment(SystemClock(), StandardErrorLog(request.program), time.time, lambda values: values[0])
        table: Table = IndexedTable(Spec(spec, type, name, settings, _no_inner), environment, alias=True)
    else:
        table = tables.open(spec, settings)
    if isinstance(table, Unavailable):
        raise Fatal(table.why)
    for finding in table.findings():
        if finding.severity == "error":
            raise Fatal(finding.what)
        if type not in INDEXED_TYPES:
            _say(request.program, f"warning: {_as_in_the_log(finding)}")
    return table


def _as_in_the_log(finding: Finding) -> str:
    """"regexp map FILE, line N: what", where tables of rules are concerned."""
    title, colon, what = finding.what.partition(" map: ")
    if colon and finding.file:
        return f"{title} map {finding.file}, line {finding.line}: {what}"
    return str(finding)


def _no_inner(spec: str) -> Table:
    raise TableError(f"{spec}: no tables within this one")


def _list(request: Request, table: Table) -> int:
    entries = table.entries()
    if entries is None:
        raise Fatal(f"table {table.name}: sequence operation is not supported")
    for key, value in entries:
        value = _decoded(table, key, value) if "F" in request.flags else _as_kept(table, value)
        if "j" in request.flags:
            _emit(_json(key, value))
        else:
            _emit(f"{key}:\t{value}" if request.alias else f"{key}\t{value}")
    return 0


def _pair(request: Request, key: str, value: str) -> str:
    if "j" in request.flags:
        return _json(key, value)
    return f"{key}:\t{value}" if request.alias else f"{key}\t{value}"


def _json(key: str, value: str) -> str:
    return json.dumps({key: value})


def _keys(request: Request) -> Iterator[str]:
    if request.flags & {"b", "h"}:
        flags = request.flags
        return message_keys(_standard_input(), headers="h" in flags, body="b" in flags, mime="m" in flags)
    return (line.rstrip("\n") for line in _standard_input())


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise Fatal("this table cannot be asked without a network")


def _with_reactor(request: Request, settings: Settings) -> int:
    from twisted.internet import reactor as global_reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    reactor: Any = global_reactor
    tables = Tables(clock=reactor, log=StandardErrorLog(request.program), reactor=reactor)
    results: list[Any] = []

    def start() -> None:
        asked = Deferred.fromCoroutine(_ask(request, tables, settings))
        asked.addBoth(results.append)
        asked.addBoth(lambda _: tables.close())
        asked.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    result = results[0] if results else 1
    if isinstance(result, Failure):
        result.raiseException()
    return int(result)


def _delete(request: Request, settings: Settings) -> int:
    for spec in request.tables:
        if spec.partition(":")[0] not in INDEXED_TYPES:
            raise Fatal(f"table {spec}: delete operation is not supported")
    keys = list(_keys(request) if request.key == "-" else [request.key])
    if "f" not in request.flags:
        keys = [fold(key) for key in keys]
    done = [delete(request.change(settings), spec, keys) for spec in request.tables]
    taking_up.wait([path for _, path in done], settings)
    return 0 if any(found for found, _ in done) else 1


# --- standard input and output ---------------------------------------------------------------------------------


def _standard_input() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape")


def _emit(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _say(program: str, text: str) -> None:
    sys.stderr.write(f"{program}: {text}\n".encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
