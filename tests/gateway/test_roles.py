"""How processes share a port; what roles do is tested in tests/system."""

from twisted.internet.task import Clock

from gateway.roles import GIVE_WAY, Politeness


class Port:
    connected = True
    numberAccepts = 100

    def __init__(self):
        self.accepted, self.reading = 0, True

    def doRead(self):
        self.accepted += self.numberAccepts

    def stopReading(self):
        self.reading = False

    def startReading(self):
        self.reading = True


def test_a_process_with_room_takes_some_at_once():
    port = Port()
    Politeness(Clock(), port, lambda: False).accept()
    assert (port.accepted, port.reading) == (8, True)


def test_a_process_that_is_full_lets_others_go_first_each_time():
    clock, port = Clock(), Port()
    polite = Politeness(clock, port, lambda: True)
    for taken in (8, 16):
        polite.accept()
        assert not port.reading
        clock.advance(GIVE_WAY)
        assert port.reading
        polite.accept()  # still there: nobody else wants them
        assert port.accepted == taken


def test_a_port_that_was_closed_meanwhile_stays_so():
    clock, port = Clock(), Port()
    Politeness(clock, port, lambda: True).accept()
    port.connected = False
    clock.advance(GIVE_WAY)
    assert not port.reading
