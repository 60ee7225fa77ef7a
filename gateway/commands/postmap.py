"""postmap: check, query and change lookup tables; postmap(1).  postalias and newaliases are the same for aliases.

    postmap [-fNnoprUuvw] [TYPE:]FILE…           check a table's text, and report what is wrong
    postmap -q KEY|- [-bfhj] TYPE:NAME…          ask tables of any type; "-": keys from standard input
    postmap -s [-j] TYPE:FILE                    list a table
    postmap -d KEY|- TYPE:FILE…                  take an entry out of the file
    postmap -i [-r|-w] TYPE:FILE                 add entries from standard input to the file

There is no index to be built: the text file is what the gateway reads, also without this command, so the forms that
change a table change the file.  When the command is done, a gateway that runs has what is in the file.  -N, -n, -o,
-p, -U and -F's kin that speak of index files are accepted without effect.  Exit status 0; 1 when nothing was found, and
for every error, with one line on standard error.
"""

from __future__ import annotations

import getopt
import json
import re
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.commands import taking_up
from gateway.config import Settings, read
from gateway.config.builtin import builtin
from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table, Unavailable, fold
from gateway.tables.edit import add_entries, format_entry, remove_entries
from gateway.tables.indexed import INDEXED_TYPES, IndexedTable, is_alias_file
from gateway.tables.registry import Tables
from gateway.tables.text import open_text, parse_table

T = TypeVar("T")

SUMMARY = "check, query or change lookup tables"

_FILE_TYPES = INDEXED_TYPES | {"texthash", "regexp", "pcre", "cidr"}
_NEEDS_REACTOR = re.compile(r"\b(?:tcp|socketmap|python):")
_MAX_KEY = 100_000


class Fatal(Exception):
    """Ends the command with this line."""


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
    """"q", "d", "s" or "" = check, or add with -i."""
    key: str = ""
    tables: list[str] = field(default_factory=list)
    directory: Path | None = None

    @property
    def usage(self) -> str:
        options = "[-fijnNoprsuvw]" if self.alias else "[-bfhijnNoprsuUvw]"
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
        elif letter in "Fm" or (request.alias and letter in "bhU"):
            raise Fatal(f"option -{letter} is not supported; {request.usage}")
        else:
            request.flags.add(letter)
    if not request.tables:
        raise Fatal(request.usage)
    if request.flags & {"b", "h"} and (request.action, request.key) != ("q", "-"):
        raise Fatal("specify -b or -h only with \"-q -\"")


def _perform(request: Request, settings: Settings) -> int:
    default = settings.text("default_database_type")
    request.tables = [_absolute(name if ":" in name else f"{default}:{name}") for name in request.tables]
    if request.action == "d":
        return _delete(request, settings)
    if request.action == "":
        taking_up.wait([build(request, spec, settings) for spec in request.tables], settings)
        return 0
    if any(_NEEDS_REACTOR.search(spec) for spec in request.tables):
        return _with_reactor(request, settings)
    tables = Tables(clock=SystemClock(), log=StandardErrorLog(request.program))
    return _at_once(_ask(request, tables, settings))


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
            value = await (table.lookup(key) if "f" in request.flags else table.ask(key)) if key else None
        except TableError as error:
            raise Fatal(f"table {table.name}: query error: {error}") from None
        if value is not None:
            return value
    return None


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
            _say(request.program, f"warning: {finding}")
    return table


def _no_inner(spec: str) -> Table:
    raise TableError(f"{spec}: no tables within this one")


def _list(request: Request, table: Table) -> int:
    entries = table.entries()
    if entries is None:
        raise Fatal(f"table {table.name}: sequence operation is not supported")
    for key, value in entries:
        if "j" in request.flags:
            _emit(_json(key, value))
        elif request.alias:
            _emit(f"{key}:\t{value}")
        else:
            _emit(format_entry(key, value, alias=False))
    return 0


def _pair(request: Request, key: str, value: str) -> str:
    if "j" in request.flags:
        return _json(key, value)
    return f"{key}:\t{value}" if request.alias else f"{key}\t{value}"


def _json(key: str, value: str) -> str:
    return json.dumps({key: value})


def _keys(request: Request) -> Iterator[str]:
    lines = (line.rstrip("\n") for line in _standard_input())
    if not request.flags & {"b", "h"}:
        yield from lines
        return
    header = ""
    in_body = False
    for line in lines:
        if in_body or not line:
            in_body = True
        elif line[0] in " \t" and header:
            header += "\n" + line
            continue
        if header:
            if "h" in request.flags:
                yield header[:_MAX_KEY]
            header = ""
        if not in_body and not re.match(r"[!-9;-~]+[ \t]*:", line):
            in_body = True
        if not in_body:
            header = line
        elif "b" in request.flags and line:
            yield line[:_MAX_KEY]
        elif "b" not in request.flags:
            return
    if header and "h" in request.flags:
        yield header[:_MAX_KEY]


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
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


# --- changes ---------------------------------------------------------------------------------------------------


def build(request: Request, spec: str, settings: Settings) -> Path:
    """Check a table's text, or with -i add to it.  The file.  Raises Fatal."""
    path, alias = _file(request, spec, settings)
    if "i" in request.flags:
        _add(request, path, alias, settings)
        return path
    try:
        content = parse_table(
            open_text(path), alias=alias, folding="f" not in request.flags, utf8=settings.flag("smtputf8_enable")
        )
    except OSError as error:
        raise Fatal(f"open {path}: {error.strerror}") from None
    for line, what in content.problems:
        if not (request.flags & {"w", "r"} and what.startswith("duplicate entry")):
            _say(request.program, f"warning: {path}, line {line}: {what}")
    return path


def _file(request: Request, spec: str, settings: Settings) -> tuple[Path, bool]:
    type, _, name = spec.partition(":")
    if type not in INDEXED_TYPES:
        table = Tables(clock=SystemClock(), log=StandardErrorLog(request.program)).open(spec, settings)
        if isinstance(table, Unavailable):
            raise Fatal(table.why)
        raise Fatal(f"unsupported dictionary type: {type} does not support bulk-mode creation.")
    path = Path(name)
    # A file that alias_maps names is read as aliases: postmap must not say that it were wrong then.
    return path, request.alias or is_alias_file(type, path, settings)


def _add(request: Request, path: Path, alias: bool, settings: Settings) -> None:
    utf8 = settings.flag("smtputf8_enable")
    new = parse_table(_standard_input(), alias=alias, utf8=utf8)
    for line, what in new.problems:
        _say(request.program, f"warning: standard input, line {line}: {what}")
    try:
        known = parse_table(open_text(path), alias=alias, utf8=utf8).entries if path.exists() else {}
        double = [key for key in new.entries if key in known]
        if double and "r" in request.flags:
            remove_entries(path, double, alias=alias)
            double = []
        for key in double:
            del new.entries[key]
            if "w" not in request.flags:
                _say(request.program, f'warning: {path}: duplicate entry: "{key}"')
        add_entries(path, new.entries.items(), alias=alias)
    except OSError as error:
        raise Fatal(f"open {path}: {error.strerror}") from None


def _delete(request: Request, settings: Settings) -> int:
    keys = {fold(key) for key in (_keys(request) if request.key == "-" else [request.key])}
    found = False
    paths: list[Path] = []
    for spec in request.tables:
        type = spec.partition(":")[0]
        if type not in INDEXED_TYPES:
            raise Fatal(f"table {spec}: delete operation is not supported")
        path, alias = _file(request, spec, settings)
        try:
            found |= bool(remove_entries(path, keys, alias=alias))
        except OSError as error:
            raise Fatal(f"open {path}: {error.strerror}") from None
        paths.append(path)
    taking_up.wait(paths, settings)
    return 0 if found else 1


# --- standard input and output ---------------------------------------------------------------------------------


def _standard_input() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape")


def _emit(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _say(program: str, text: str) -> None:
    sys.stderr.write(f"{program}: {text}\n".encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
