"""A header that would keep a pattern busy for years: that mail is deferred, and nobody else waits for it."""

from __future__ import annotations

import smtplib
import threading
import time

import pytest

pytestmark = pytest.mark.system

HOSTILE = b"Subject: " + b"a" * 3000 + b"!\r\n\r\nHello.\r\n"


def test_nobody_waits(either, make_sink) -> None:  # type: ignore[no-untyped-def]
    gateway, sink = either("twistd"), make_sink()
    gateway.append("checks", "/^Subject: (a+)+$/ REJECT\n")
    gateway.set(
        transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{sink.port}}}",
        header_checks=f"pcre:{gateway.directory}/checks",
    )
    gateway.start()
    refused: list[smtplib.SMTPDataError] = []

    def attack() -> None:
        with gateway.client() as client:
            try:
                client.sendmail("ann@b.example", ["joe@far.example"], HOSTILE)
            except smtplib.SMTPDataError as error:
                refused.append(error)

    attackers = [threading.Thread(target=attack) for _ in range(3)]
    for one in attackers:
        one.start()
    time.sleep(0.2)
    slowest = 0.0
    for number in range(10):
        begun = time.monotonic()
        gateway.send("joe@far.example", f"Subject: number {number}\n\nHello.\n")
        slowest = max(slowest, time.monotonic() - begun)
    for one in attackers:
        one.join()
    assert [error.smtp_code for error in refused] == [451] * 3
    assert slowest < 3.5  # as long as those questions take that are before it
    assert len(sink.wait(10)) == 10
    gateway.wait_for(r"pcre map .*/checks, line 1: no answer within 1 s")
