"""The master and the roles that it starts, without processes; with real ones it is tested in tests/system."""

import json
import os
import socket

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.config.configuration import from_texts, load
from gateway.log import MemoryLog
from gateway.master import Master, Plan, read_text_file, text_file


class Process:
    """A role that was started: ``say`` is a note of its, ``told`` what it was told."""

    def __init__(self, protocol, title, link):
        self.protocol, self.title, self._link = protocol, title, link
        self.pid, self.ended = 1, False

    def say(self, name, value=None):
        frame = json.dumps(["note", name, value]).encode()
        self._link.dataReceived(len(frame).to_bytes(4, "big") + frame)

    @property
    def told(self):
        return [name for name in ("retire", "stop") if f'"{name}"'.encode() in self._link.transport.value()]

    @property
    def freed(self):
        data, found = self._link.transport.value(), []
        while data:
            size = int.from_bytes(data[:4], "big")
            _, name, value = json.loads(data[4 : 4 + size])
            data = data[4 + size :]
            found += [tuple(one) for one in value] if name == "freed" else []
        return found

    def end(self):
        self.ended = True
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class Reactor(Clock):
    """Starts no processes, but keeps them."""

    def __init__(self):
        super().__init__()
        self.processes = []
        self._links = []

    def adoptStreamConnection(self, descriptor, family, factory):
        link = factory.buildProtocol(None)
        link.makeConnection(StringTransport())
        self._links.append(link)

    def spawnProcess(self, protocol, executable, command, env, childFDs):
        process = Process(protocol, protocol.plan.title, self._links[-1])
        self.processes.append(process)
        given = dict(word.split("=") for word in command[5:])
        if "held" in given:
            with open(os.dup(childFDs[int(given["held"])])) as file:
                process.held = json.load(file)
        return process

    def running(self, title):
        return [one for one in self.processes if one.title == title and not one.ended]


@pytest.fixture
def world(tmp_path):
    reactor = Reactor()
    listener = socket.socket()
    plans = [Plan("executor", 1), Plan("scheduler", 1), *(Plan("receiver", n, {"inet:25": listener}) for n in (1, 2))]
    master = Master(reactor, MemoryLog(), lambda what: None)

    def start():
        master.start(from_texts("", "", tmp_path), plans)

    start()
    for one in reactor.processes:
        one.say("ready")
    yield reactor, start
    listener.close()


def retiring(reactor):
    reactor.advance(0)
    return [one.title for one in reactor.processes if "retire" in one.told]


def test_the_old_roles_work_until_all_new_ones_are_ready(world):
    reactor, start = world
    old = list(reactor.processes)
    start()
    new = reactor.processes[len(old) :]
    assert [one.title for one in new] == ["executor", "receiver 1", "receiver 2"]
    for one in new[:-1]:
        one.say("ready")
    assert retiring(reactor) == []
    new[-1].say("ready")
    assert retiring(reactor) == ["executor", "scheduler", "receiver 1", "receiver 2"]


def test_there_is_never_more_than_one_scheduler(world):
    reactor, start = world
    (first,) = reactor.running("scheduler")
    start()
    start()
    for one in reactor.processes:
        one.say("ready")
    assert reactor.running("scheduler") == [first]
    assert retiring(reactor).count("receiver 1") == 2
    first.say("holds", [])
    second = reactor.running("scheduler")[-1]
    assert second is not first
    first.end()
    assert reactor.running("scheduler") == [second]
    second.say("ready")
    second.end()
    reactor.advance(1)
    assert len(reactor.running("scheduler")) == 1


def test_the_new_scheduler_leaves_alone_what_the_old_one_delivers(world):
    reactor, start = world
    (first,) = reactor.running("scheduler")
    start()
    for one in reactor.processes:
        one.say("ready")
    first.say("holds", ["a", "b", "c"])
    second = reactor.running("scheduler")[-1]
    assert sorted(second.held) == ["a", "b", "c"]
    first.say("freed", [["a", "deferred/new/x"]])
    reactor.advance(0)
    assert second.freed == [("a", "deferred/new/x")]
    second.end()  # the next one learns of the rest
    reactor.advance(1)
    third = reactor.running("scheduler")[-1]
    assert sorted(third.held) == ["b", "c"]
    first.end()
    reactor.advance(0)
    assert sorted(third.freed) == [("b", None), ("c", None)]


def test_a_third_scheduler_waits_for_the_second_to_let_go_and_for_what_the_first_delivers(world):
    reactor, start = world
    (first,) = reactor.running("scheduler")
    start()
    for one in reactor.processes:
        one.say("ready")
    first.say("holds", ["a"])
    second = reactor.running("scheduler")[-1]
    second.say("ready")
    start()
    for one in reactor.processes:
        one.say("ready")
    assert reactor.running("scheduler") == [first, second]
    second.say("holds", ["b"])
    third = reactor.running("scheduler")[-1]
    assert sorted(third.held) == ["a", "b"]
    first.say("freed", [["a", ""]])
    reactor.advance(0)
    assert third.freed == [("a", "")]


def test_an_old_scheduler_that_dies_before_it_lets_go_is_replaced(world):
    reactor, start = world
    (first,) = reactor.running("scheduler")
    start()
    first.end()
    (second,) = reactor.running("scheduler")
    assert second.held == []


def test_a_new_role_that_dies_does_not_send_the_old_ones_away(world):
    reactor, start = world
    old = list(reactor.processes)
    start()
    for one in reactor.processes[len(old) :]:
        if one.title == "executor":
            one.end()
        else:
            one.say("ready")
    assert retiring(reactor) == []
    reactor.advance(1)
    reactor.processes[-1].say("ready")
    assert len(retiring(reactor)) == len(old)


def test_a_role_gets_the_configuration_that_the_master_has(tmp_path):
    (tmp_path / "main.cf").write_bytes(b"myhostname = gw.example\nmail_name = Gr\xfc\xdfe\n")
    (tmp_path / "master.cf").write_text("relay unix - - n - - smtp -o smtp_helo_timeout=5\n")
    mine = load(tmp_path)
    descriptor = text_file(mine.texts)
    (tmp_path / "main.cf").write_text("nonsense\n")
    (tmp_path / "master.cf").unlink()
    theirs = read_text_file(descriptor, tmp_path)
    assert theirs.settings.values == mine.settings.values
    assert theirs.services == mine.services
    assert theirs.directory == mine.directory
    assert theirs.settings.place("mail_name") == mine.settings.place("mail_name")
