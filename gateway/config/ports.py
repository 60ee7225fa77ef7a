"""TCP ports by name: those of known_tcp_ports, which need no services(5), then that file; postconf(5).

A machine without /etc/services (a small container) knows "smtp" and "submission" all the same.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from gateway.config.settings import Settings

PARAMETER = "known_tcp_ports"


def known_ports(settings: Settings) -> dict[str, int]:
    """The members of known_tcp_ports: "name=number", also several names for one number.  Raises ConfigError."""
    ports: dict[str, int] = {}
    for word in filter(str.strip, settings.text(PARAMETER).split(",")):
        *names, number = (part.strip() for part in word.split("="))
        if not names or not all(names) or not _is_port(number):
            raise settings.error(PARAMETER, f"{PARAMETER}: bad member {word!r}: not NAME=NUMBER")
        ports |= dict.fromkeys(names, int(number))
    return ports


def tcp_port(text: str, known: Mapping[str, int]) -> int:
    """A port by number or name.  Raises ValueError with one line."""
    if text.isascii() and text.isdigit():
        if not _is_port(text):
            raise ValueError(f"bad port number: {text}")
        return int(text)
    if text in known:
        return known[text]
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        raise ValueError(f"unknown service: {text}/tcp") from None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536
