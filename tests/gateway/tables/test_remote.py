"""tcp: and socketmap: against servers in the test itself, on loopback and unix sockets."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport

from gateway.config import Settings
from gateway.interfaces import DNSError, TableError
from gateway.log import MemoryLog
from gateway.tables import Tables
from gateway.tables.remote import _line, _netstring
from gateway.tables.requests import IDLE, MAX_CONNECTIONS, TIMEOUT

reactor: Any = global_reactor


class Answering(Protocol):
    """Answers each read by what ``reply`` makes of it; None = hang up."""

    def __init__(self, server: AnsweringFactory) -> None:
        self.server = server

    def connectionMade(self) -> None:
        self.server.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.server.questions.append(data)
        reply = self.server.reply(data)
        if reply is None:
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.transport.write(reply)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.server.connections.remove(self)
        if not self.server.connections:
            waiting, self.server.waiting = self.server.waiting, []
            for done in waiting:
                done.callback(None)


class AnsweringFactory(Factory):
    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self.reply = reply
        self.questions: list[bytes] = []
        self.connections: list[Answering] = []
        self.waiting: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Answering:
        return Answering(self)

    def all_gone(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if self.connections:
            self.waiting.append(done)
        else:
            done.callback(None)
        return done


class Names:
    """A resolver that knows one name."""

    async def native(self, host: str) -> list[str]:
        if host == "tables.example":
            return ["127.0.0.1"]
        raise DNSError(f"Host or domain name not found. Name service error for name={host}", temporary=False)


@asynccontextmanager
async def serving(reply: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[AnsweringFactory, int, Tables]]:
    factory = AnsweringFactory(reply)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    tables = Tables(clock=reactor, log=MemoryLog(), reactor=reactor, resolver=Names())
    try:
        yield factory, port.getHost().port, tables
    finally:
        tables.close()
        await port.stopListening()
        await factory.all_gone()


SETTINGS = Settings({"alias_maps": "", "alias_database": ""})


@ensureDeferred
async def test_tcp_table() -> None:
    replies = {
        b"get joe%20doe%25@x\n": b"200 a%20value%0a with blank\n",
        b"get missing\n": b"500 not%20here\n",
        b"get sick\n": b"400 out%20of order\n",
        b"get odd\n": b"what?\n",
        b"get \xc3\xa9\n".replace(b"\xc3\xa9", b"%C3%A9"): b"200 ok\r\n",
    }
    async with serving(lambda question: replies[question]) as (factory, port, tables):
        table = tables.open(f"tcp:127.0.0.1:{port}", SETTINGS)
        assert await table.lookup("joe doe%@x") == "a value\n with blank"
        assert await table.lookup("missing") is None
        assert await table.lookup("\xe9") == "ok"
        with pytest.raises(TableError, match="out of order"):
            await table.lookup("sick")
        with pytest.raises(TableError, match="bad reply"):
            await table.lookup("odd")
        assert len(factory.connections) == 1


@ensureDeferred
async def test_socketmap() -> None:
    replies = {
        b"18:aliases info@v.tld,": b"11:OK joe, ann,",
        b"14:aliases nobody,": b"9:NOTFOUND ,",
        b"12:aliases sick,": b"13:TEMP overload,",
        b"11:aliases odd,": b"2:hm,",
    }
    async with serving(lambda question: replies[question]) as (_, port, tables):
        table = tables.open(f"socketmap:inet:tables.example:{port}:aliases", SETTINGS)
        assert await table.lookup("info@v.tld") == "joe, ann"
        assert await table.lookup("nobody") is None
        with pytest.raises(TableError, match="socketmap server temporary error: overload"):
            await table.lookup("sick")
        with pytest.raises(TableError, match="socketmap server protocol error"):
            await table.lookup("odd")


@ensureDeferred
async def test_socketmap_on_a_unix_socket(tmp_path: Path) -> None:
    factory = AnsweringFactory(lambda question: b"4:OK x,")
    port = reactor.listenUNIX(str(tmp_path / "socket"), factory)
    tables = Tables(clock=reactor, log=MemoryLog(), reactor=reactor)
    table = tables.open(f"socketmap:unix:{tmp_path}/socket:map", SETTINGS)
    assert await table.lookup("key") == "x"
    assert factory.questions == [b"7:map key,"]
    tables.close()
    await port.stopListening()
    await factory.all_gone()


@ensureDeferred
async def test_a_connection_that_the_server_closed_is_replaced() -> None:
    async with serving(lambda question: b"200 x\n") as (factory, port, tables):
        table = tables.open(f"tcp:127.0.0.1:{port}", SETTINGS)
        assert await table.lookup("a") == "x"
        gone = factory.all_gone()
        factory.connections[0].transport.loseConnection()  # type: ignore[union-attr]
        await gone
        assert await table.lookup("b") == "x"
        # And one that is closed just when the question arrives:
        factory.reply = lambda question: None if len(factory.questions) == 3 else b"200 y\n"
        assert await table.lookup("c") == "y"
        assert factory.questions == [b"get a\n", b"get b\n", b"get c\n", b"get c\n"]


@ensureDeferred
async def test_a_server_that_hangs_up_is_an_error() -> None:
    async with serving(lambda question: None) as (_, port, tables):
        with pytest.raises(TableError, match="lost connection"):
            await tables.open(f"tcp:127.0.0.1:{port}", SETTINGS).lookup("a")


@ensureDeferred
async def test_a_server_that_is_away_is_an_error(tmp_path: Path) -> None:
    tables = Tables(clock=reactor, log=MemoryLog(), reactor=reactor, resolver=Names())
    with pytest.raises(TableError, match="connect to 127.0.0.1:1: Connection refused"):
        await tables.open("tcp:127.0.0.1:1", SETTINGS).lookup("a")
    with pytest.raises(TableError, match="Host or domain name not found"):
        await tables.open("tcp:nosuch.example:1", SETTINGS).lookup("a")
    with pytest.raises(TableError, match="No such file or directory"):
        await tables.open(f"socketmap:unix:{tmp_path}/nosuch:map", SETTINGS).lookup("a")
    tables.close()


@ensureDeferred
async def test_few_connections_serve_many_questions() -> None:
    async with serving(lambda question: b"200 " + question[4:]) as (factory, port, tables):
        table = tables.open(f"tcp:127.0.0.1:{port}", SETTINGS)
        keys = [f"k{number}" for number in range(40)]
        answers = await gatherResults([Deferred.fromCoroutine(table.lookup(key)) for key in keys])
        assert answers == keys
        assert len(factory.connections) == MAX_CONNECTIONS


@ensureDeferred
async def test_unasked_for_data_is_an_error() -> None:
    async with serving(lambda question: b"200 x\n200 y\n") as (factory, port, tables):
        with pytest.raises(TableError, match="more than it was asked for"):
            await tables.open(f"tcp:127.0.0.1:{port}", SETTINGS).lookup("a")
        await factory.all_gone()


def connected(memory: MemoryReactorClock) -> tuple[Any, StringTransport]:
    """The last connection that was asked for, made."""
    client: Any = memory.tcpClients[-1][2].buildProtocol(None)
    transport = StringTransport()
    transport.abortConnection = lambda: None  # type: ignore[method-assign]
    client.makeConnection(transport)
    return client, transport


def test_a_silent_server_is_given_up_and_waiters_go_on() -> None:
    memory = MemoryReactorClock()
    tables = Tables(clock=memory, log=MemoryLog(), reactor=memory)
    table = tables.open("tcp:192.0.2.1:99", SETTINGS)
    failures: list[Any] = []
    for number in range(MAX_CONNECTIONS + 1):
        Deferred.fromCoroutine(table.lookup(f"k{number}")).addErrback(failures.append)
        if number < MAX_CONNECTIONS:
            connected(memory)
    assert len(memory.tcpClients) == MAX_CONNECTIONS
    memory.advance(TIMEOUT)
    assert [str(failure.value) for failure in failures] == ["tcp:192.0.2.1:99: read timeout"] * MAX_CONNECTIONS
    assert len(memory.tcpClients) == MAX_CONNECTIONS + 1
    client, transport = connected(memory)
    assert transport.value() == f"get k{MAX_CONNECTIONS}\n".encode()
    client.dataReceived(b"500 no\n")


def test_idle_connections_are_closed() -> None:
    memory = MemoryReactorClock()
    tables = Tables(clock=memory, log=MemoryLog(), reactor=memory)
    answers: list[Any] = []
    Deferred.fromCoroutine(tables.open("tcp:192.0.2.1:99", SETTINGS).lookup("a")).addBoth(answers.append)
    client, transport = connected(memory)
    aborted: list[bool] = []
    transport.abortConnection = lambda: aborted.append(True)  # type: ignore[method-assign]
    client.dataReceived(b"200 ")
    client.dataReceived(b"x\n")
    assert answers == ["x"] and not aborted
    memory.advance(IDLE)
    assert aborted == [True]


def test_each_question_has_its_own_time_limit() -> None:
    memory = MemoryReactorClock()
    table = Tables(clock=memory, log=MemoryLog(), reactor=memory).open("tcp:192.0.2.1:99", SETTINGS)
    answers: list[Any] = []
    Deferred.fromCoroutine(table.lookup("a")).addBoth(answers.append)
    client, _ = connected(memory)
    client.dataReceived(b"200 x\n")
    memory.advance(IDLE - 1)
    Deferred.fromCoroutine(table.lookup("b")).addBoth(answers.append)
    memory.advance(TIMEOUT - 1)
    assert answers == ["x"] and len(memory.tcpClients) == 1
    memory.advance(1)
    assert answers[1].getErrorMessage() == "tcp:192.0.2.1:99: read timeout"
    assert memory.getDelayedCalls() == []


@pytest.mark.parametrize("data", [b"x" * 5000, b"y" * 4096 + b"\n"])
def test_lines_are_bounded(data: bytes) -> None:
    with pytest.raises(ValueError, match="too long"):
        _line(data)


@pytest.mark.parametrize("data", [b"100001:", b"x:", b"00:,", b"3:abc;", b"12345678901", b":,"])
def test_bad_netstrings(data: bytes) -> None:
    with pytest.raises(ValueError, match="reply"):
        _netstring(data)


@given(st.binary(max_size=200), st.binary(max_size=5))
@hypothesis_settings(max_examples=100, deadline=None)
def test_netstrings_in_pieces(data: bytes, rest: bytes) -> None:
    whole = b"%d:%s," % (len(data), data)
    assert all(_netstring(whole[:end]) is None for end in range(1, len(whole)))
    assert _netstring(whole + rest) == (data, rest)


@ensureDeferred
async def test_accounts_are_asked_in_a_thread_of_the_tables_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    threads: list[str] = []
    real = pwd.getpwnam

    def getpwnam(name: str) -> pwd.struct_passwd:
        threads.append(threading.current_thread().name)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    tables = Tables(clock=Clock(), log=MemoryLog(), reactor=reactor)
    line = await tables.open("unix:passwd.byname", SETTINGS).lookup("root")
    tables.close()
    assert line is not None and line.startswith("root:")
    assert len(threads) == 1 and "tables" in threads[0]
