"""Which names a configuration may set: the table's, a service's families, and the site's own.

A site's own name counts as known when something refers to it: "$name" in another value, smtpd_restriction_classes, or
a table such as "ldap:NAME", whose attributes are NAME_server_host and so on (postconf(1) reports the others as unused).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.config import parameters
from gateway.config.expand import names_in
from gateway.config.master_cf import Service
from gateway.config.settings import Settings

_SOURCE = re.compile(r"\b(?:ldap|mysql|pgsql|sqlite|memcache|redis|mongodb|python):([A-Za-z0-9_.-]+)")
_AGENTS = ("unix", "unix-dgram", "fifo", "pass")


class KnownNames:
    """Answers whether a name means anything in this configuration."""

    def __init__(self, settings: Settings, services: Iterable[Service]) -> None:
        self._services = {service.name for service in services if service.type in _AGENTS}
        self._services |= {service.command.rpartition("/")[2] for service in services}
        values = list(settings.values.items())
        for service in services:
            values += service.overrides.items()
        self.referred: set[str] = set()
        self._prefixes: set[str] = set()
        for _, value in values:
            if "$" in value:
                self.referred |= names_in(value)
            self._prefixes.update(_SOURCE.findall(value))
        for name in ("smtpd_restriction_classes",):
            if name in settings.values:
                self.referred |= set(settings.values[name].replace(",", " ").split())

    def effective(self, name: str) -> bool:
        """The gateway itself looks at it."""
        return name in parameters.table() or self.family_of(name) is not None

    def family_of(self, name: str) -> str | None:
        """The service whose SERVICE_… parameter it is."""
        for suffix in parameters.FAMILIES:
            if name.endswith("_" + suffix):
                service = name[: -len(suffix) - 1]
                if service in self._services:
                    return service
        return None

    def used(self, name: str) -> bool:
        """Somebody looks at it: the gateway, or another value."""
        if self.effective(name) or name in self.referred:
            return True
        return any(name.startswith(prefix + "_") for prefix in self._prefixes)

    def undefined_in(self, value: str, settings: Mapping[str, str]) -> list[str]:
        """Names that ``value`` refers to and that nobody defines."""
        if "$" not in value:
            return []
        return sorted(
            name for name in names_in(value) if name not in settings and parameters.find(name) is None
        )
