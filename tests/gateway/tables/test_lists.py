"""mydestination, relay_domains, mynetworks and their kin; as match_list of Postfix 3.7 decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.interfaces import TableError
from tests.gateway.tables.support import Bench, now


def bench(tmp_path: Path | None = None, **values: str) -> Bench:
    return Bench(tmp_path, **values)


def test_a_string_list_is_literal() -> None:
    made = bench(mydestination="my.domain, Localhost !other.domain .sub.domain")
    names = made.tables.string_list("mydestination", made.settings)
    asked = ("My.Domain", "localhost", "other.domain", "x.my.domain", "x.sub.domain", "sub.domain", "")
    assert [names.match_now(name) for name in asked] == [True, True] + [False] * 5
    assert [now(names.match(name)) for name in asked] == [True, True] + [False] * 5


@pytest.mark.parametrize(
    ("parent", "matching"),
    [
        ("relay_domains", ["a.example", "x.a.example", "y.b.example"]),
        ("", ["a.example", "x.b.example", "y.b.example"]),
    ],
)
def test_parent_domains(parent: str, matching: list[str]) -> None:
    made = bench(
        relay_domains="a.example !n.b.example .b.example y.b.example", parent_domain_matches_subdomains=parent
    )
    domains = made.tables.domain_list("relay_domains", made.settings)
    asked = ("a.example", "x.a.example", "xa.example", "n.b.example", "x.b.example", "y.b.example", "b.example")
    assert [name for name in asked if domains.match_now(name)] == matching
    assert [name for name in asked if now(domains.match(name))] == matching


def test_the_first_that_matches_decides() -> None:
    made = bench(relay_domains="!x.a.example a.example !a.example !!b.example")
    domains = made.tables.domain_list("relay_domains", made.settings)
    assert domains.match_now("x.a.example") is False
    assert domains.match_now("a.example") is True
    assert domains.match_now("b.example") is True


def test_tables_are_asked_for_parents_too(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("/^a\\.example$/ x\n")
    made = bench(
        tmp_path, relay_domains="lit.example inline:{.b.example=x} regexp:rules !c.example inline:{c.example=x}",
        parent_domain_matches_subdomains="",
    )  # fmt: skip
    domains = made.tables.domain_list("relay_domains", made.settings)
    assert domains.match_now("lit.example") is True
    assert domains.match_now("x.b.example") is None
    asked = ("x.b.example", "a.example", "x.a.example", "c.example", "b.example")
    assert [now(domains.match(name)) for name in asked] == [True, True, False, False, False]


def test_files_hold_more_members(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("# comment\na.example, b.example\n !c.example /more\n".replace("/more", f"{tmp_path}/more"))
    (tmp_path / "more").write_text("d.example\n")
    made = bench(mydestination=f"!{tmp_path}/more {path} c.example")
    names = made.tables.string_list("mydestination", made.settings)
    asked = ("a.example", "b.example", "c.example", "d.example", "e.example")
    assert [names.match_now(name) for name in asked] == [True, True, False, False, False]
    assert [now(names.match(name)) for name in asked] == [True, True, False, False, False]
    new = tmp_path / "new"
    new.write_text("e.example inline:{f.example=x}\n")
    new.replace(path)
    made.clock.advance(1)
    assert names.match_now("e.example") is True
    assert names.match_now("f.example") is None
    assert now(names.match("f.example"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    made = bench(mydestination=f"a.example {tmp_path}/nosuch b.example")
    names = made.tables.string_list("mydestination", made.settings)
    assert names.match_now("a.example") is True
    with pytest.raises(TableError, match="No such file"):
        names.match_now("b.example")
    with pytest.raises(TableError, match="No such file"):
        now(names.match("b.example"))
    assert "No such file" in made.findings[0]


def test_a_file_that_names_itself_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text(str(path))
    made = bench(mydestination=str(path))
    names = made.tables.string_list("mydestination", made.settings)
    with pytest.raises(TableError, match="nested too deeply"):
        now(names.match("a"))


def test_a_failing_table_is_an_error_and_logged() -> None:
    made = bench(relay_domains="a.example fail:away")
    domains = made.tables.domain_list("relay_domains", made.settings)
    assert now(domains.match("a.example"))
    with pytest.raises(TableError):
        now(domains.match("b.example"))
    assert made.log.lines[-1] == ("smtpd", "warning: relay_domains: fail:away: table lookup problem")


def test_empty_lists() -> None:
    made = bench(relay_domains="")
    domains = made.tables.domain_list("relay_domains", made.settings)
    assert not domains and domains.empty
    assert domains.match_now("a") is False


def test_networks(tmp_path: Path) -> None:
    (tmp_path / "cidr").write_text("10.2.0.0/16 x\n")
    made = bench(
        tmp_path,
        mynetworks="!192.0.2.9 192.0.2.0/24, 198.51.100.7 [::1]/128 [2001:db8::]/32 inline:{10.1.1.1=x} cidr:cidr",
    )
    networks = made.tables.address_list("mynetworks", made.settings)
    asked = {
        "192.0.2.1": True, "192.0.2.9": False, "198.51.100.7": True, "::1": True, "2001:db8::7": True,
        "198.51.100.8": None, "unknown": None,
    }  # fmt: skip
    assert {address: networks.match_now(address) for address in asked} == asked
    later = {"10.1.1.1": True, "10.2.3.4": True, "10.3.1.1": False, "192.0.2.9": False, "unknown": False}
    assert {address: now(networks.match(address)) for address in later} == later


def test_networks_may_hold_names() -> None:
    made = bench(mynetworks="!bad.friend.example 192.0.2.0/24 friend.example inline:{table.example=x}")
    networks = made.tables.address_list("mynetworks", made.settings)
    assert networks.match_now("192.0.2.1", "bad.friend.example") is False
    assert networks.match_now("192.0.2.1") is True
    assert networks.match_now("10.0.0.1", "mx.Friend.example") is True
    assert now(networks.match("10.0.0.1", "table.example"))
    assert not now(networks.match("10.0.0.1", "other.example"))


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("1.2.3.4/24", 'non-null host address bits in "1.2.3.4/24", perhaps you should use "1.2.3.0/24" instead'),
        ("1.2.3", 'bad address pattern: "1.2.3"'),
        ("[::1]/129", 'bad mask length in "[::1]/129"'),
        ("host/24", 'bad address pattern: "host/24"'),
    ],
)
def test_a_broken_network_is_an_error_for_whoever_gets_there(pattern: str, what: str) -> None:
    made = bench(mynetworks=f"127.0.0.1 {pattern}")
    networks = made.tables.address_list("mynetworks", made.settings)
    assert networks.match_now("127.0.0.1") is True
    with pytest.raises(TableError, match="mynetworks"):
        networks.match_now("192.0.2.1")
    assert made.findings == [f"mynetworks: {what}: correct the list"]


_name = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


@given(_name, st.lists(st.tuples(st.booleans(), st.sampled_from(["", "."]), _name), max_size=8), st.booleans())
@hypothesis_settings(max_examples=200, deadline=None)
def test_one_look_gives_what_a_walk_gives(name: str, members: list[tuple[bool, str, str]], parent: bool) -> None:
    made = bench(parent_domain_matches_subdomains="relay_domains" if parent else "")
    words = [f"{'!' * negated}{dot}{domain}" for negated, dot, domain in members]
    domains = made.tables.domain_list("relay_domains", made.settings, words=words)
    expected = False
    for negated, dot, domain in members:
        pattern = dot + domain
        below = name.endswith("." + pattern) if parent else bool(dot) and name.endswith(pattern)
        if name == pattern or below:
            expected = not negated
            break
    assert domains.match_now(name) is expected
