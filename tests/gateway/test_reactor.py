"""The reactor of the role processes."""

from __future__ import annotations

import os

from gateway.reactor import PlainReactor


class Reader:
    """Notes what it is told, and then does something."""

    def __init__(self, descriptor, then):
        self.descriptor = descriptor
        self.then = then
        self.told = []

    def fileno(self):
        return self.descriptor

    def doRead(self):
        self.told.append("read")
        self.then(self)

    def connectionLost(self, reason):
        self.told.append("lost")
        self.then(self)


def test_an_event_is_not_told_to_whoever_has_got_the_descriptor_meanwhile():
    reactor = PlainReactor()
    pipes = [os.pipe() for _ in range(2)]
    others = os.pipe()
    newcomer = Reader(-1, lambda reader: None)

    def take_the_others_place(reader):
        (other,) = [each for each in readers if each is not reader]
        for each in readers:
            reactor.removeReader(each)
        newcomer.descriptor = other.descriptor
        os.dup2(others[0], other.descriptor)
        reactor.addReader(newcomer)

    readers = [Reader(pipe[0], take_the_others_place) for pipe in pipes]
    for reader, pipe in zip(readers, pipes, strict=True):
        reactor.addReader(reader)
        os.close(pipe[1])
    reactor.doPoll(1)
    assert sorted(len(reader.told) for reader in readers) == [0, 1]
    assert newcomer.told == []
    os.write(others[1], b"x")
    reactor.doPoll(1)
    assert newcomer.told == ["read"]
