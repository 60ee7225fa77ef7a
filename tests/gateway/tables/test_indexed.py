"""hash: and its kin, straight from the text file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.interfaces import TableError
from gateway.tables.indexed import INDEXED_TYPES
from tests.gateway.tables.support import Bench, now


@pytest.mark.parametrize("type", sorted(INDEXED_TYPES | {"texthash"}))
def test_all_read_the_text_file(tmp_path: Path, type: str) -> None:
    (tmp_path / "map").write_text("Key  a value\n")
    bench = Bench(tmp_path)
    assert bench.ask(f"{type}:{tmp_path}/map", "KEY") == "a value"
    assert bench.ask(f"{type}:map", "key") == "a value"
    assert bench.ask(f"{type}:map", "other") is None


def test_an_index_that_is_older_than_the_text_has_no_say(tmp_path: Path) -> None:
    (tmp_path / "map.db").write_bytes(b"an old index")
    (tmp_path / "map").write_text("key new\n")
    assert Bench(tmp_path).ask("hash:map", "key") == "new"


def test_whose_file_it_is(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("/key/ value\n")
    bench = Bench(tmp_path)
    for spec in ("hash:map", "regexp:map", "unionmap:{static:x, hash:map}"):
        assert bench.open(spec).owner() == (tmp_path / "map").stat().st_uid == os.geteuid()
    if os.geteuid() == 0:
        os.chown(tmp_path / "map", 12345, -1)
        assert [bench.open(spec).owner() for spec in ("hash:map", "regexp:map", "debug:hash:map")] == [12345] * 3
    assert bench.open("hash:nowhere").owner() == bench.open("inline:{a=b}").owner() == 0


def test_a_changed_file_is_taken_up_and_its_mistakes_are_logged(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("key one\n")
    bench = Bench(tmp_path)
    assert bench.ask("hash:map", "key") == "one"
    path.write_text("key two\nnovalue\n")
    os.utime(path, (1, 1))
    bench.clock.advance(1)
    assert bench.ask("hash:map", "key") == "two"
    assert bench.log.text == f"postmap: warning: {path}, line 2: expected format: key whitespace value"


def test_findings_name_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a 1\na 2\n")
    bench = Bench(tmp_path)
    bench.ask("hash:map", "a")
    assert bench.findings == [f'{tmp_path}/map, line 2: duplicate entry: "a"']


def test_a_missing_file_defers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(TableError, match="hash:map is unavailable"):
        bench.ask("hash:map", "a")
    assert len(bench.findings) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"alias_maps": "hash:FILE"},
        {"alias_maps": "nis:mail.aliases, proxy:btree:aliases"},
        {"alias_database": "FILE"},
    ],
)
def test_files_of_alias_maps_are_in_the_format_of_aliases(tmp_path: Path, values: dict[str, str]) -> None:
    path = tmp_path / "aliases"
    path.write_text('Root: jane, "|a  b"\n')
    bench = Bench(tmp_path, **{name: value.replace("FILE", str(path)) for name, value in values.items()})
    assert bench.ask(f"hash:{path}", "root") == 'jane, "|a  b"'


def test_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("root: jane\n")
    bench = Bench(tmp_path, alias_maps="texthash:aliases")
    assert bench.ask("texthash:aliases", "root:") == "jane"
    assert bench.ask("hash:aliases", "root") is None


def test_source_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("# c\nother 1\nKey 2\n")
    table = Bench(tmp_path).tables.open("hash:map", Bench(tmp_path).settings)
    assert table.source("KEY") == f"{tmp_path}/map:3"
    assert table.source("nokey") is None


def test_the_same_spec_is_the_same_table(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a 1\n")
    bench = Bench(tmp_path)
    table = bench.tables.open("hash:map", bench.settings)
    assert bench.tables.open("hash:map", bench.settings.with_overrides({"myhostname": "x.y"})) is table
    assert bench.tables.open("proxy:hash:map", bench.settings) is table
    other = bench.tables.open("hash:map", bench.settings.with_overrides({"alias_maps": "hash:map"}))
    assert other is not table
    assert now(table.lookup("a")) == "1"
