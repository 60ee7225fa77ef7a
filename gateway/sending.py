"""Writing to a TCP connection without waiting for the reactor's next turn.

Twisted's ``transport.write`` keeps the data, asks epoll to watch for room, and sends in the next turn: three system
calls more than the one that a short reply needs.  ``send`` tries that one first.
"""

from __future__ import annotations

from typing import Any


def send(transport: Any, data: bytes) -> None:
    """Like ``transport.write(data)``.  What the kernel does not take at once, and whatever is not a plain TCP
    connection with nothing waiting (TLS, test transports), goes the ordinary way, and so do errors."""
    if getattr(transport, "TLS", True) is False and not transport.dataBuffer and not transport._tempDataBuffer \
            and transport.connected and not transport.disconnecting:
        sent = transport.writeSomeData(data)
        if sent == len(data):
            return
        if isinstance(sent, int) and sent > 0:
            data = data[sent:]
    transport.write(data)
