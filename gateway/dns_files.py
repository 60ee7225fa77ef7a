"""The system's own files about names: resolv.conf(5), hosts(5) and the hosts line of nsswitch.conf(5).

They are read with ordinary file calls (they are short and local), and again only when their time stamp or size has
changed.  A file that is missing, unreadable or full of nonsense counts as empty.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_SERVERS, MAX_ATTEMPTS, MAX_TIMEOUT, MAX_NDOTS = 3, 5, 30.0, 15
CHECK_EVERY = 1.0
"""Seconds between two looks at a file's time stamp."""


@dataclass(slots=True)
class ResolvConf:
    """What resolv.conf says; without a usable name server the one of this host is asked."""

    servers: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    search: list[str] = field(default_factory=list)
    timeout: float = 5.0
    attempts: int = 2
    ndots: int = 1
    rotate: bool = False


@dataclass(slots=True)
class Hosts:
    """Both directions of the hosts file; names are lower-case."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def parse_resolv_conf(text: str) -> ResolvConf:
    conf = ResolvConf()
    servers: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1 and is_address(words[1].partition("%")[0]):
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            conf.search = [word.strip(".").lower() for word in words[1:] if word.strip(".")][:6]
        elif words[0] == "options":
            for word in words[1:]:
                _set_option(conf, word)
    if servers:
        conf.servers = servers[:MAX_SERVERS]
    return conf


def _set_option(conf: ResolvConf, word: str) -> None:
    name, _, value = word.partition(":")
    if name == "rotate":
        conf.rotate = True
    elif value.isascii() and value.isdigit():
        number = int(value[:4])
        if name == "timeout":
            conf.timeout = min(max(number, 1), MAX_TIMEOUT)
        elif name == "attempts":
            conf.attempts = min(max(number, 1), MAX_ATTEMPTS)
        elif name == "ndots":
            conf.ndots = min(number, MAX_NDOTS)


def parse_hosts(text: str) -> Hosts:
    hosts = Hosts()
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not is_address(words[0]):
            continue
        address = str(ipaddress.ip_address(words[0]))
        hosts.names.setdefault(address, words[1].rstrip(".").lower())
        for name in words[1:]:
            known = hosts.addresses.setdefault(name.rstrip(".").lower(), [])
            if address not in known:
                known.append(address)
    return hosts


def parse_nsswitch(text: str) -> list[str]:
    """The sources of the hosts database that are known here: "files", "dns"."""
    for line in text.splitlines():
        name, colon, rest = line.partition("#")[0].partition(":")
        if colon and name.strip() == "hosts":
            words = ["dns" if word == "resolve" else word for word in rest.split()]
            return [word for word in words if word in ("files", "dns")]
    return ["files", "dns"]


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class WatchedFile(Generic[T]):
    """A file's parsed form, renewed when the file changes."""

    def __init__(self, path: str, parse: Callable[[str], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._parse, self._clock = path, parse, clock
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._value = parse("")

    @property
    def value(self) -> T:
        now = self._clock()
        if now - self._looked >= CHECK_EVERY:
            self._looked = now
            self._renew()
        return self._value

    def _renew(self) -> None:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            stamp, text = None, ""
        self._stamp = stamp
        self._value = self._parse(text)
