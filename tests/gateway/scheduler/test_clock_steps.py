"""The scheduler while somebody sets the system's clock."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from spool.envelope import Envelope, Recipient
from tests.gateway.scheduler import test_scheduler


class SystemClock(Clock):
    """A steady clock beside a time of day that somebody may set."""

    set_by = 0.0

    def time_of_day(self):
        return self.seconds() + self.set_by


@pytest.fixture
def make_world(monkeypatch):
    monkeypatch.setattr(test_scheduler, "Clock", SystemClock)

    def make():
        world = test_scheduler.World()
        world.scheduler.start()
        return world

    return make


def send(world, recipient):
    """A message that arrives by the time of day."""
    envelope = Envelope("joe@here", [Recipient(recipient)], arrival=world.clock.time_of_day())
    draft = world.spool.draft(envelope)
    draft.write(b"Subject: x\n\nx\n")
    Deferred.fromCoroutine(draft.commit())
    world.scheduler.announce(draft.id, envelope)
    return draft.id


DAY = 86400.0


def test_a_leap_forward_is_no_part_of_a_messages_age(make_world):
    world = make_world()
    queue_id = world.send("ann@there")
    world.clock.advance(2)
    world.clock.set_by = 10 * DAY
    world.smtp.answer("deferred", "4.4.1", "timed out")
    assert world.notices.sent == []
    assert "the clock was set 864000 seconds forward" in world.log.text
    world.clock.advance(301)
    assert world.smtp.answer().addresses == ["ann@there"]  # by the short pause of a young message
    assert f"{queue_id}: to=<ann@there>, relay=host, delay=303, delays=303/0/0/0, dsn=2.0.0" in world.log.text
    young = send(world, "bob@there")
    world.clock.advance(5100)
    world.smtp.answer("deferred", "4.4.1", "timed out")
    assert world.notices.sent == [("bounce", young, [0])]  # what came afterwards ages as ever


def test_deferred_mail_is_tried_at_once_after_a_leap_back(make_world):
    world = make_world()
    world.send("ann@there")
    world.smtp.answer("deferred", "4.4.1", "timed out")
    world.clock.set_by = -3600.0
    world.clock.advance(10)
    world.smtp.answer("deferred", "4.4.1", "timed out")
    assert "the clock was set 3600 seconds back: all deferred mail is tried now" in world.log.text
    assert world.notices.sent == []
    world.clock.advance(301)
    world.smtp.answer()
    assert world.queue() == {}


def test_a_clock_that_was_wrong_for_a_while(make_world):
    world = make_world()
    queue_id = world.send("ann@there")
    for set_by in (10 * DAY, 0.0):
        world.clock.set_by = set_by
        world.clock.advance(10)
    world.clock.advance(5100)
    world.smtp.answer("deferred", "4.4.1", "timed out")
    assert world.notices.sent == [("bounce", queue_id, [0])]


def test_a_small_correction_is_none(make_world):
    world = make_world()
    world.send("ann@there")
    world.clock.set_by = 30.0
    world.clock.advance(10)
    assert "the clock was set" not in world.log.text
