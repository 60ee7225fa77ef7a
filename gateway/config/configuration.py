"""A configuration directory, read: settings, services, and what was noticed while reading.

``read`` gives whatever can be read and puts everything that is wrong into ``findings``; ``load`` raises ConfigError for
the first finding that makes starting impossible.  Neither looks further than the two files: gateway.config.check does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config import main_cf, master_cf
from gateway.config.findings import ERROR, ConfigError, Finding
from gateway.config.main_cf import MainFile
from gateway.config.master_cf import MasterFile, Service
from gateway.config.settings import Place, Settings


@dataclass(slots=True)
class Configuration:
    """What a configuration directory says."""

    directory: Path
    settings: Settings
    services: list[Service] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    texts: tuple[str, str] = ("", "")
    """main.cf and master.cf, for from_texts: whoever is handed them works with the very same configuration, whatever
    has become of the files meanwhile."""

    def service(self, name: str, type: str = "unix") -> Service | None:
        """The service of that name and type; unix stands for everything that is not inet."""
        for service in self.services:
            if service.name == name and (service.type == type or type == "unix" and service.type != "inet"):
                return service
        return None

    def service_settings(self, service: Service) -> Settings:
        """The settings as that service sees them."""
        return service.settings(self.settings)


def read(directory: Path, *, services: bool = True) -> Configuration:
    """Everything that can be read.  ``services=False`` leaves master.cf alone (commands that need only main.cf)."""
    directory = directory.absolute()  # $config_directory stands in file names, which are looked for in this directory
    main_text, main_path = _text(directory / "main.cf")
    if services:
        return from_texts(main_text, _text(directory / "master.cf")[0], directory)
    main = main_cf.parse(main_text, main_path)
    return Configuration(directory, settings_of(main, directory), findings=list(main.findings))


def load(directory: Path, *, services: bool = True) -> Configuration:
    """As ``read``.  Raises ConfigError if a file is missing or has a line that cannot be used."""
    configuration = read(directory, services=services)
    for finding in configuration.findings:
        if finding.severity == ERROR:
            raise ConfigError(finding.what, finding.mend, file=finding.file, line=finding.line)
    return configuration


def from_texts(main: str, master: str, directory: Path) -> Configuration:
    """A configuration of these texts: built-in defaults, and what the master hands to the other roles."""
    main_file: MainFile = main_cf.parse(main, str(directory / "main.cf"))
    master_file: MasterFile = master_cf.parse(master, str(directory / "master.cf"))
    return Configuration(
        directory, settings_of(main_file, directory), master_file.services, main_file.findings + master_file.findings,
        (main, master),
    )


def settings_of(main: MainFile, directory: Path) -> Settings:
    values = {name: entry.value for name, entry in main.entries.items()}
    places = {name: Place(main.path, entry.first) for name, entry in main.entries.items()}
    return Settings(values, directory=directory, places=places)


def _text(path: Path) -> tuple[str, str]:
    """The text of a file and its name.  Raises ConfigError."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape"), str(path)
    except OSError as problem:
        mend = "create it" if not os.path.lexists(path) else "make it readable"
        raise ConfigError(f"cannot be read: {problem.strerror}", mend, file=str(path)) from None
