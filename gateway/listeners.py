"""The sockets that the gateway listens on, bound once, before any right is given up.

inet services of master.cf are "PORT", "HOST:PORT" or "[IPV6]:PORT" with a name or number as port; without a host they
are bound to each address of ``inet_interfaces``.  UNIX sockets lie in public/ (for everybody's commands) and private/
(for the roles among themselves) below ``queue_directory``.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config.ports import known_ports, tcp_port
from gateway.config.settings import Settings

BACKLOG = 1024
LONGEST_UNIX_PATH = 107

DEFAULT_PORTS = known_ports(Settings())


class ListenError(Exception):
    """A socket cannot be bound; one line: which, why."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def service_addresses(
    name: str, interfaces: Sequence[str], ports: Mapping[str, int] = DEFAULT_PORTS
) -> list[Address]:
    """The addresses of an inet service.  ``ports``: known_tcp_ports.  Raises ListenError for a port or host that does
    not exist."""
    match = re.fullmatch(r"(?:\[(?P<literal>[^]]*)\]:|(?P<host>[^:]*):)?(?P<port>[^:]+)", name)
    if match is None:
        raise ListenError(f'service "{name}": not PORT, HOST:PORT or [HOST]:PORT')
    try:
        port = tcp_port(match["port"], ports)
    except ValueError as error:
        raise ListenError(f'service "{name}": {error}') from None
    host = match["literal"] or match["host"]
    if not host:
        return [Address(interface, port) for interface in interfaces]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f'service "{name}": host {host}: {error.strerror}') from None
    return list(dict.fromkeys(Address(str(entry[4][0]), port) for entry in found))


def interface_addresses(inet_interfaces: Sequence[str], inet_protocols: Sequence[str]) -> list[str]:
    """``inet_interfaces`` as addresses to bind: "all" → the wildcard addresses, "loopback-only", names, literals."""
    families = [
        family
        for family, name in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6"))
        if name in inet_protocols or "all" in inet_protocols
    ]
    if socket.AF_INET6 in families and not _has_ipv6():
        families.remove(socket.AF_INET6)
    found: list[str] = []
    for word in inet_interfaces:
        if word == "all":
            found += ["0.0.0.0"] * (socket.AF_INET in families) + ["::"] * (socket.AF_INET6 in families)
        elif word == "loopback-only":
            found += ["127.0.0.1"] * (socket.AF_INET in families) + ["::1"] * (socket.AF_INET6 in families)
        else:
            try:
                entries = socket.getaddrinfo(word.strip("[]"), None, type=socket.SOCK_STREAM)
            except OSError as error:
                raise ListenError(f"inet_interfaces: host {word}: {error.strerror}") from None
            found += [str(entry[4][0]) for entry in entries if entry[0] in families]
    return list(dict.fromkeys(found))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def bind_inet(address: Address) -> socket.socket:
    """A listening, non-blocking, close-on-exec socket.  Raises ListenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def bind_unix(path: Path, *, mode: int, owner: tuple[int, int] | None = None, datagram: bool = False) -> socket.socket:
    """The same for a UNIX socket; one that a former run left behind is replaced.  ``owner``: (uid, gid), or None to
    leave it."""
    if len(os.fsencode(path)) > LONGEST_UNIX_PATH:
        raise ListenError(f"{path}: a socket's path has {LONGEST_UNIX_PATH} bytes at most; shorten queue_directory")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(str(path))
        path.chmod(mode)
        if owner is not None:
            os.chown(path, *owner)
        if not datagram:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
