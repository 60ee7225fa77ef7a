"""Timers that do not mind when somebody sets the clock."""

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from gateway.clock import make_steady, time_of_day


class Times:
    wall, steady = 1_000_000.0, 77.0


def steady_reactor():
    reactor, times = EPollReactor(), Times()
    make_steady(reactor, lambda: times.wall, lambda: times.steady)
    return reactor, times


def test_timers_go_by_the_steady_clock():
    reactor, times = steady_reactor()
    rung = []
    reactor.callLater(5, rung.append, "short")
    reactor.callLater(7200, rung.append, "long")
    times.wall -= 3600
    times.steady += 5
    reactor.runUntilCurrent()
    assert rung == ["short"]
    times.wall += 86_400
    reactor.runUntilCurrent()
    assert rung == ["short"]


def test_seconds_begin_as_the_time_of_day_and_run_evenly():
    reactor, times = steady_reactor()
    assert reactor.seconds() == time_of_day(reactor) == 1_000_000.0
    times.wall, times.steady = 5.0, 87.0
    assert (reactor.seconds(), time_of_day(reactor)) == (1_000_010.0, 5.0)
    make_steady(reactor)
    assert reactor.seconds() == 1_000_010.0


def test_a_clock_without_a_time_of_day_is_asked_for_its_seconds():
    clock = Clock()
    clock.advance(12)
    assert time_of_day(clock) == 12.0
