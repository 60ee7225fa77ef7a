"""The part of "mailgateway postconf" about master.cf: -M (entries), -F (fields), -P (parameters); postconf(1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from gateway.config import edit as editing
from gateway.config import layout, master_cf
from gateway.config.configuration import Configuration
from gateway.config.expand import ExpandError
from gateway.config.findings import ERROR
from gateway.config.known import KnownNames
from gateway.config.master_cf import Service

Warn = Callable[[str], None]


class Bad(Exception):
    """A request that makes no sense."""


# --- show ----------------------------------------------------------------------------------------------------


def show(action: str, flags: set[str], wanted: list[str], configuration: Configuration, warn: Warn) -> Iterator[str]:
    """The lines to print.  ``wanted``: SERVICE[/TYPE[/NAME]] patterns; none = everything."""
    depth = 2 if action == "M" else 3
    patterns = [_pattern(text, depth) for text in wanted]
    for pattern in patterns:
        if action == "F" and pattern[2] not in ("*", *layout.FIELDS):
            raise Bad(f'invalid field "{pattern[2]}": fields are {", ".join(layout.FIELDS)}')
    matched: set[int] = set()
    for service in configuration.services:
        for name, value in _items(action, service, flags, configuration):
            hits = {at for at, pattern in enumerate(patterns) if _matches(pattern, service, name)}
            matched |= hits
            if hits or not patterns:
                yield _line(action, service, name, value, flags)
    for at, text in enumerate(wanted):
        if at not in matched:
            warn(f'unmatched request: "{text}"')
    if not wanted:
        _unused(configuration, warn)


def _items(action: str, service: Service, flags: set[str], configuration: Configuration) -> Iterator[tuple[str, str]]:
    """(name, value): the fields, the parameters, or the whole entry under the name ""."""
    fold = "f" in flags and "j" not in flags
    shown = _expanded(service, configuration) if "x" in flags else service
    if action == "M":
        yield "", layout.service(shown, fold=fold)
    elif action == "F":
        yield from zip(layout.FIELDS[:-1], shown.columns[:-1], strict=True)
        label = "" if "h" in flags else f"{service.name}/{service.type}/{layout.FIELDS[-1]} = "
        yield layout.FIELDS[-1], layout.command(shown, fold=fold, label=label).removeprefix(label)
    else:
        yield from sorted(shown.overrides.items())


def _expanded(service: Service, configuration: Configuration) -> Service:
    """The service with the $names in its options replaced."""
    settings = configuration.service_settings(service)
    text = " ".join([*service.columns, *(f"-{a} {{{b}}}" if b else f"-{a}" for a, b in service.options)])
    copy = master_cf.parse(text, service.path).services[0]
    copy.arguments = service.arguments
    try:
        copy.overrides = {name: settings.expand(value) for name, value in service.overrides.items()}
        copy.options = [(letter, settings.expand(value)) for letter, value in service.options]
    except ExpandError as problem:
        raise Bad(f"{service.path}, line {service.line}: {problem}") from None
    return copy


def _line(action: str, service: Service, name: str, value: str, flags: set[str]) -> str:
    label = f"{service.name}/{service.type}/{name}"
    if "j" in flags:
        record = {"service": service.name, "type": service.type, "name": name, "value": value}
        if action == "M":
            del record["name"]
        return json.dumps(record)
    if action == "M":
        return value
    if "H" in flags:
        return label
    if action == "F":
        return value if "h" in flags else f"{label} = {value}"
    return layout.setting("" if "h" in flags else label, value, fold="f" in flags)


def _unused(configuration: Configuration, warn: Warn) -> None:
    known = KnownNames(configuration.settings, configuration.services)
    for service in configuration.services:
        for name, value in service.overrides.items():
            if not known.used(name):
                warn(f"{service.path}: unused parameter: {name}={value}")
            for other in known.undefined_in(value, configuration.settings.values | service.overrides):
                warn(f"{service.path}: undefined parameter: {other}")


def _pattern(text: str, depth: int) -> list[str]:
    """The parts of NAME/TYPE/…, missing ones as "*"; names that hold slashes keep them."""
    parts = text.split("/")
    at = next((index for index in range(1, len(parts)) if parts[index] in (*master_cf.TYPES, "*")), len(parts))
    pattern = ["/".join(parts[:at]), *parts[at:]]
    if len(pattern) > depth:
        raise Bad(f'too many slashes in "{text}"')
    return pattern + ["*"] * (depth - len(pattern))


def _matches(pattern: list[str], service: Service, name: str) -> bool:
    values = (service.name, service.type, name)
    return all(part in ("*", value) for part, value in zip(pattern, values[: len(pattern)], strict=True))


# --- change ----------------------------------------------------------------------------------------------------


def edited(text: str, path: str, action: str, how: str, arguments: list[str], warn: Warn) -> str:
    """The text of master.cf after the change.  ``how``: "e" set, "X" remove, "#" comment out."""
    changes: dict[tuple[str, str], str | None] = {}
    services = {(each.name, each.type): each for each in master_cf.parse(text, path).services}
    if how == "#":
        if action != "M":
            raise Bad(f"-# does not go with -{action}")
        return editing.comment_out(text, editing.master_key, set(_chosen(arguments, services)))
    if action == "M" and how == "X":
        return editing.edit(text, editing.master_key, dict.fromkeys(_chosen(arguments, services), editing.REMOVE))
    for argument in arguments:
        if action == "M":
            key, entry = _entry(argument, path)
            changes[key] = layout.service(entry, fold=True)
        else:
            for key, entry in _changed(action, how, argument, services, warn):
                changes[key] = layout.service(entry, fold=True)
    return editing.edit(text, editing.master_key, changes)


def _chosen(arguments: list[str], services: dict[tuple[str, str], Service]) -> Iterator[tuple[str, str]]:
    """The services that are meant by SERVICE/TYPE, either of which may be "*"."""
    for argument in arguments:
        name, type = _service_key(argument, "*")
        yield from (key for key in services if name in ("*", key[0]) and type in ("*", key[1]))


def _service_key(text: str, *any_type: str) -> tuple[str, str]:
    name, slash, type = text.strip().rpartition("/")
    if not slash or type not in (*master_cf.TYPES, *any_type):
        raise Bad(f'"{text}": write SERVICE/TYPE, with a type out of {", ".join(master_cf.TYPES)}')
    return name, type


def _entry(argument: str, path: str) -> tuple[tuple[str, str], Service]:
    """SERVICE/TYPE=ENTRY."""
    head, equals, line = argument.partition("=")
    key = _service_key(head)
    if not equals or "\n" in line:
        raise Bad(f'"{argument}": write SERVICE/TYPE=ENTRY, on one line')
    file = master_cf.parse(line.strip(), path)
    for finding in file.findings:
        if finding.severity == ERROR:
            raise Bad(f"{finding.what}: {finding.mend}")
    if not file.services or (file.services[0].name, file.services[0].type) != key:
        raise Bad(f'"{argument}": the entry must begin with "{key[0]} {key[1]}"')
    return key, file.services[0]


def _changed(
    action: str, how: str, argument: str, services: dict[tuple[str, str], Service], warn: Warn
) -> Iterator[tuple[tuple[str, str], Service]]:
    """The services that SERVICE/TYPE/NAME means, under their old names, with one field or parameter set or removed."""
    head, equals, value = argument.partition("=")
    pattern = _pattern(head.strip(), 3)
    value = value.strip()
    if len(head.split("/")) < 3 or (how == "e") != bool(equals) or "\n" in value:
        raise Bad(f'"{argument}": write SERVICE/TYPE/NAME{"=VALUE, on one line" if how == "e" else ""}')
    name = pattern[2]
    if action == "F" and (how != "e" or name not in layout.FIELDS):
        raise Bad(f'"{argument}": fields are {", ".join(layout.FIELDS)}; they can be set, not removed')
    chosen = [service for service in services.values() if _matches(pattern[:2], service, name)]
    if not chosen:
        warn(f'unmatched service_name/type: "{argument}"')
    for service in chosen:
        key = service.name, service.type
        if action == "P":
            _set_parameter(service, name, f"{name}={value}" if how == "e" else "")
        else:
            services[key] = service = _with_field(service, name, value)
        yield key, service


def _set_parameter(service: Service, name: str, setting: str) -> None:
    kept = [each for each in service.options if each[0] != "o" or each[1].partition("=")[0] != name]
    service.options = kept + ([("o", setting)] if setting else [])


def _with_field(service: Service, name: str, value: str) -> Service:
    columns = list(service.columns)
    columns[layout.FIELDS.index(name)] = value
    rest = "" if name == "command" else layout.command(service).removeprefix(service.columns[-1])
    file = master_cf.parse(" ".join(columns) + rest, service.path)
    for finding in file.findings:
        raise Bad(f"{finding.what}: {finding.mend}")
    return file.services[0]
