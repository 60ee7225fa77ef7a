"""Milters in memory: a reactor that connects to them by port, and what they say by a script."""

from __future__ import annotations

import struct

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from gateway.content.milter import protocol


class Transport(StringTransport):
    def __init__(self, milter, peer):
        super().__init__()
        self.milter, self.protocol = milter, peer

    def write(self, data):
        self.milter.take(data, self)

    def loseConnection(self):
        self.disconnecting = True


class FakeMilter:
    """``script``: by command, what is answered, one or several packets of (command, data); b"" = silence, None = it
    hangs up.  All else is answered with "continue".  ``heard``: what was said, without macros, which are in
    ``macros``."""

    def __init__(self, script=None, *, options=0, actions=protocol.ACTIONS, version=6, symbols=b""):
        self.script = script or {}
        self.agreement = struct.pack("!III", version, actions, options) + symbols
        self.options = options
        self.heard, self.macros, self.sessions = [], {}, 0
        self.transport = None
        self._buffer = b""

    def take(self, data, transport):
        self.transport = transport
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < 4 + length:
                return
            packet, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
            self._one(packet[:1], packet[1:], transport)

    def _one(self, command, data, transport):
        if command == protocol.MACROS:
            words = protocol.texts(data[1:]) if data[1:] else []
            self.macros[data[:1]] = dict(zip(words[::2], words[1::2], strict=True))
            return
        self.heard.append((command, data))
        if command == protocol.NEGOTIATE and command not in self.script:
            self.sessions += 1
            answers = [(command, self.agreement)]
        elif command in (protocol.ABORT, protocol.QUIT):
            return
        else:
            answers = self.script.get(command, [(protocol.CONTINUE, b"")])
            if callable(answers):
                answers = answers(data)
        if answers is None:
            transport.protocol.connectionLost(Failure(error.ConnectionDone()))
            return
        if self.options & protocol.SILENT.get(command, 0):
            return
        for answer in answers:
            raw = answer if isinstance(answer, bytes) else protocol.packet(*answer)
            for at in range(0, len(raw), 3):  # in pieces, as it may come
                transport.protocol.dataReceived(raw[at : at + 3])

    def commands(self):
        return b"".join(command for command, _ in self.heard).decode()

    def data(self, command):
        return [data for known, data in self.heard if known == command]


class Reactor(MemoryReactorClock):
    """``milters``: by port."""

    def __init__(self):
        super().__init__()
        self.milters = {}

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        milter = self.milters.get(port)
        if milter is None:
            factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError(osError=111)))
            return
        made = factory.buildProtocol(IPv4Address("TCP", host, port))
        made.makeConnection(Transport(milter, made))
