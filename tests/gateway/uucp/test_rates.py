"""How much a UUCP neighbour may hand in."""

from twisted.internet.task import Clock

from gateway.config import Settings
from gateway.log import MemoryLog
from gateway.uucp.rates import Rates


def rates(**parameters):
    clock, log = Clock(), MemoryLog()
    return Rates(Settings(parameters), log, clock.seconds), clock, log


def test_messages_and_bytes_of_each_neighbour():
    made, clock, log = rates(uucp_client_message_rate_limit="3", uucp_client_byte_rate_limit="1000")
    assert made.refusal("alpha") == ""
    made.count("alpha", 2, 100)
    assert made.refusal("alpha") == ""
    made.count("alpha", 90, 100)  # a batch that was begun is taken whole
    assert made.refusal("alpha") == "alpha has sent 3 messages within 60 seconds, as many as it may"
    assert made.refusal("beta") == ""
    made.count("beta", 1, 1000)
    assert made.refusal("beta") == "beta has sent 1000 bytes within 60 seconds, as many as it may"
    assert [made.refusal("alpha") for _ in range(9)] and len(log.lines) == 2
    clock.advance(60)
    assert made.refusal("alpha") == made.refusal("beta") == ""


def test_without_limits_nobody_is_counted():
    made, _, _ = rates()
    made.count("alpha", 1_000_000, 10**12)
    assert made.refusal("alpha") == "" and len(made._counts) == 0
