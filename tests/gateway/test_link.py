"""Calls and notes between roles."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.link import Link, LinkClient, LinkError, LinkServer


class Pair:
    """Two ends that hand each other's bytes over, in pieces of any size."""

    def __init__(self, calls=None, notes=None, piece=7):
        self.clock, self.piece = Clock(), piece
        self.near = Link(self.clock, {}, {})
        self.far = Link(self.clock, calls or {}, notes or {})
        for one in (self.near, self.far):
            one.makeConnection(StringTransport())

    def run(self):
        while True:
            self.clock.advance(0)
            moved = False
            for source, target in ((self.near, self.far), (self.far, self.near)):
                data = source.transport.value()
                source.transport.clear()
                for start in range(0, len(data), self.piece):
                    target.dataReceived(data[start : start + self.piece])
                    moved = True
            if not moved:
                return


def outcome(deferred):
    kept = []
    deferred.addBoth(kept.append)
    assert kept, "no answer yet"
    return kept[0]


def test_a_call_gets_its_answer_also_out_of_order():
    slow = Deferred()

    async def ask(value):
        return await slow if value == "slow" else value * 2

    pair = Pair({"ask": ask})
    first, second = pair.near.call("ask", "slow"), pair.near.call("ask", "ab")
    pair.run()
    assert outcome(second) == "abab"
    slow.callback("at last")
    pair.run()
    assert outcome(first) == "at last"


def test_a_handler_that_fails_or_is_unknown_fails_the_call_and_not_the_line():
    async def broken(value):
        raise ValueError("no")

    pair = Pair({"broken": broken})
    answers = [pair.near.call("broken", 1), pair.near.call("unknown", 1)]
    pair.run()
    failures = [outcome(one) for one in answers]
    assert [one.type for one in failures] == [LinkError, LinkError]
    assert str(failures[0].value) == "ValueError: no"


def test_notes_of_one_turn_arrive_in_order():
    got = []
    pair = Pair(notes={"told": got.append})
    for number in range(5):
        pair.near.note("told", {"number": number, "text": "ü\udc80"})
    pair.run()
    assert [one["number"] for one in got] == [0, 1, 2, 3, 4]
    assert got[0]["text"] == "ü\udc80"


def test_a_note_of_bytes_arrives_as_it_is_and_in_its_place():
    got = []
    pair = Pair(notes={"told": got.append})
    pair.near.note("told", 1)
    pair.near.note_bytes("told", b'[\0=\xff"\n')
    pair.near.note_bytes("told", b"")
    pair.near.note("told", 2)
    pair.run()
    assert got == [1, b'[\0=\xff"\n', b"", 2]


def test_open_calls_fail_when_the_line_breaks():
    async def never(value):
        await Deferred()

    pair = Pair({"never": never})
    answer = pair.near.call("never", None)
    pair.run()
    pair.near.connectionLost(Failure(ConnectionError()))
    assert outcome(answer).type is LinkError
    with pytest.raises(LinkError):
        pair.near.call("never", None)


def test_a_client_waits_for_its_connection_and_drops_notes_without_one():
    client = LinkClient(Clock())
    client.note("lost", 1)
    waiting = Deferred.fromCoroutine(client.call("ask", 1))
    link = client.buildProtocol(None)
    link.makeConnection(StringTransport())
    link._flush()
    assert b'["call",1,"ask",1]' in link.transport.value()
    link.dataReceived(b"\0\0\0\x10" + b'["answer",1,"x"]')
    assert outcome(waiting) == "x"


def test_who_asks_again_when_the_line_breaks_waits_for_the_next_one():
    client = LinkClient(Clock())
    client.stopTrying()
    asked = []

    def ask():
        asked.append(Deferred.fromCoroutine(client.call("ask", 1)).addErrback(lambda failure: ask()))

    link = client.buildProtocol(None)
    link.makeConnection(StringTransport())
    ask()
    link.connectionLost(Failure(LinkError("x")))
    assert len(asked) == 2
    link = client.buildProtocol(None)
    link.makeConnection(StringTransport())
    link._flush()
    assert b'"ask"' in link.transport.value()


def test_what_was_said_last_arrives_before_the_line_is_closed():
    got = []
    pair = Pair(notes={"told": got.append})
    pair.near.note("told", "last")
    pair.near.close()
    assert pair.near.transport.disconnecting
    pair.run()
    assert got == ["last"]


def test_the_beginning_of_a_frame_can_be_handed_on():
    got = []
    pair = Pair(notes={"told": got.append})
    pair.near.note("told", "something")
    pair.clock.advance(0)
    data = pair.near.transport.value()
    pair.far.dataReceived(data[:10])
    heir = Link(pair.clock, {}, {"told": got.append})
    heir.makeConnection(StringTransport())
    heir.dataReceived(pair.far.unread)
    heir.dataReceived(data[10:])
    assert got == ["something"]


def test_a_server_waits_until_it_is_alone_but_not_for_ever():
    clock = Clock()
    server = LinkServer(clock, frozenset())
    assert server.when_alone().called
    links = [server.buildProtocol(None) for _ in range(2)]
    ever, some_time = server.when_alone(), server.when_alone(5.0)
    clock.advance(5)
    assert some_time.called and not ever.called
    some_time = server.when_alone(5.0)
    for link in links:
        link.connectionLost()
    assert ever.called and some_time.called
    assert clock.getDelayedCalls() == []
