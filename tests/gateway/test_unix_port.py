"""The listener on UNIX sockets: over the real reactor, since what counts is what happens in the file system."""

import os
import socket
import stat

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutput

from gateway.listeners import bind_unix
from gateway.unix_port import UnixPort


class Answer(Protocol):
    def connectionMade(self):
        self.transport.write(b"here")
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_successor_serves_the_name_when_the_one_before_stops(tmp_path):
    path = tmp_path / "control"
    bound = bind_unix(path, mode=0o600)
    factory = Factory.forProtocol(Answer)
    first, second = (UnixPort(os.dup(bound.fileno()), factory, reactor) for _ in range(2))
    first.startListening()
    second.startListening()
    first.stopListening()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    script = "import socket,sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.recv(9))"
    said = await getProcessOutput("/usr/bin/python3", ["-c", script, str(path)], os.environ)
    assert said == b"b'here'\n"
    second.stopListening()
    bound.close()


def test_a_port_that_has_stopped_may_be_told_again(tmp_path):
    with bind_unix(tmp_path / "control", mode=0o600) as bound:
        port = UnixPort(os.dup(bound.fileno()), Factory.forProtocol(Answer), reactor)
        port.startListening()
        port.stopListening()
        port.connectionLost(None)
        assert port.fileno() == -1
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
