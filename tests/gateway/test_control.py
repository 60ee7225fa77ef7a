"""The control protocol: server against hostile lines, client against hostile answers."""

import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from gateway.control import Control, Down, Refused, control_factory


class Server:
    """A connection to a server in memory."""

    def __init__(self, **handlers: Any) -> None:
        self.trouble: list[str] = []
        self.uid = 77
        self.factory = control_factory(
            {name.replace("_", "-"): handler for name, handler in handlers.items()},
            trouble=self.trouble.append,
            uid_of=lambda transport: self.uid,
            most=2,
        )

    def connect(self) -> tuple[Any, StringTransport]:
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport


def answers(transport: StringTransport) -> list[Any]:
    return [json.loads(line) for line in transport.value().splitlines()]


async def echo(uid: int, arguments: dict[str, Any]) -> Any:
    return [uid, arguments]


def test_a_request_and_its_result() -> None:
    protocol, transport = Server(echo=echo).connect()
    protocol.dataReceived(b'{"do":"echo","with":{"a":"\\u00e9\\udcff"}}\n{"do":"echo"}\n')
    assert answers(transport) == [{"done": [77, {"a": "é\udcff"}]}, {"done": [77, {}]}]


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b"{}", b'{"do":"other"}', b'{"do":[]}', b'{"do":"echo","with":[1]}', b"[" * 99999, b"\xff"],
)
def test_unintelligible_requests(line: bytes) -> None:
    server = Server(echo=echo)
    protocol, transport = server.connect()
    protocol.dataReceived(line + b'\n{"do":"echo"}\n')
    assert answers(transport) == [{"error": "unknown request"}, {"done": [77, {}]}]
    assert server.trouble == []


@given(st.binary(max_size=60))
@settings(max_examples=60)
def test_any_line_gets_an_answer(line: bytes) -> None:
    protocol, transport = Server(echo=echo).connect()
    protocol.dataReceived(line.replace(b"\n", b" ") + b"\n")
    assert len(answers(transport)) == 1


def test_a_line_without_end_ends_the_connection() -> None:
    protocol, transport = Server(echo=echo).connect()
    protocol.dataReceived(b"x" * ((1 << 20) + 1))
    assert transport.disconnecting


def test_requests_are_answered_in_their_order() -> None:
    first: Deferred[int] = Deferred()

    async def slow(uid: int, arguments: dict[str, Any]) -> Any:
        return await first

    protocol, transport = Server(slow=slow, echo=echo).connect()
    protocol.dataReceived(b'{"do":"slow"}\n{"do":"echo"}\n')
    assert answers(transport) == []
    first.callback(5)
    assert answers(transport) == [{"done": 5}, {"done": [77, {}]}]


def test_refusals_and_mistakes() -> None:
    async def refuse(uid: int, arguments: dict[str, Any]) -> Any:
        raise Refused("no")

    async def fail(uid: int, arguments: dict[str, Any]) -> Any:
        raise KeyError("secret")

    server = Server(refuse=refuse, fail=fail)
    protocol, transport = server.connect()
    protocol.dataReceived(b'{"do":"refuse"}\n{"do":"fail"}\n')
    assert answers(transport) == [{"error": "no"}, {"error": "internal error: KeyError"}]
    assert len(server.trouble) == 1


def test_items_wait_for_a_slow_reader() -> None:
    made = []

    async def count() -> AsyncIterator[int]:
        for number in range(4):
            made.append(number)
            yield number

    async def listing(uid: int, arguments: dict[str, Any]) -> Any:
        return count()

    protocol, transport = Server(list=listing).connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b'{"do":"list"}\n')
    assert (made, answers(transport)) == ([0], [])
    transport.producer.resumeProducing()
    assert answers(transport) == [{"item": 0}, {"item": 1}, {"item": 2}, {"item": 3}, {"done": None}]


def test_a_reader_that_leaves_ends_the_listing() -> None:
    made = []

    async def count() -> AsyncIterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    async def listing(uid: int, arguments: dict[str, Any]) -> Any:
        return count()

    protocol, transport = Server(list=listing).connect()
    transport.producer.pauseProducing()
    protocol.dataReceived(b'{"do":"list"}\n')
    protocol.connectionLost()
    assert made == [0]


def test_connections_are_limited() -> None:
    server = Server(echo=echo)
    one, _ = server.connect()
    server.connect()
    _, third = server.connect()
    assert answers(third) == [{"error": "too many connections"}]
    assert third.disconnecting
    one.connectionLost()
    _, fourth = server.connect()
    assert not fourth.disconnecting


def test_nobody_keeps_others_out() -> None:
    server = Server(echo=echo)
    for _ in range(3):
        server.connect()
    server.uid = 0
    protocol, transport = server.connect()
    protocol.dataReceived(b'{"do":"echo"}\n')
    assert answers(transport) == [{"done": [0, {}]}]


def test_what_waits_for_its_turn_takes_little_room() -> None:
    async def never(uid: int, arguments: dict[str, Any]) -> Any:
        await Deferred()

    protocol, transport = Server(never=never).connect()
    protocol.dataReceived(b'{"do":"never"}\n')
    line = b'{"do":"never","with":{"ids":"' + b"x" * 600_000 + b'"}}\n'
    protocol.dataReceived(line)
    assert not transport.disconnecting
    protocol.dataReceived(line)
    assert transport.disconnecting


# --- client ---------------------------------------------------------------------------------------------------------


def serve(directory: Path, answer: bytes) -> threading.Thread:
    """Answer one request with these bytes and close."""
    (directory / "public").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "public/control"))
    listener.listen()

    def work() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_client_items(tmp_path: Path) -> None:
    thread = serve(tmp_path, b'{"item":1}\n{"item":2}\n{"done":null}\n')
    with Control(str(tmp_path)) as control:
        assert list(control.items("list")) == [1, 2]
    thread.join()


@pytest.mark.parametrize("answer", [b"", b'{"done":1}', b"x\n", b"[]\n", b"1\n", b'{"item":1}\n'])
def test_client_with_a_broken_server(tmp_path: Path, answer: bytes) -> None:
    thread = serve(tmp_path, answer)
    with Control(str(tmp_path)) as control, pytest.raises(Down):
        control.call("status")
    thread.join()


def test_client_is_refused(tmp_path: Path) -> None:
    thread = serve(tmp_path, b'{"error":"not you"}\n')
    with Control(str(tmp_path)) as control, pytest.raises(Refused, match="not you"):
        control.call("stop")
    thread.join()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Down, match="No such file"):
        Control(str(tmp_path))


def test_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    (deep / "public").mkdir()
    here = os.getcwd()
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(deep / "public")
    try:
        listener.bind("control")
    finally:
        os.chdir(here)
    with listener:
        listener.listen()
        Control(str(deep)).__exit__()
