"""Statistics of what clients do."""

from __future__ import annotations

import time

from twisted.internet.task import Clock

from gateway.log import MemoryLog
from gateway.smtpd.limits import MESSAGES, ClientLimits
from gateway.smtpd.peaks import Peaks


def test_the_highest_numbers_of_a_while():
    clock, log = Clock(), MemoryLog()
    peaks = Peaks(clock, 600, 60, log)
    limits = ClientLimits(clock.seconds, peaks=peaks)
    assert not clock.getDelayedCalls()
    for _ in range(2):
        limits.connect("smtp", "192.0.2.1")
    limits.disconnect("smtp", "192.0.2.1")
    clock.advance(10)
    limits.connect("smtp", "192.0.2.2")
    limits.event("smtp", "192.0.2.2", MESSAGES)
    clock.advance(589)
    assert log.lines == []
    clock.advance(1)
    first, second = time.ctime(0)[4:19], time.ctime(10)[4:19]
    assert log.lines == [
        ("anvil", f"statistics: max connection rate 2/60s for (smtp:192.0.2.1) at {first}"),
        ("anvil", f"statistics: max connection count 2 for (smtp:192.0.2.1) at {first}"),
        ("anvil", f"statistics: max message rate 1/60s for (smtp:192.0.2.2) at {second}"),
        ("anvil", f"statistics: max cache size 2 at {second}"),
    ]
    assert not clock.getDelayedCalls()
    peaks.report()
    assert len(log.lines) == 4


def test_at_the_end_what_there_is_so_far_is_told():
    clock, log = Clock(), MemoryLog()
    peaks = Peaks(clock, 600, 60, log)
    ClientLimits(clock.seconds, peaks=peaks).connect("smtp", "192.0.2.1")
    peaks.report()
    assert len(log.lines) == 3 and not clock.getDelayedCalls()
