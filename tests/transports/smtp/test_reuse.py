"""Open sessions are used again when there is more to send, and never believed more than new ones."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from gateway.interfaces import BOUNCED, DEFERRED, SENT
from tests.transports.smtp.world import CLOSE, Host, World


def world_with_host(**values: Any) -> tuple[World, Host]:
    world = World(**values)
    world.names.hosts["x.test"] = ["192.0.2.1"]
    return world, world.host("192.0.2.1")


def verbs(host: Host) -> list[str]:
    return [command.split()[0] for command in host.commands]


def test_a_single_message_leaves_no_open_session() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.net.settle()
    assert verbs(host) == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert not world.net.getDelayedCalls()


def test_messages_one_after_the_other_share_a_session() -> None:
    world, host = world_with_host()
    results = [world.send("x.test")[0] for _ in range(4)]
    assert len(host.sessions) == 2
    assert [each.conn_use for each in results] == [1, 1, 2, 3]
    assert verbs(host)[-9:] == ["MAIL", "RCPT", "DATA"] * 3
    world.net.advance(2.1)
    world.net.settle()
    assert verbs(host)[-1] == "QUIT" and host.sessions[1].closed
    assert not world.net.getDelayedCalls()


def test_messages_side_by_side_share_sessions() -> None:
    world, host = world_with_host()

    async def many() -> list[Any]:
        first = [Deferred.fromCoroutine(world.transport.deliver(world.request("x.test", "a@x"))) for _ in range(3)]
        await gatherResults(first)
        again = [Deferred.fromCoroutine(world.transport.deliver(world.request("x.test", "a@x"))) for _ in range(3)]
        return await gatherResults(again)

    for (result,) in world.net.run(many()):
        assert result.status == SENT and result.conn_use == 2
    assert len(host.sessions) == 3


def test_limits_of_reuse() -> None:
    for values, sessions in (
        ({"smtp_connection_cache_on_demand": "no"}, 4), ({"smtp_connection_reuse_count_limit": "1"}, 4),
        ({"smtp_connection_cache_time_limit": "0"}, 4),
        ({"smtp_connection_cache_on_demand": "no", "smtp_connection_cache_destinations": "x.test"}, 1),
    ):
        world, host = world_with_host(**values)
        for _ in range(4):
            world.send("x.test")
        assert len(host.sessions) == sessions, values


def test_reuse_time_limit() -> None:
    world, host = world_with_host(smtp_connection_reuse_time_limit="3s")
    for _ in range(8):
        world.send("x.test")
        world.net.advance(1)
    assert len(host.sessions) > 2


def test_a_session_that_died_meanwhile_costs_nothing() -> None:
    for answer in (CLOSE, "421 4.4.2 too long idle"):
        world, host = world_with_host()
        world.send("x.test")
        world.send("x.test")
        host.replies["MAIL"] = [answer, "250 ok"]
        (result,) = world.send("x.test")
        assert (result.status, result.conn_use) == (SENT, 1)
        assert len(host.sessions) == 3


def test_a_session_that_is_closed_while_idle_is_forgotten() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.send("x.test")
    host.sessions[1].close()
    world.net.settle()
    assert world.send("x.test")[0].status == SENT
    assert len(host.sessions) == 3


def test_words_that_come_while_idle_end_the_session() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.send("x.test")
    world.net.wires[1].send(b"250 2.0.0 Ok\r\n", 0)
    world.net.settle()
    assert not world.net.wires[1].connected
    host.replies["MAIL"] = "451 no"
    assert world.send("x.test")[0].status == DEFERRED


def test_lost_after_the_message_in_a_used_session_is_not_sent_again() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.send("x.test")
    host.replies["EOM"] = CLOSE
    (result,) = world.send("x.test")
    assert result.status == DEFERRED and "may be sent more than once" in result.reason
    assert len(host.messages) == 3


def test_a_word_in_a_used_session_is_heard_once() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.send("x.test")
    host.replies["RCPT"] = "450 4.2.0 greylisted"
    (result,) = world.send("x.test")
    assert (result.status, result.relay) == (DEFERRED, "x.test[192.0.2.1]:25")
    assert len(host.sessions) == 2
    host.replies["RCPT"] = "250 ok"
    assert world.send("x.test")[0].conn_use == 3
    assert verbs(host)[-5:] == ["DATA", "RSET", "MAIL", "RCPT", "DATA"]


def test_a_session_waits_with_nothing_left_open() -> None:
    """What the server refused is over for it at once, not only when the next message comes."""
    for ehlo in ("250-mx\n250 PIPELINING", "250 mx"):
        world, host = world_with_host()
        host.replies["EHLO"] = ehlo
        world.send("x.test")
        host.replies |= {"RCPT": "550 5.1.1 unknown", "DATA": "554 5.5.1 nobody"}
        (result,) = world.send("x.test")
        assert (result.status, result.dsn) == (BOUNCED, "5.1.1")
        world.net.settle()
        assert verbs(host)[-1] == "RSET" and not host.sessions[-1].closed
        host.replies |= {"RCPT": "250 ok", "DATA": "354 go"}
        assert world.send("x.test")[0].conn_use == 2
        assert verbs(host)[-4:] == ["RSET", "MAIL", "RCPT", "DATA"]
        host.replies |= {"RCPT": "550 5.1.1 unknown", "DATA": "554 5.5.1 nobody", "RSET": "500 what"}
        (result,) = world.send("x.test")
        assert (result.status, result.dsn) == (BOUNCED, "5.1.1")
        world.net.settle()
        assert host.sessions[-1].closed, "nobody knows what it holds"


def test_the_clean_up_is_not_mistaken_for_an_answer() -> None:
    world, host = world_with_host()
    host.replies["EHLO"] = "250 mx"
    world.send("x.test")
    host.replies["MAIL"] = ["550 5.1.8 no", "250 ok"]
    assert world.send("x.test")[0].dsn == "5.1.8"
    assert world.send("x.test")[0].status == SENT
    assert len(host.sessions) == 2


def test_a_backup_host_is_not_reused_for_the_next_hop() -> None:
    world = World()
    world.names.mxs["x.test"] = [(10, "a.test"), (20, "b.test")]
    world.names.hosts |= {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"]}
    second = world.host("192.0.2.2")
    for _ in range(3):
        world.send("x.test")
    assert len(second.sessions) == 2, "by address it is"
    first = world.host("192.0.2.1")
    assert world.send("x.test")[0].relay == "a.test[192.0.2.1]:25"
    assert len(first.sessions) == 1


def test_a_host_has_the_name_by_which_it_was_found() -> None:
    world, host = world_with_host()
    world.names.hosts["y.test"] = ["192.0.2.1"]
    relays = [world.send(domain)[0].relay for domain in ("x.test", "x.test", "y.test")]
    assert relays == [f"{name}.test[192.0.2.1]:25" for name in "xxy"]
    assert len(host.sessions) == 2


def test_stop_ends_what_is_idle() -> None:
    world, host = world_with_host()
    world.send("x.test")
    world.send("x.test")
    world.net.run(world.transport.stop())
    world.net.settle()
    assert host.sessions[1].closed and not world.net.getDelayedCalls()


def test_the_answer_to_quit_is_awaited_if_wanted() -> None:
    world, host = world_with_host(smtp_skip_quit_response="no")
    host.replies["QUIT"] = "SILENCE"
    world.send("x.test")
    world.net.settle()
    assert verbs(host)[-1] == "QUIT" and world.net.getDelayedCalls()
    world.net.advance(301)
    world.net.settle()
    assert not world.net.getDelayedCalls()
