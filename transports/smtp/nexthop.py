"""Next hops in the syntax of smtp(8) "DESTINATION SYNTAX": ``domain``, ``host:port``, ``[host]:port``, ``[ipv6:…]``,
``unix:path``, ``inet:host:port``; several of them in one string between commas or blanks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from gateway.config.ports import tcp_port


class NextHop(NamedTuple):
    """``path``: a local socket, then nothing else counts.  ``search_mx``: the host is a domain with MX hosts."""

    host: str
    port: int
    search_mx: bool = False
    path: str = ""


def split(nexthop: str) -> list[str]:
    return nexthop.replace(",", " ").split()


def parse(text: str, ports: Mapping[str, int], *, default_port: int, lmtp: bool = False) -> NextHop:
    """``ports``: known_tcp_ports.  Raises ValueError with a text for the log."""
    if lmtp:
        kind, colon, rest = text.partition(":")
        if colon and kind == "unix":
            return NextHop("", 0, path=rest)
        if colon and kind == "inet":
            text = rest
    if text.startswith("["):
        inner, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"bad next hop: {text}")
        host, port, search = _bare(inner), rest[1:], False
    else:
        host, _, port = text.partition(":") if text.count(":") < 2 else (text, "", "")
        search = not lmtp and not _is_address(host)
    if not host:
        raise ValueError(f"bad next hop: {text}")
    return NextHop(host, tcp_port(port, ports) if port else default_port, search)


def destination(text: str, lmtp: bool) -> str:
    """A next hop as it is looked up in tables: as it is written, but without "inet:" and "unix:"."""
    return text.partition(":")[2] if lmtp and text.startswith(("inet:", "unix:")) else text


def _bare(host: str) -> str:
    return host[5:] if host[:5].lower() == "ipv6:" else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
