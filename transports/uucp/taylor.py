"""Where Taylor UUCP keeps its things: read from the configuration that its programs are told to use (-I FILE)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

SPOOL = "/var/spool/uucp"
LOG = "/var/log/uucp/Log"
CONFIG = "/etc/uucp/config"

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(slots=True, frozen=True)
class Taylor:
    config: str = ""
    """"" = the usual one."""
    spool: str = SPOOL
    log: str = LOG
    node: str = ""
    """This site's name."""

    @classmethod
    def read(cls, config: str = "") -> Taylor:
        said = _statements(config or CONFIG)
        host = os.uname().nodename.partition(".")[0]
        name = said.get("nodename") or said.get("hostname") or said.get("uuname") or host
        return cls(config, said.get("spool", SPOOL), said.get("logfile", LOG), name)

    @property
    def options(self) -> list[str]:
        """What each of UUCP's programs has to be told."""
        return ["-I", self.config] if self.config else []

    def job_file(self, site: str, job: str) -> str:
        """The file that holds a job until it has been sent."""
        return f"{self.spool}/{site}/C./C.{job.removeprefix(site + '.')}"


def is_site(name: str) -> bool:
    return bool(_SITE.match(name))


def config_of(argv: Sequence[str]) -> str:
    """What a command line names by -I FILE or --config FILE; "" if it names none."""
    for option, value in zip(argv, [*argv[1:], ""], strict=True):
        if option in ("-I", "--config"):
            return value
        if option.startswith("-I"):
            return option[2:]
        if option.startswith("--config="):
            return option.partition("=")[2]
    return ""


def spool_of(argv: Sequence[str]) -> str:
    """The spool folder of the configuration that uux is told to use."""
    config = config_of(argv)
    return _statements(config).get("spool", SPOOL) if config else SPOOL


def _statements(path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split("#")[0].split()
                if len(words) == 2:
                    found.setdefault(words[0].lower(), words[1])
    except OSError:
        pass
    return found
