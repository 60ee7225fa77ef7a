"""Searching several tables, and the keys of partial searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.interfaces import TableError
from gateway.tables.maps import Match
from gateway.tables.search import address_keys, domain_keys
from tests.gateway.tables.support import Bench, now


def test_the_first_table_that_knows_answers() -> None:
    bench = Bench()
    maps = bench.tables.maps(["inline:{a=1}", "inline:{a=2, b=3}"], bench.settings)
    assert now(maps.find("A")) == Match("1", "inline:{a=1}", "a")
    assert now(maps.find("b")) == Match("3", "inline:{a=2, b=3}", "b")
    assert now(maps.find("c")) is None


def test_no_tables_are_false() -> None:
    bench = Bench()
    maps = bench.tables.maps([], bench.settings)
    assert not maps and maps.empty
    assert now(maps.find("a")) is None
    assert bench.tables.maps(["static:x"], bench.settings)


def test_an_empty_key_is_not_asked_for() -> None:
    bench = Bench()
    assert now(bench.tables.maps(["static:x"], bench.settings).find("")) is None


def test_each_table_folds_by_its_own_rule(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("/^(A.*)$/i  <$1>\n")
    bench = Bench(tmp_path)
    maps = bench.tables.maps(["inline:{ab=1}", "regexp:rules"], bench.settings)
    assert now(maps.find("AB")) == Match("1", "inline:{ab=1}", "ab")
    assert now(maps.find("ABc")) == Match("<ABc>", "regexp:rules", "ABc")
    assert now(maps.find("abC")) is None


def test_partial_keys_are_not_for_patterns(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("/example/ pattern\n")
    bench = Bench(tmp_path)
    maps = bench.tables.maps(["regexp:rules", "inline:{.example=x}"], bench.settings)
    match = now(maps.find_first(domain_keys("mx.example", parent=False)))
    assert match == Match("pattern", "regexp:rules", "mx.example")
    match = now(maps.find(".example", partial=True))
    assert match == Match("x", "inline:{.example=x}", ".example")


def test_an_error_ends_the_search_and_is_logged() -> None:
    bench = Bench()
    maps = bench.tables.maps(["inline:{a=1}", "fail:out of order", "static:x"], bench.settings, program="cleanup")
    assert now(maps.find("a"))
    with pytest.raises(TableError):
        now(maps.find("b"))
    assert bench.log.text == (
        'cleanup: warning: fail:out of order: out of order\ncleanup: warning: fail:out of order lookup error for "b"'
    )


def test_an_empty_answer_is_an_error() -> None:
    bench = Bench()
    maps = bench.tables.maps(["inline:{a=}"], bench.settings, title="transport_maps")
    with pytest.raises(TableError):
        now(maps.find("a"))
    assert bench.log.text == (
        "trivial-rewrite: warning: transport_maps lookup of a returns an empty string result\n"
        "trivial-rewrite: warning: transport_maps should return NO RESULT in case of NOT FOUND"
    )


@pytest.mark.parametrize(
    ("name", "parent", "keys"),
    [
        ("a.b.example", True, ["a.b.example", "b.example", "example"]),
        ("a.b.example", False, ["a.b.example", ".b.example", ".example"]),
        ("localhost", True, ["localhost"]),
        (".b.example", False, [".b.example", ".example"]),
        ("a.", False, ["a."]),
    ],
)
def test_domain_keys(name: str, parent: bool, keys: list[str]) -> None:
    found = list(domain_keys(name, parent=parent))
    assert [key for key, _ in found] == keys
    assert [partial for _, partial in found] == [False] + [True] * (len(keys) - 1)


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("192.0.2.7", ["192.0.2.7", "192.0.2", "192.0", "192"]),
        ("2001:db8:a::1", ["2001:db8:a::1", "2001:db8:a:", "2001:db8:a", "2001:db8", "2001"]),
        ("::1", ["::1", ":"]),
    ],
)
def test_address_keys(address: str, keys: list[str]) -> None:
    assert [key for key, _ in address_keys(address)] == keys
