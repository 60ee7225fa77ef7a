"""A filter in front of the queue: what it is told, and that its word is ours."""

from __future__ import annotations

import pytest
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from gateway.config import ConfigError
from tests.gateway.smtpd.rig import Rig as PlainRig

HELLO = "250-filter.test\r\n250-XFORWARD NAME ADDR HELO PROTO\r\n250 8BITMIME\r\n"


class Filter:
    """An SMTP server in memory.  ``script``: replies by verb; "." is the end of the content; None = it hangs up."""

    def __init__(self, **script):
        self.script = {"EHLO": HELLO, "DATA": "354 go on\r\n", "end": "250 2.0.0 Ok: queued as F1\r\n", **script}
        self.heard, self.content, self.in_content = [], b"", False

    def connected(self, protocol):
        self.protocol = protocol
        self.say(self.script.get("greeting", "220 filter.test\r\n"))

    def say(self, reply):
        if reply is None:
            self.protocol.connectionLost(Failure(error.ConnectionDone()))
        elif reply:
            self.protocol.dataReceived(reply.encode())

    def take(self, data):
        if self.in_content:
            self.content += data
            if not self.content.endswith(b"\r\n.\r\n"):
                return
            self.in_content = False
            self.say(self.script["end"])
            return
        for line in data.decode().splitlines():
            self.heard.append(line)
            verb = line.split()[0]
            reply = self.script.get(verb, "" if verb == "QUIT" else "250 2.1.0 Ok\r\n")
            self.in_content = verb == "DATA" and reply[:1] == "3"
            self.say(reply)


class Transport(StringTransport):
    def __init__(self, filter):
        super().__init__()
        self.filter = filter

    def write(self, data):
        self.filter.take(data)


class Reactor(MemoryReactorClock):
    filter = None

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None):
        if self.filter is None:
            factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError(osError=111)))
            return
        made = factory.buildProtocol(IPv4Address("TCP", host, port))
        made.makeConnection(Transport(self.filter))
        self.filter.connected(made)


class Rig(PlainRig):
    reactor = Reactor

    def __init__(self, filter, **settings):
        super().__init__(**{"smtpd_proxy_filter": "127.0.0.1:10025", **settings})
        self.clock.filter = filter


MAIL = ("EHLO c.test", "MAIL FROM:<a@b.test> SIZE=9", "RCPT TO:<joe@gw.test>")
FAILED = "451 4.3.0 Error: queue file write error"


def test_a_message_goes_through():
    filter = Filter()
    rig = Rig(filter)
    client = rig.connect()
    assert client.say(*MAIL, "RCPT TO:<ann@gw.test> NOTIFY=NEVER")[1:] == [
        "250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.1.5 Ok"
    ]  # fmt: skip
    assert client.say("DATA")[0].startswith("354")
    assert client.send("Subject: x\r\n\r\n..dot\r\n.\r\n") == "250 2.0.0 Ok: queued as F1\n"
    assert filter.heard == [
        "EHLO gw.test", "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.7 HELO=c.test PROTO=ESMTP",
        "MAIL FROM:<a@b.test> SIZE=9", "RCPT TO:<joe@gw.test>", "RCPT TO:<ann@gw.test> NOTIFY=NEVER", "DATA", "QUIT",
    ]  # fmt: skip
    lines = filter.content.decode().split("\r\n")
    assert lines[0] == "Received: from c.test (unknown [192.0.2.7])"
    assert lines[1].startswith("\tby gw.test (mailgateway) with ESMTP; ")
    assert lines[2:] == ["Subject: x", "", "..dot", ".", ""]
    facts = "from=<a@b.test> to=<joe@gw.test> proto=ESMTP helo=<c.test>"
    assert f"proxy-accept: END-OF-MESSAGE: 250 2.0.0 Ok: queued as F1; {facts}" in rig.lines
    assert "NOQUEUE: client=unknown[192.0.2.7]" in rig.lines and rig.cleanup.begun == []


def test_it_refuses():
    filter = Filter(end="550-5.7.1 spam\r\n550 5.7.1 go away\r\n")
    rig = Rig(filter)
    client = rig.connect()
    client.say(*MAIL, "DATA")
    assert client.send("x\r\n.\r\n") == "550-5.7.1 spam\n550 5.7.1 go away\n"
    assert any(line.startswith("proxy-reject: END-OF-MESSAGE: 550-5.7.1 spam") for line in rig.lines)
    assert client.say("MAIL FROM:<a@b.test>") == ["250 2.1.0 Ok"]


@pytest.mark.parametrize(
    "script, reply",
    [
        ({"RCPT": "550 5.1.1 nobody\r\n"}, "550 5.1.1 nobody"), ({"MAIL": "450 4.7.1 later\r\n"}, "450 4.7.1 later"),
        ({"greeting": "554 no\r\n"}, FAILED), ({"greeting": None}, FAILED), ({"EHLO": None}, FAILED),
    ],
)
def test_before_the_content(script, reply):
    client = Rig(Filter(**script)).connect()
    assert client.say(*MAIL)[2] == reply
    assert client.say("DATA") == ["554 5.5.1 Error: no valid recipients"]


def test_it_fails_in_the_content():
    for script in ({"DATA": "451 4.3.0 no\r\n"}, {"DATA": None}):
        client = Rig(Filter(**script)).connect()
        assert client.say(*MAIL, "DATA")[3].startswith("451 4.3.0 ")
    rig = Rig(Filter(end=None))
    client = rig.connect()
    client.say(*MAIL, "DATA")
    assert client.send("x\r\n.\r\n") == f"{FAILED}\n"
    assert "warning: lost connection with proxy 127.0.0.1:10025" in rig.lines


def test_it_is_not_there_or_silent():
    rig = Rig(None)
    assert rig.connect().say(*MAIL)[2] == FAILED
    assert "warning: connect to proxy filter 127.0.0.1:10025: Connection refused" in rig.lines
    rig = Rig(Filter(RCPT=""), smtpd_proxy_timeout="9s")
    client = rig.connect()
    assert client.say(*MAIL)[2] == ""
    rig.clock.advance(9)
    assert client.got() == f"{FAILED}\n"


def test_it_talks_without_end_or_being_asked():
    rig = Rig(Filter(RCPT="250-on and on\r\n" * 10_000))
    assert rig.connect().say(*MAIL)[2] == FAILED
    filter = Filter()
    client = Rig(filter).connect()
    client.say(*MAIL, "DATA")
    for _ in range(10):
        filter.say("x" * 10_000)
    assert filter.protocol.transport.disconnected, "what it says while nobody asks is not kept"


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        ({}, "250 2.0.0 Ok: queued as F1"), ({"MAIL": "550 5.1.0 no\r\n"}, "550 5.1.0 no"),
        ({"RCPT": "450 4.1.1 later\r\n"}, "450 4.1.1 later"), ({"DATA": "554 5.5.0 no\r\n"}, "554 5.5.0 no"),
        ({"end": "550 5.7.1 spam\r\n"}, "550 5.7.1 spam"), ({"end": None}, FAILED),
        ({"greeting": "554 no\r\n"}, FAILED),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2_000_000])
def test_it_hears_of_a_message_when_that_is_complete(script, reply, size):
    filter = Filter(**script)
    client = Rig(filter, smtpd_proxy_options="speed_adjust").connect()
    assert client.say(*MAIL, "RCPT TO:<ann@gw.test>", "DATA")[1:4] == ["250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.1.5 Ok"]
    client.send(".." + "x" * size + "\r\n")
    assert filter.heard == []
    assert client.send(".\r\n") == f"{reply}\n"
    if not script:
        assert filter.heard[2:] == [
            "MAIL FROM:<a@b.test> SIZE=9", "RCPT TO:<joe@gw.test>", "RCPT TO:<ann@gw.test>", "DATA", "QUIT"
        ]  # fmt: skip
        assert filter.content.endswith(b"\r\n.." + b"x" * size + b"\r\n.\r\n")
    filter.heard.clear()
    assert client.say("MAIL FROM:<c@b.test>", "RCPT TO:<joe@gw.test>", "RSET")[2] == "250 2.0.0 Ok"
    assert filter.heard == []


def test_our_own_restrictions_come_first_and_nothing_is_slipped_in():
    filter = Filter()
    client = Rig(filter).connect()
    assert client.say(*MAIL[:2], "RCPT TO:<nobody@gw.test>")[2].startswith("550 5.1.1")
    assert filter.heard == []
    client.say("RCPT TO:<joe@gw.test>", "RSET")
    assert filter.heard[-1] == "QUIT"


def test_chunks_go_through_too():
    filter = Filter()
    client = Rig(filter).connect()
    client.say(*MAIL)
    assert client.send("BDAT 6 LAST\r\n.dot\r\n") == "250 2.0.0 Ok: queued as F1\n"
    assert filter.content.endswith(b"\r\n..dot\r\n.\r\n")


def test_what_cannot_be_understood():
    with pytest.raises(ConfigError):
        Rig(None, smtpd_proxy_filter="inet:127.0.0.1:nowhere")
    with pytest.raises(ConfigError):
        Rig(None, smtpd_proxy_options="speed_adjust, slow")
