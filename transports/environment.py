"""The environment of a program: built from nothing; postconf(5) import_environment, export_environment.

The mail system itself has what import_environment names: a variable of the gateway's own environment, or NAME=VALUE as
given.  A program gets PATH, and of those what export_environment names (NAME=VALUE there sets a value of its own).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config import Settings

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def exported(settings: Settings, own: Mapping[str, str]) -> dict[str, str]:
    """``own``: the gateway's own environment."""
    known = dict(_chosen(settings.words("import_environment"), own))
    if settings.directory is not None:
        known["MAIL_CONFIG"] = str(settings.directory)
    environment = dict(_chosen(settings.words("export_environment"), known))
    return {**environment, "PATH": PATH}


def _chosen(names: Iterable[str], source: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name in names:
        if name.startswith("{") and name.endswith("}"):
            name = name[1:-1].strip()
        name, equals, value = name.partition("=")
        name = name.strip()
        if equals:
            yield name, value.strip()
        elif name in source:
            yield name, source[name]
