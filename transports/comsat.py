"""Tells comsat(8) of new mail, so that it tells the user, if he has asked for that (biff(1)); postconf(5) biff.

A datagram "USER@OFFSET" to this machine's biff port for each message in an mbox.  Nobody needs to listen, and what
does not get through is lost: it is a courtesy.
"""

from __future__ import annotations

import socket

from gateway.interfaces import Log

HOST = "127.0.0.1"
PORT = 512


class Comsat:
    def __init__(self, log: Log, host: str = HOST, port: int | None = None) -> None:
        """``port``: None = what /etc/services says of biff."""
        self._log = log
        self._address = host, _port() if port is None else port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, user: str, offset: int) -> None:
        """``offset``: where the message begins in the user's mailbox."""
        text = f"{user}@{offset}\0".encode("utf-8", "surrogateescape")
        try:
            self._socket.sendto(text, self._address)
        except OSError as error:
            self._log.warning("local", f"cannot tell biff of mail for {user}: {error.strerror}")


def _port() -> int:
    try:
        return socket.getservbyname("biff", "udp")
    except OSError:
        return PORT
