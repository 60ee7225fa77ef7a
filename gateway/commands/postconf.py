"""mailgateway postconf: show and change settings, as postconf(1).

    postconf [-d|-n] [-f] [-h|-H] [-x] [-j] [-C CLASS,…] [-o NAME=VALUE]… [NAME…]      main.cf
    postconf -e NAME=VALUE…      postconf -X NAME…      postconf -# NAME…
    postconf -M [-f] [-x] [-j] [SERVICE[/TYPE]…]                                        master.cf, whole entries
    postconf -M -e SERVICE/TYPE=ENTRY…      postconf -M -X|-# SERVICE/TYPE…
    postconf -F [-f|-h|-H|-x|-j] [SERVICE[/TYPE[/FIELD]]…]      -F -e SERVICE/TYPE/FIELD=VALUE…
    postconf -P [-f|-h|-H|-x|-j] [SERVICE[/TYPE[/NAME]]…]       -P -e SERVICE/TYPE/NAME=VALUE…
    postconf -P -X SERVICE/TYPE/NAME…
    postconf -m | -l | -a | -A | -T compile-version|run-version                         what there is

With -j each result is a JSON object on a line of its own.  Warnings (settings that nobody uses, names that nobody
defines) go to standard error.  Exit status 1 when nothing could be done, with one line why.
"""

from __future__ import annotations

import getopt
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.commands import postconf_master
from gateway.config import ConfigError, Configuration, parameters, read
from gateway.config import edit as editing
from gateway.config.builtin import builtin
from gateway.config.expand import ExpandError
from gateway.config.findings import ERROR, NOTE, Finding
from gateway.config.known import KnownNames
from gateway.config.layout import setting
from gateway.config.main_cf import split_setting
from gateway.config.settings import Settings, UnknownParameter

SUMMARY = "show and change configuration parameters"

_OPTIONS = "aAbc:C:deEfFhHjlmMno:pPtT:vxX#"
_ACTIONS = "aAbdFlmMnpPtT"
_USUAL_DIRECTORY = Path("/etc/postfix")
"""Where Postfix's configuration is unless somebody says otherwise: nothing to be told with -n."""
_AGENTS = ("local", "error", "virtual", "smtp", "lmtp", "pipe", "python")


class Fatal(Exception):
    """Ends the command with this line."""


@dataclass
class Request:
    """What the command line asks for."""

    action: str = ""
    """One of the letters of _ACTIONS; "" = main.cf."""
    flags: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=lambda: {"builtin", "service", "user"})
    overrides: dict[str, str] = field(default_factory=dict)
    mode: str = ""
    """For -T."""
    names: list[str] = field(default_factory=list)
    directory: Path | None = None
    """Of a -c that stands among the other options."""

    @property
    def editing(self) -> str:
        """"e", "X", "#" or ""; NAME=VALUE alone means -e."""
        for letter in ("e", "X", "#"):
            if letter in self.flags:
                return letter
        return "e" if self.action in ("", "p", "M", "F", "P") and any("=" in name for name in self.names) else ""


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        request = _parse(arguments)
        _run(request, request.directory or directory)
    except getopt.GetoptError as problem:
        return _fail(f"{problem} (see: man mailgateway-postconf)")
    except (Fatal, ConfigError, ExpandError, postconf_master.Bad) as problem:
        return _fail(str(problem))
    except OSError as problem:
        return _fail(f"open {problem.filename}: {problem.strerror}")
    return 0


def _fail(text: str) -> int:
    print(f"postconf: fatal: {text}", file=sys.stderr)
    return 1


def _warn(text: str) -> None:
    print(f"postconf: warning: {text}".encode("utf-8", "surrogateescape").decode("utf-8", "replace"), file=sys.stderr)


def _emit(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") + "\n")


def _parse(arguments: list[str]) -> Request:
    options, names = getopt.gnu_getopt(arguments, _OPTIONS)
    request = Request(names=names)
    for option, value in options:
        letter = option[1]
        if letter in _ACTIONS:
            if request.action and request.action != letter:
                raise Fatal(f"specify one of -{request.action} -{letter}")
            request.action = letter
            request.mode = value
        elif letter == "c":
            request.directory = Path(value)
        elif letter == "C":
            request.classes = _classes(value)
        elif letter == "o":
            name, raw = _split(value)
            request.overrides[name] = raw
        else:
            request.flags.add(letter)
    return request


def _classes(value: str) -> set[str]:
    chosen = set(value.replace(",", " ").split())
    for name in chosen - {"builtin", "service", "user", "all"}:
        raise Fatal(f'unknown -C option value "{name}" in "{value}"')
    return {"builtin", "service", "user"} if "all" in chosen else chosen


def _split(text: str) -> tuple[str, str]:
    found = split_setting(text)
    if isinstance(found, str):
        raise Fatal(found)
    return found


def _run(request: Request, directory: Path | None) -> None:
    if request.action in "malAtTb" and request.action:
        _emit_lines(_facts(request), request)
        return
    if request.editing:
        _edit(request, directory)
        return
    configuration = _configuration(directory)
    configuration.settings = configuration.settings.with_overrides(request.overrides)
    for finding in configuration.findings:
        if finding.severity != NOTE and request.action != "d":  # defaults are nobody's mistake
            _warn(str(Finding(finding.severity, finding.file, finding.line, finding.what)))
    if request.action in ("M", "F", "P"):
        for line in postconf_master.show(request.action, request.flags, request.names, configuration, _warn):
            _emit(line)
        return
    _show(request, configuration, explicit=directory is not None)


def _configuration(directory: Path | None) -> Configuration:
    """What is configured, master.cf included if it is there; built-in defaults without a directory."""
    if directory is None:
        return builtin()
    if (directory / "master.cf").exists():
        configuration = read(directory)
    else:
        _warn(f"open {directory}/master.cf: No such file or directory")
        configuration = read(directory, services=False)
    for finding in configuration.findings:
        if finding.severity == ERROR:
            raise ConfigError(finding.what, file=finding.file, line=finding.line)
    return configuration


# --- main.cf: show ---------------------------------------------------------------------------------------------


def _show(request: Request, configuration: Configuration, *, explicit: bool) -> None:
    settings = configuration.settings
    known = KnownNames(settings, configuration.services)
    if request.names:
        names = list(_requested(request, settings, known))
    else:
        names = sorted(_names(request, configuration, known, explicit))
    for name in names:
        _emit_setting(name, _value(name, request, settings), request)
    if not request.names and request.action != "d":
        _unused(settings, known)


def _requested(request: Request, settings: Settings, known: KnownNames) -> Iterator[str]:
    for name in request.names:
        if request.action == "n" and name not in settings.values:
            if not known.effective(name):
                _warn(f"{name}: unknown parameter")
        elif known.effective(name) or request.action != "d" and name in settings.values and known.used(name):
            yield name
        else:
            _warn(f"{name}: unknown parameter")


def _names(request: Request, configuration: Configuration, known: KnownNames, explicit: bool) -> Iterator[str]:
    """All names of the chosen classes; with -n only those that are set."""
    settings = configuration.settings
    builtin = set(parameters.table())
    services = {
        f"{service.name}_{suffix}"
        for service in configuration.services
        if service.type != "inet" and service.command in (*_AGENTS, "spawn")
        for suffix in (parameters.FAMILIES if service.command in _AGENTS else ("time_limit",))
        if suffix != "time_limit" or service.command in ("pipe", "spawn")
    } - builtin
    if "builtin" in request.classes:
        yield from builtin if request.action != "n" else builtin & settings.values.keys()
        elsewhere = explicit and settings.directory != _USUAL_DIRECTORY
        if request.action == "n" and elsewhere and "config_directory" not in settings.values:
            yield "config_directory"
    if "service" in request.classes:
        set_here = {name for name in settings.values if name not in builtin and known.effective(name)}
        yield from set_here if request.action == "n" else services | set_here
    if "user" in request.classes and request.action != "d":
        yield from (name for name in settings.values if not known.effective(name) and known.used(name))


def _value(name: str, request: Request, settings: Settings) -> str:
    source = Settings(directory=settings.directory) if request.action == "d" else settings
    try:
        return settings.expand(source.raw(name)) if "x" in request.flags else source.raw(name)
    except (ExpandError, UnknownParameter) as problem:
        raise settings.error(name, f"{name}: {problem}") from None


def _emit_setting(name: str, value: str, request: Request) -> None:
    fold = "f" in request.flags
    if "j" in request.flags:
        _emit(json.dumps({"name": name, "value": value}))
    elif "H" in request.flags:
        _emit(name)
    elif "h" in request.flags:
        _emit(setting("", value, fold=fold))
    else:
        _emit(setting(name, value, fold=fold))


def _unused(settings: Settings, known: KnownNames) -> None:
    file = str(settings.directory / "main.cf") if settings.directory else "main.cf"
    for name, value in settings.values.items():
        parameter = parameters.find(name)
        if not known.used(name):
            _warn(f"{file}: unused parameter: {name}={value}")
        elif parameter is None or parameter.type != parameters.RAW:
            for other in known.undefined_in(value, settings.values):
                _warn(f"{file}: undefined parameter: {other}")


# --- facts -----------------------------------------------------------------------------------------------------


def _facts(request: Request) -> list[str]:
    """-m, -l, -a, -A, -T: what this program offers."""
    if request.action == "m":
        from gateway.tables import table_types  # only here: loads the tables

        return sorted(table_types())
    if request.action == "l":
        return ["flock", "fcntl", "dotlock"]
    if request.action in "aA":
        return ["dovecot"] if request.action == "a" else []  # the client's SASL is its own, of no type
    if request.action == "T" and request.mode in ("compile-version", "run-version"):
        import ssl  # only here: costs time

        return [ssl.OPENSSL_VERSION]
    if request.action == "T":
        raise Fatal(f"bad -T mode: {request.mode}; give compile-version or run-version")
    raise Fatal(f"-{request.action} is not supported; templates are shown in man mailgateway-notices")


def _emit_lines(lines: Iterable[str], request: Request) -> None:
    for line in lines:
        _emit(json.dumps({"name": line}) if "j" in request.flags else line)


# --- change ------------------------------------------------------------------------------------------------------


def _edit(request: Request, directory: Path | None) -> None:
    if directory is None:
        raise Fatal("no configuration to change: give -c DIR, or set MAIL_CONFIG")
    if not request.names:
        what = "name=value" if request.editing == "e" else "name"
        raise Fatal(f"-{request.editing} requires {what} argument")
    if request.action in ("M", "F", "P"):
        path = directory / "master.cf"
        text = _read(path)
        text = postconf_master.edited(text, str(path), request.action, request.editing, request.names, _warn)
    else:
        path = directory / "main.cf"
        text = _edited(_read(path), request)
    editing.replace_file(path.resolve(), text)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _edited(text: str, request: Request) -> str:
    if request.editing == "#":
        return editing.comment_out(text, editing.main_key, set(map(_plain, request.names)))
    changes: dict[str, str | None] = {}
    for argument in request.names:
        if request.editing == "X":
            changes[_plain(argument)] = editing.REMOVE
            continue
        name, value = _split(argument)
        if "\n" in value:
            raise Fatal(f"-e accepts no multi-line value: {name}")
        changes[name] = f"{name} = {value}"
    return editing.edit(text, editing.main_key, changes)


def _plain(name: str) -> str:
    if "=" in name or not name.strip() or "\n" in name:
        raise Fatal(f'-X and -# take a name, not "{name}"')
    return name.strip()
