"""Datagrams for those who wait for mail."""

from __future__ import annotations

import socket

from gateway.log import MemoryLog
from transports.comsat import Comsat


def listener() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(10)
    return made


def test_who_listens_hears() -> None:
    log = MemoryLog()
    with listener() as here:
        Comsat(log, port=here.getsockname()[1]).tell("joe", 1234)
        assert here.recv(100) == b"joe@1234\0"
    assert log.text == ""


def test_nobody_need_listen() -> None:
    log = MemoryLog()
    with listener() as here:
        port = here.getsockname()[1]
    comsat = Comsat(log, port=port)
    for _ in range(3):
        comsat.tell("joe", 0)
    with listener() as here:
        comsat = Comsat(log, port=here.getsockname()[1])
        comsat.tell("joe", 7)
        assert here.recv(100) == b"joe@7\0"
    assert log.text == ""


def test_what_does_not_get_out_is_no_harm() -> None:
    log = MemoryLog()
    Comsat(log, port=0).tell("joe", 0)
    assert log.text == "local: warning: cannot tell biff of mail for joe: Invalid argument"
