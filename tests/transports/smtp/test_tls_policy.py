"""smtp_tls_security_level and smtp_tls_policy_maps: which policy a next hop has."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from gateway.config import Settings
from gateway.log import MemoryLog
from gateway.tables import Tables
from tests.transports.smtp.world import World
from transports.smtp.tls_policy import Level, Policies, PolicyError


def policies(log: MemoryLog | None = None, prefix: str = "smtp_", **values: str) -> Policies:
    log = log or MemoryLog()
    return Policies(Settings(values), prefix, Tables(clock=Clock(), log=log), log, "smtp")


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({}, Level.NONE),
        ({"compatibility_level": "3.11"}, Level.MAY),
        ({"smtp_use_tls": "yes"}, Level.MAY),
        ({"smtp_enforce_tls": "yes"}, Level.VERIFY),
        ({"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"}, Level.ENCRYPT),
        ({"smtp_tls_security_level": "Encrypt", "smtp_use_tls": "no"}, Level.ENCRYPT),
        ({"smtp_tls_security_level": "none", "smtp_enforce_tls": "yes"}, Level.NONE),
    ],
)
def test_the_level_of_main_cf(values: dict[str, str], level: Level) -> None:
    found = policies(**values).standard
    assert found.level is level
    assert (found.wanted, found.required, found.checked) == (level > 0, level > 1, level > 2)


@pytest.mark.parametrize(
    ("key", "nexthop", "found"),
    [
        ("[mx.test]:25", "[mx.test]:25", True), ("[mx.test]:25", "[mx.test]", False), ("[mx.test]", "mx.test", False),
        ("mx.test:25", "mx.test:25", True), ("mx.test", "mx.test:25", False), ("mx.test", "mx.test", True),
        ("MX.test", "mx.TEST", True),
        (".example.com", "a.b.example.com", True), (".b.example.com", "a.b.example.com", True),
        (".example.com", "example.com", False), (".example.com", "[a.example.com]", False),
        (".com", "example.com", True), ("example.com", "a.example.com", False),
        ("/run/socket", "/run/socket", True), (".bücher.test", "a.bücher.test", True),
    ],
)  # fmt: skip
@ensureDeferred
async def test_keys(key: str, nexthop: str, found: bool) -> None:
    ours = policies(smtp_tls_policy_maps=f"inline:{{ {{ {key} = encrypt }} }}")
    policy = await ours.find(nexthop)
    assert (policy.level is Level.ENCRYPT) is found and (policy is ours.standard) is not found


@ensureDeferred
async def test_the_nearest_domain_wins_and_an_entry_is_one_policy() -> None:
    ours = policies(smtp_tls_policy_maps="inline:{ {.b.test = encrypt}, {.test = may}, {x.test = none} }")
    assert (await ours.find("a.b.test")).level is Level.ENCRYPT
    assert (await ours.find("b.test")).level is Level.MAY
    assert (await ours.find("x.test")).level is Level.NONE
    assert await ours.find("a.b.test") is await ours.find("a.b.test")
    assert (await ours.find("a.b.test")).source == "inline:{ {.b.test = encrypt}, {.test = may}, {x.test = none} }" \
        ", key .b.test: encrypt"


async def entry(value: str, log: MemoryLog | None = None, **values: str) -> object:
    ours = policies(log, smtp_tls_policy_maps=f"inline:{{ {{ x.test = {value} }} }}", **values)
    return await ours.find("x.test")


@ensureDeferred
async def test_attributes() -> None:
    policy = await policies(
        smtp_tls_policy_maps="inline:{ { x.test = secure match=a.test:hostname Match=b.test protocols=>=TLSv1.2"
        " ciphers=high exclude=MD5:aDSS servername=c.test connection_reuse=yes tafile=/a tafile=/b } }",
        smtp_tls_secure_cert_match="unused", smtp_tls_exclude_ciphers="unused", smtp_tls_trust_anchor_file="/unused",
    ).find("x.test")  # fmt: skip
    assert (policy.level, policy.match) == (Level.SECURE, ("a.test", "hostname", "b.test"))
    assert policy.versions == {"tlsv1.2", "tlsv1.3"} and policy.servername == "c.test" and policy.reuse
    assert policy.ciphers.endswith(":!MD5:!aDSS:!aNULL") and ":MEDIUM" not in policy.ciphers
    assert policy.anchors == ("/a", "/b")


@ensureDeferred
async def test_what_main_cf_says_besides() -> None:
    values = {
        "smtp_tls_protocols": "TLSv1.2", "smtp_tls_mandatory_protocols": "TLSv1.3", "smtp_tls_exclude_ciphers": "A, B",
        "smtp_tls_mandatory_exclude_ciphers": "C", "smtp_tls_ciphers": "high", "smtp_tls_mandatory_ciphers": "medium",
        "smtp_tls_trust_anchor_file": "/a, /b", "smtp_tls_servername": "hostname",
        "smtp_tls_fingerprint_cert_match": "aa:BB, cc", "smtp_tls_verify_cert_match": "hostname:v.test",
        "smtp_tls_policy_maps": "inline:{ {a=may}, {b=encrypt}, {c=fingerprint}, {d=verify}, {e=secure}, {f=none} }",
    }  # fmt: skip
    ours = policies(**values)
    found = {key: await ours.find(key) for key in "abcdef"}
    assert found["a"].versions == {"tlsv1.2"} and found["a"].ciphers.endswith(":!A:!B")
    assert "MEDIUM" not in found["a"].ciphers
    assert found["b"].versions == {"tlsv1.3"} and found["b"].ciphers.endswith(":!A:!B:!C:!eNULL")
    assert "MEDIUM" in found["b"].ciphers
    assert found["c"].match == ("AABB", "CC") and found["c"].ciphers.endswith(":!C:!aNULL")
    assert found["d"].match == ("hostname", "v.test") and found["e"].match == ("nexthop", "dot-nexthop")
    assert [each.anchors for each in found.values()] == [(), (), (), ("/a", "/b"), ("/a", "/b"), ()]
    assert found["e"].servername == "hostname" and not found["f"].servername


WHERE = 'smtp_tls_policy_maps, next-hop destination "x.test": '


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (",", "invalid empty policy"),
        ("sekure", 'invalid security level "sekure"'),
        ("dane", 'DANE is not supported: invalid security level "dane"'),
        ("dane-only", 'DANE is not supported: invalid security level "dane-only"'),
        ("may bad", "malformed attribute/value pair \"bad\": missing '=' after attribute name"),
        ("may foo=bar", 'invalid attribute name: "foo"'),
        ("may match=x", 'attribute "match" invalid at security level "may"'),
        ("fingerprint tafile=x", 'attribute "tafile" invalid at security level "fingerprint"'),
        ("encrypt ciphers=", 'attribute "ciphers" has empty value'),
        ("secure match=", 'attribute "match" has empty value'),
        ("secure tafile=", 'attribute "tafile" has empty value'),
        ("may ciphers=high ciphers=high", 'attribute "ciphers" is specified multiple times'),
        ("may protocols= protocols=", 'attribute "protocols" is specified multiple times'),
        ("may exclude=a exclude=b", 'attribute "exclude" is specified multiple times'),
        ("may servername=a servername=b", 'attribute "servername" is specified multiple times'),
        ("may servername=a..b", '"servername=a..b" specifies an invalid hostname'),
        ("may connection_reuse=perhaps", 'attribute "connection_reuse" has bad value: "perhaps"'),
        ("may ciphers=best", "invalid cipher grade: best"),
        ("may protocols=TLSv9", 'Invalid TLS protocol list "TLSv9": unknown protocol TLSv9'),
        ("fingerprint match=zz", "malformed fingerprint value: zz"),
    ],
)
@ensureDeferred
async def test_a_mistake_in_an_entry_is_never_taken_for_less(value: str, problem: str) -> None:
    log = MemoryLog()
    with pytest.raises(PolicyError, match="client TLS configuration problem"):
        await entry(value, log)
    assert log.lines == [("smtp", f"warning: {WHERE}{problem}")]


@ensureDeferred
async def test_fingerprints_are_needed() -> None:
    log = MemoryLog()
    with pytest.raises(PolicyError):
        await entry("fingerprint", log)
    problem = "nexthop domain x.test: configured at fingerprint security level, but with no fingerprints to match."
    assert log.lines == [("smtp", f"warning: {problem}")]


@ensureDeferred
async def test_attributes_without_tls_and_tables_that_are_away() -> None:
    log = MemoryLog()
    policy = await entry("none protocols=TLSv1.2", log)
    assert policy.level is Level.NONE  # type: ignore[attr-defined]
    assert log.text == f'smtp: warning: {WHERE}ignoring attribute "protocols=TLSv1.2" with TLS disabled'
    log = MemoryLog()
    with pytest.raises(PolicyError):
        await policies(log, smtp_tls_policy_maps="fail:away").find("x.test")
    assert log.lines[-1] == ("smtp", f"warning: {WHERE}policy table lookup error")


def test_mail_waits_when_no_policy_can_be_had() -> None:
    for value in ("dane", "secure match="):
        world = World(smtp_tls_policy_maps=f"inline:{{ {{ [x.test]:26 = {value} }} }}")
        world.names.hosts["x.test"] = ["192.0.2.1"]
        host = world.host("192.0.2.1", 26)
        (result,) = world.send("[x.test]:26")
        assert (result.status, result.dsn, result.relay) == ("deferred", "4.7.5", "none")
        assert result.reason == "client TLS configuration problem" and not host.sessions
        assert "warning: TLS policy lookup for [x.test]:26/x.test: client TLS configuration problem" in world.log.text


def test_only_what_was_agreed_with_a_next_hop_is_used_again() -> None:
    """One host, two next hops: a policy that checks no names lets them share a session, if it is the same policy."""
    for maps, sessions in (("", 1), ("inline:{ {[y.test] = none} }", 2)):
        world = World(smtp_tls_policy_maps=maps, smtp_connection_cache_destinations="192.0.2.1, x.test, y.test")
        world.names.hosts |= dict.fromkeys(("x.test", "y.test"), ["192.0.2.1"])
        host = world.host("192.0.2.1")
        for nexthop in ("[x.test]", "[y.test]", "[x.test]", "[y.test]"):
            assert world.send(nexthop)[0].status == "sent"
        assert len(host.sessions) == sessions


def test_what_is_told_to_people() -> None:
    table = "inline:{ {x.test = secure match=a.test servername=b.test} }"
    world = World(smtp_tls_security_level="may", smtp_tls_policy_maps=table)
    ask = world.transport.tls_policy
    assert world.net.run(ask("y.test")) == ["TLS level may (smtp_tls_security_level = may)"]
    assert world.net.run(ask("x.test")) == [
        f"TLS level secure ({table}, key x.test: secure match=a.test servername=b.test)",
        "TLS names that the server's certificate may have: a.test",
        "TLS name that the server is asked for: b.test",
    ]
