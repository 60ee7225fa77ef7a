"""The role processes' reactor, with real sockets."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import socket
from gateway.reactor import install
install()
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

class Fussy(Protocol):
    def dataReceived(self, data):
        if data == b"bad":
            raise ValueError("a mistake in a protocol")
        self.transport.write(data.upper())

    def connectionLost(self, reason):
        print("lost", reason.type.__name__)
        reactor.stop()

ours, theirs = socket.socketpair()
ours.setblocking(False)
reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(Fussy))
ours.close()

def answered():
    print(theirs.recv(10).decode())
    theirs.sendall(b"bad")

theirs.sendall(b"good")
reactor.callLater(0.05, answered)
reactor.callLater(10, reactor.stop)
reactor.callFromThread(print, "called")
reactor.run()
"""


def test_serves_and_survives_a_mistake_in_a_protocol() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, env=environment, check=False
    )
    lines = done.stdout.splitlines()
    assert "called" in lines
    assert "GOOD" in lines
    assert "lost ValueError" in lines
    assert "a mistake in a protocol" in done.stderr
