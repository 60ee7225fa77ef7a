"""What goes wrong where nobody catches it is one clear line in the mail log, whatever the reactor."""

import subprocess
import sys

import pytest

PROGRAM = '''
import socket
import sys

if sys.argv[1] == "ours":
    from gateway.reactor import install
    install()
from twisted.internet import defer, protocol, reactor

from gateway.log import MailLog
from gateway.role import catch_errors


class Broken(protocol.Protocol):
    def dataReceived(self, data):
        raise ValueError("in a protocol\\r\\nsecond line")

    def connectionLost(self, reason):
        raise KeyError("at its end")


def broken(where):
    raise RuntimeError(where)


async def coroutine():
    raise OSError(5, "in a coroutine")


log = MailLog("test", sys.stdout.buffer.write)
catch_errors(log, "smtpd")
ours, theirs = socket.socketpair()
ours.setblocking(False)
reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, protocol.Factory.forProtocol(Broken))
theirs.send(b"x")
reactor.callLater(0, broken, "in a timer")
reactor.callLater(0, reactor.callFromThread, broken, "from a thread")
reactor.callInThread(broken, "in a thread")
defer.Deferred.fromCoroutine(coroutine())
reactor.callLater(0.3, reactor.stop)
reactor.run()
'''

SAID = [
    "KeyError: 'at its end'", "OSError: [Errno 5] in a coroutine", "RuntimeError: from a thread",
    "RuntimeError: in a thread", "RuntimeError: in a timer", "ValueError: in a protocol??second line",
]


@pytest.mark.parametrize("reactor", ["ours", "default"])
def test_an_error_that_nobody_handles_is_a_line_in_the_mail_log(reactor):
    done = subprocess.run([sys.executable, "-c", PROGRAM, reactor], capture_output=True, text=True, check=True)
    lines = [line.partition("]: ")[2] for line in done.stdout.splitlines()]
    assert all(line.endswith(")") and "(<string>:" in line for line in lines), lines
    assert sorted(line.partition("internal: ")[2].rpartition(" (")[0] for line in lines) == SAID
