"""Limits on a client that several processes serve."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from gateway.smtpd.limits import CONNECTIONS, MESSAGES, OPEN, ClientLimits
from tests.gateway.smtpd.rig import Rig as PlainRig


def result(coroutine: Any) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    return found[0]


class Others:
    def __init__(self, count: Any) -> None:
        self.count, self.asked = count, 0

    def __call__(self, service: str, network: str, what: str) -> Any:
        self.asked += 1
        if isinstance(self.count, Exception):
            raise self.count
        return succeed(self.count)


@pytest.mark.parametrize(
    "count, all_, asked, expected",
    [(5, 99, 0, 5), (6, 9, 1, 9), (6, 11, 1, 11), (6, 2, 1, 6), (11, 30, 0, 11), (6, RuntimeError("away"), 1, 6)],
)
def test_others_are_asked_when_it_may_matter(count: int, all_: Any, asked: int, expected: int) -> None:
    others = Others(all_)
    limits = ClientLimits(Clock().seconds, processes=2, together=others)
    assert result(limits.in_all("smtp", "192.0.2.1", MESSAGES, count, 10)) == expected
    assert others.asked == asked


class Processes:
    """Some that count the same clients, as receivers do."""

    def __init__(self, number: int, limit: int) -> None:
        self.clock, self.limit, self.asked = Clock(), limit, 0
        self.all = [
            ClientLimits(self.clock.seconds, processes=number, together=self._together) for _ in range(number)
        ]

    async def _together(self, service: str, network: str, what: str) -> int:
        self.asked += 1
        return sum(one.counted(service, network, what) for one in self.all)

    def come(self, to: int, what: str = MESSAGES) -> bool:
        """Whether one more event is within the limit."""
        limits = self.all[to]
        count = limits.connect("smtp", "n")[0] if what == OPEN else limits.event("smtp", "n", what)
        return bool(result(limits.in_all("smtp", "n", what, count, self.limit)) <= self.limit)


@pytest.mark.parametrize("order", ["000000001111", "111000000000", "010101010101", "000222111222000", "012012012012"])
@pytest.mark.parametrize("what", [MESSAGES, OPEN])
def test_the_limit_is_exact_whoever_is_come_to(order: str, what: str) -> None:
    processes = Processes(3, 6)
    assert [processes.come(int(to), what) for to in order] == [True] * 6 + [False] * (len(order) - 6)
    processes.clock.advance(61)
    assert what == OPEN or processes.come(0)


def test_nobody_is_asked_about_clients_far_from_a_limit() -> None:
    processes = Processes(2, 1000)
    for _ in range(60):
        assert all(processes.come(to) for to in (0, 1, 0, 1, 0, 1, 0, 1))
        processes.clock.advance(30)
    assert processes.asked == 0


def test_clients_that_others_have_asked_about_are_forgotten() -> None:
    clock = Clock()
    limits = ClientLimits(clock.seconds)
    for number in range(1500):
        limits.counted("smtp", f"n{number}", MESSAGES)
    clock.advance(61)
    for number in range(1500):
        limits.counted("smtp", f"m{number}", MESSAGES)
    assert len(limits) <= 2000


def test_what_others_are_told() -> None:
    clock = Clock()
    limits = ClientLimits(clock.seconds)
    limits.connect("smtp", "n")
    limits.event("smtp", "n", MESSAGES)
    assert [limits.counted("smtp", "n", what) for what in (OPEN, CONNECTIONS, MESSAGES)] == [1, 1, 1]
    assert limits.counted("smtp", "other", OPEN) == limits.counted("submission", "n", OPEN) == 0
    clock.advance(61)
    assert [limits.counted("smtp", "n", what) for what in (OPEN, CONNECTIONS)] == [1, 0]


class Rig(PlainRig):
    def __init__(self, all_: int, **settings: str) -> None:
        self.others = Others(all_)
        super().__init__(**settings)

    def service(self, **options: Any) -> Any:
        self.limits = ClientLimits(self.clock.seconds, processes=4, together=self.others)
        return super().service(**options)


def test_messages() -> None:
    client = Rig(5, smtpd_client_message_rate_limit="4").connect()
    client.say("EHLO x")
    assert client.say("MAIL FROM:<a@b.test>") == ["250 2.1.0 Ok"]
    assert client.say("RSET", "MAIL FROM:<a@b.test>")[1] == "450 4.7.1 Error: too much mail from 192.0.2.7"


def test_connections() -> None:
    rig = Rig(5, smtpd_client_connection_count_limit="4")
    rig.connect()
    refused = rig.connect(greet=False).got()
    assert refused == "421 4.7.0 gw.test Error: too many connections from 192.0.2.7\n"
    assert any("Connection concurrency limit exceeded: 5 from unknown[192.0.2.7]" in line for line in rig.lines)


def test_without_a_limit_nobody_is_asked() -> None:
    rig = Rig(99, smtpd_client_connection_count_limit="0")
    client = rig.connect()
    client.say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>")
    assert rig.others.asked == 0


def test_only_named_clients_may_ask_for_verp() -> None:
    rig = Rig(0, smtpd_authorized_verp_clients="192.0.2.8")
    assert "XVERP" not in rig.connect().say("EHLO x")[0]
    client = rig.connect("192.0.2.8")
    assert "250-XVERP" in client.say("EHLO x")[0]
    client.say("MAIL FROM:<a@b.test> XVERP=-=", "RCPT TO:<joe@gw.test>", "DATA")
    client.send("x\r\n.\r\n")
    assert rig.cleanup.stored[0].envelope.verp == "-="
