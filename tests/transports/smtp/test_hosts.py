"""Which hosts are tried, in which order, and what is the last word."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import deferLater

from gateway.config import ConfigError
from gateway.interfaces import BOUNCED, DEFERRED, SENT, DNSError
from tests.transports.smtp.world import CLOSE, World, not_found
from transports.smtp.hosts import AT_ONCE
from transports.smtp.nexthop import NextHop, parse


def order_world(**values: Any) -> World:
    world = World(**values)
    world.names.mxs["order.test"] = [(10, "a.test"), (20, "b.test"), (30, "c.test")]
    for number, name in enumerate(("a.test", "b.test", "c.test"), 1):
        world.names.hosts[name] = [f"192.0.2.{number}"]
    return world


def test_the_best_host_that_answers() -> None:
    world = order_world()
    world.host("192.0.2.2")
    world.host("192.0.2.3")
    (result,) = world.send("order.test")
    assert (result.status, result.relay) == (SENT, "b.test[192.0.2.2]:25")
    assert world.net.asked == [("192.0.2.1", 25), ("192.0.2.2", 25)]
    assert "smtp: connect to a.test[192.0.2.1]:25: Connection refused" in world.log.text


def test_a_domain_with_many_hosts_does_not_ask_for_all_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = order_world()
    world.names.mxs["order.test"] = [(10, f"{number}.test") for number in range(100)]
    asking, most = 0, 0

    async def slow(host: str) -> list[str]:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await deferLater(world.net, 1)
        asking -= 1
        raise not_found(host)

    monkeypatch.setattr(world.names, "addresses", slow)
    (result,) = world.send("order.test")
    assert (result.dsn, most) == ("5.4.4", AT_ONCE)


@pytest.mark.parametrize("banner", ["421 4.3.2 busy", CLOSE, "554 5.3.2 out of service", "nonsense"])
def test_the_next_host_after_a_bad_greeting(banner: str) -> None:
    world = order_world()
    world.host("192.0.2.1", CONNECT=banner)
    world.host("192.0.2.2", CONNECT=banner)
    world.host("192.0.2.3")
    assert world.send("order.test")[0].relay == "c.test[192.0.2.3]:25"


def test_a_5xx_greeting_is_final_if_wanted() -> None:
    world = order_world(smtp_skip_5xx_greeting="no")
    world.host("192.0.2.1", CONNECT="554 5.3.2 out of service")
    world.host("192.0.2.2")
    (result,) = world.send("order.test")
    assert (result.status, result.dsn) == (BOUNCED, "5.3.2")


def test_put_off_goes_to_the_next_host_and_refused_is_final() -> None:
    world = order_world()
    world.host("192.0.2.1").on("RCPT", "late@", "450 4.2.0 later").on("RCPT", "never@", "550 5.1.1 never")
    second = world.host("192.0.2.2")
    late, never, now = world.send("order.test", "late@x", "never@x", "now@x")
    assert (late.status, late.relay) == (SENT, "b.test[192.0.2.2]:25")
    assert (never.status, never.relay) == (BOUNCED, "a.test[192.0.2.1]:25")
    assert (now.status, now.relay) == (SENT, "a.test[192.0.2.1]:25")
    assert [command for command in second.commands if command.startswith("RCPT")] == [
        "RCPT TO:<late@x> ORCPT=rfc822;late@x"
    ]
    assert "smtp: QID: host a.test[192.0.2.1] said: 450 4.2.0 later (in reply to RCPT TO command)" in world.log.text


def test_limits_of_addresses_and_sessions() -> None:
    world = order_world(smtp_mx_address_limit="2", smtp_fallback_relay="[f.test]")
    world.names.hosts["f.test"] = ["192.0.2.9"]
    world.host("192.0.2.3")
    world.host("192.0.2.9")
    assert world.send("order.test")[0].relay == "f.test[192.0.2.9]:25"
    world = order_world(smtp_mx_session_limit="2")
    for number in (1, 2, 3):
        world.host(f"192.0.2.{number}", MAIL=f"450 no {number}")
    (result,) = world.send("order.test")
    assert "450 no 2" in result.reason and result.relay == "b.test[192.0.2.2]:25"
    assert len(world.net.asked) == 2


def test_after_all_hosts_the_last_failure_counts() -> None:
    world = order_world()
    world.host("192.0.2.1", RCPT="450 4.2.0 later")
    (result,) = world.send("order.test")
    assert (result.status, result.relay) == (DEFERRED, "none")
    assert result.reason == "connect to c.test[192.0.2.3]:25: Connection refused"


def test_what_names_can_do() -> None:
    world = World()
    world.names.mxs |= {
        "null.test": [(0, "")], "again.test": not_found("again.test", "MX", "Host not found, try again", True),
        "lost.test": [(10, "nowhere.test")], "half.test": [(10, "nowhere.test"), (20, "mx.test")],
        "broken.test": [(10, "broken-mx.test"), (20, "nowhere.test")], "gone.test": not_found("gone.test", "MX"),
    }
    world.names.hosts |= {
        "mx.test": ["192.0.2.1"], "plain.test": ["192.0.2.1"],
        "broken-mx.test": not_found("broken-mx.test", "A", "Host not found, try again", True),
    }
    world.host("192.0.2.1")
    expected = {
        "null.test": (BOUNCED, "5.1.0", "Domain null.test does not accept mail (nullMX)"),
        "again.test": (DEFERRED, "4.4.3", str(world.names.mxs["again.test"])),
        "lost.test": (BOUNCED, "5.4.4", str(not_found("nowhere.test"))),
        "broken.test": (DEFERRED, "4.4.3", str(world.names.hosts["broken-mx.test"])),
        "gone.test": (BOUNCED, "5.4.4", str(not_found("gone.test"))),
        "half.test": (SENT, "2.0.0", "250 2.0.0 Ok"),
        "plain.test": (SENT, "2.0.0", "250 2.0.0 Ok"),
    }
    for domain, words in expected.items():
        (result,) = world.send(domain)
        assert (result.status, result.dsn, result.reason) == words
        assert result.relay.endswith(":25") if result.status == SENT else result.relay == "none"
    warned = "smtp: warning: no MX host for {} has a valid address record"
    assert [domain for domain in expected if warned.format(domain) in world.log.text] == ["lost.test", "broken.test"]


def test_ignore_mx_lookup_error() -> None:
    world = World(ignore_mx_lookup_error="yes")
    world.names.mxs["x.test"] = not_found("x.test", "MX", "Host not found, try again", True)
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1")
    assert world.send("x.test")[0].status == SENT


def test_defer_if_no_mx_address_found() -> None:
    world = World(smtp_defer_if_no_mx_address_found="yes")
    world.names.mxs["lost.test"] = [(10, "nowhere.test")]
    assert world.send("lost.test")[0].dsn == "4.4.4"


def test_backup_mx_goes_to_better_hosts_only() -> None:
    world = World(own=("192.0.2.2",), smtp_fallback_relay="[f.test]")
    world.names.mxs["order.test"] = [(10, "a.test"), (20, "b.test"), (30, "c.test")]
    for number, name in enumerate(("a.test", "b.test", "c.test"), 1):
        world.names.hosts[name] = [f"192.0.2.{number}"]
    world.host("192.0.2.3")
    (result,) = world.send("order.test")
    assert (result.dsn, result.reason) == ("4.4.1", "connect to a.test[192.0.2.1]:25: Connection refused")


def test_mail_that_loops_back() -> None:
    world = World(own=("192.0.2.1",))
    world.names.mxs["mine.test"] = [(10, "a.test"), (20, "b.test")]
    world.names.hosts |= {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"], "alone.test": ["192.0.2.1"]}
    for domain in ("mine.test", "alone.test", "[alone.test]"):
        (result,) = world.send(domain)
        assert (result.status, result.dsn) == (BOUNCED, "5.4.6")
        assert result.reason == f"mail for {domain.strip('[]')} loops back to myself"
    world.host("192.0.2.1", 10025)
    assert world.send("[alone.test]:10025")[0].status == SENT


def test_no_host_that_is_better_has_an_address() -> None:
    world = World(own=("192.0.2.2",))
    world.names.mxs["x.test"] = [(10, "nowhere.test"), (20, "b.test")]
    world.names.hosts["b.test"] = ["192.0.2.2"]
    (result,) = world.send("x.test")
    assert (result.dsn, result.reason) == ("4.4.4", "unable to find primary relay for x.test")


def test_a_host_that_has_our_name() -> None:
    world = World()
    world.names.hosts["x.test"] = ["192.0.2.1"]
    world.host("192.0.2.1", CONNECT="220 GW.test ESMTP", EHLO="250 gw.test")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn, result.reason) == (BOUNCED, "5.4.6", "mail for x.test loops back to myself")
    assert "warning: host x.test[192.0.2.1]:25 greeted me with my own hostname gw.test" in world.log.text


@pytest.mark.parametrize(("settings", "culprit"), [({"relayhost": "[r.test]"}, "relayhost"), ({}, "")])
def test_a_wrong_relayhost_returns_no_mail(settings: dict[str, Any], culprit: str) -> None:
    world = World(**settings)
    (result,) = world.send("[r.test]")
    assert (result.status, result.dsn) == ((DEFERRED, "4.3.5") if culprit else (BOUNCED, "5.4.4"))
    assert ("warning: relayhost configuration problem" in world.log.text) is bool(culprit)


def test_a_wrong_fallback_relay_returns_no_mail() -> None:
    world = World(smtp_fallback_relay="[f.test]")
    (result,) = world.send("x.test")
    assert (result.status, result.dsn) == (DEFERRED, "4.3.5")


def test_several_destinations() -> None:
    world = World()
    world.names.hosts |= {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"]}
    world.host("192.0.2.2", 2525)
    assert world.send("[a.test]:2525, [b.test]:2525")[0].relay == "b.test[192.0.2.2]:2525"
    assert world.send("")[0].dsn == "4.3.5"
    assert world.send("[a.test]:nosuchport")[0].dsn == "4.3.5"


def test_order_of_address_families_and_bind_address() -> None:
    world = World(smtp_address_preference="ipv6", smtp_bind_address="192.0.2.99")
    world.names.hosts["x.test"] = ["192.0.2.1", "2001:db8::1"]
    world.send("[x.test]")
    assert world.net.asked == [("2001:db8::1", 25), ("192.0.2.1", 25)]
    assert world.net.bound == [None, ("192.0.2.99", 0)]
    world = World(smtp_mx_address_limit="2")
    world.names.hosts["x.test"] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]
    world.send("[x.test]")
    assert ("2001:db8::1", 25) in world.net.asked and len(world.net.asked) == 2


def test_a_look_up_that_a_table_has_stopped() -> None:
    world = World()
    world.names.mxs["x.test"] = DNSError("Error looking up name=x.test type=MX: why", temporary=True, dsn="4.7.0")
    (result,) = world.send("x.test")
    assert (result.dsn, result.reason) == ("4.7.0", "Error looking up name=x.test type=MX: why")


def test_an_own_address_that_cannot_be_had() -> None:
    for enforced, status, asked in (("no", SENT, 1), ("yes", DEFERRED, 0)):
        world = World(smtp_bind_address="192.0.2.99", smtp_bind_address_enforce=enforced)
        world.host("192.0.2.1")
        world.net.cannot_bind.add("192.0.2.99")
        (result,) = world.send("[192.0.2.1]")
        assert result.status == status and len(world.net.asked) == asked
        assert "warning: smtp_connect_addr: bind 192.0.2.99: Cannot assign requested address" in world.log.text
    assert (result.dsn, result.reason, result.relay) == ("4.4.0", "server configuration error", "none")
    for value in ("mx.test", "2001:db8::1"):
        with pytest.raises(ConfigError, match="is no IPv4 address"):
            World(smtp_bind_address=value)


def test_equal_hosts_are_shuffled() -> None:
    firsts = set()
    for _ in range(60):
        world = World(smtp_randomize_addresses="yes")
        world.names.mxs["x.test"] = [(10, "a.test"), (10, "b.test"), (20, "c.test")]
        world.names.hosts |= {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"], "c.test": ["192.0.2.3"]}
        world.send("x.test")
        firsts.add(world.net.asked[0][0])
        assert world.net.asked[2] == ("192.0.2.3", 25)
    assert firsts == {"192.0.2.1", "192.0.2.2"}


PORTS = {"smtp": 25, "other": 2626}


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("x.test:other", NextHop("x.test", 2626, True)),
        ("x.test", NextHop("x.test", 25, True)), ("x.test:26", NextHop("x.test", 26, True)),
        ("[x.test]", NextHop("x.test", 25)), ("[x.test]:smtp", NextHop("x.test", 25)),
        ("[192.0.2.1]:26", NextHop("192.0.2.1", 26)), ("[ipv6:::1]:26", NextHop("::1", 26)),
        ("192.0.2.1", NextHop("192.0.2.1", 25)), ("2001:db8::1", NextHop("2001:db8::1", 25)),
    ],
)
def test_next_hops(text: str, hop: NextHop) -> None:
    assert parse(text, PORTS, default_port=25) == hop


def test_lmtp_next_hops() -> None:
    assert parse("unix:/run/x", PORTS, default_port=24, lmtp=True) == NextHop("", 0, path="/run/x")
    assert parse("inet:h:26", PORTS, default_port=24, lmtp=True) == NextHop("h", 26)
    assert parse("h", PORTS, default_port=24, lmtp=True) == NextHop("h", 24)


def test_local_sockets_lie_in_the_queue_directory() -> None:
    world = World(lmtp=True, queue_directory="/spool")
    (result,) = world.send("unix:private/lmtp")
    assert world.net.asked == ["/spool/private/lmtp"]
    assert result.reason == "connect to gw.test[private/lmtp]: Connection refused"


@pytest.mark.parametrize("text", ["[x", "[x]y", "[]", ":25", "x:99999", "x:0"])
def test_bad_next_hops(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text, PORTS, default_port=25)
