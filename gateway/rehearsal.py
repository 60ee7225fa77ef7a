"""Composing a configuration without starting it: finds what only its users can judge.

gateway.config.check knows nothing of mail; whether a restriction exists, a certificate can be read, or a pipe's user
is known, is found when the parts are made.  So they are made once at start, at reload and by `mailgateway check`, and
thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from OpenSSL.SSL import Error as TLSError

from gateway.config import ConfigError, Configuration, Finding
from gateway.config.check import check
from gateway.config.findings import ERROR, WARNING
from gateway.log import MemoryLog
from gateway.parts import Parts
from gateway.tables import table_types


def findings(configuration: Configuration, reactor: Any) -> list[Finding]:
    """Everything that is wrong with a configuration, by itself and in use."""
    found = check(configuration, table_types=table_types())
    if any(finding.severity == ERROR for finding in found):
        return found  # what is built on it would say the same in other words
    return found + rehearse(configuration, reactor)


def rehearse(configuration: Configuration, reactor: Any) -> list[Finding]:
    """What keeps the parts of a configuration from being made, each thing once."""

    async def nowhere(site: str) -> str:
        return ""

    log = MemoryLog()
    parts = Parts(configuration, reactor, log, notify=lambda *message: None, flush_site=nowhere)
    steps: list[Callable[[], object]] = [
        lambda: parts.cleanup, lambda: parts.notices, lambda: parts.neighbours, parts.smtpd_factories,
        lambda: parts.transports, parts.scheduler,
    ]
    found: dict[Finding, None] = {}
    for step in steps:
        try:
            step()
        except ConfigError as error:
            found[error.finding] = None
        except (ValueError, OSError, TLSError) as error:
            main_cf = str(configuration.directory / "main.cf")
            found[Finding(ERROR, main_cf, 0, str(error) or type(error).__name__)] = None
    for finding in parts.tables.findings():
        # No reason not to start: what a table cannot tell is deferred, and it heals by itself.
        found[replace(finding, severity=WARNING)] = None
    parts.tables.close()
    parts.runner.close()
    for _, text in log.lines:
        kind, _, what = text.partition(": ")
        if kind in ("warning", "error"):
            found[Finding(WARNING, str(configuration.directory), 0, what)] = None
    return list(found)
