"""Commands that ask a running gateway for something."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.commands import flush, stop

Serve = Callable[[bytes], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts what answers one request with the given bytes and hangs up; gives the configuration directory."""
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> Path:
        public = tmp_path / "public"
        public.mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(public / "control"))
        listener.listen()

        def answer_one() -> None:
            with listener, listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        threads.append(threading.Thread(target=answer_one))
        threads[-1].start()
        (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}\n")
        (tmp_path / "master.cf").write_text("smtp unix - - n - - smtp\n")
        return tmp_path

    yield start
    for thread in threads:
        thread.join()


def test_done(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    assert flush.main([], serve(b'{"done":0}\n')) == 0
    assert capfd.readouterr() == ("", "")


def test_a_gateway_that_stops_need_not_answer(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    assert stop.main([], serve(b"")) == 0
    assert capfd.readouterr() == ("", "")


def test_no_answer_to_anything_else_is_trouble(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    assert flush.main([], serve(b"")) == 69
    assert "not running (connection closed)" in capfd.readouterr().err


def test_refusals_are_told(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    assert stop.main([], serve(b'{"error":"only root and the mail owner may do this"}\n')) == 77
    assert capfd.readouterr().err == "mailgateway: fatal: stop: only root and the mail owner may do this\n"


def test_a_gateway_that_does_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}\n")
    (tmp_path / "master.cf").write_text("smtp unix - - n - - smtp\n")
    assert stop.main([], tmp_path) == 69
    assert "the gateway is not running" in capfd.readouterr().err
