"""Indexes: the same answers as the text, never half-written, and readable for Postfix."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.interfaces import TableError
from gateway.tables import indexed
from gateway.tables.index import IndexProblem, index_path, new_index, open_index
from gateway.tables.text import BLOCK, parse_table, read_table
from tests.gateway.tables.support import Bench, now

LINES = st.lists(
    st.one_of(
        st.sampled_from(["", "# comment", "  continued", "a b", "A c", '"x y" z', "bad", "key: value", "k  two  x "]),
        st.text("ab:\"# \té@\\\r", max_size=12),
        st.builds(lambda length: "k" * length + " v", st.integers(505, 515)),
    ),
    max_size=12,
)


def make(path: Path, **options: bool) -> list[tuple[int, str]]:
    with open(path, "rb") as text, new_index(path, size=path.stat().st_size, mode=0o644, **options) as writer:
        writer.add(text)
    return [(line, what) for line, what in writer.problems]


@settings(max_examples=150, deadline=None)
@given(LINES, st.booleans(), st.booleans(), st.integers(1, 40))
def test_text_and_index_say_the_same(lines: list[str], alias: bool, null: bool, block: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.tables.text.BLOCK", block)
        path = Path(folder) / "map"
        path.write_text("\n".join(lines))
        expected = parse_table(path.open(newline="\n"), alias=alias)
        assert read_table(path, alias=alias) == expected
        assert make(path, alias=alias, null=null) == expected.problems
        index = open_index(index_path(path))
        assert dict(index.items()) == expected.entries
        assert all(index.get(key) == value for key, value in expected.entries.items())


def test_a_table_larger_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "map"
    count = BLOCK // 8
    path.write_text("".join(f"Key{number} value\n" for number in range(count)) + "key7 again\n")
    assert make(path) == [(count + 1, 'duplicate entry: "key7"')]
    index = open_index(index_path(path))
    assert len(list(index.items())) == count
    assert (index.get(f"key{count - 1}"), index.get(f"key{count}")) == ("value", None)
    assert len(read_table(path).entries) == count


def test_nothing_is_left_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a b\n")
    make(path)
    with pytest.raises(ValueError, match="stop"), new_index(path, size=0, mode=0o644):
        raise ValueError("stop")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["map", "map.lmdb"]
    assert open_index(index_path(path)).get("a") == "b"


@pytest.mark.parametrize("damage", [b"", b"no index" * 1000, "cut"])
def test_a_damaged_index_defers_and_heals(tmp_path: Path, damage: bytes | str) -> None:
    path = tmp_path / "map"
    path.write_text("a b\n")
    make(path)
    index = index_path(path)
    index.write_bytes(index.read_bytes()[:8192] if isinstance(damage, str) else damage)
    bench = Bench(tmp_path)
    with pytest.raises(TableError, match=r"hash:map is unavailable. .*map\.lmdb"):
        bench.ask("hash:map", "a")
    make(path)
    bench.clock.advance(1)
    assert bench.ask("hash:map", "a") == "b"


def test_an_index_that_is_cut_off_in_use_defers_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a b\n")
    make(path)
    bench = Bench(tmp_path)
    assert bench.ask("hash:map", "a") == "b"
    os.truncate(index_path(path), 5000)
    with pytest.raises(TableError, match=r"hash:map: .*map\.lmdb is cut off"):
        bench.ask("hash:map", "a")
    bench.clock.advance(1)
    with pytest.raises(TableError):
        bench.ask("hash:map", "a")
    make(path)
    bench.clock.advance(1)
    assert bench.ask("hash:map", "a") == "b"


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("size", [0, 100, 4096, 8191, 8192, 12000, 40000])
def test_a_stump_of_an_index_kills_nobody(tmp_path: Path, size: int, opened: bool) -> None:
    path = tmp_path / "map"
    path.write_text("".join(f"key{number} value\n" for number in range(3000)))
    make(path)
    index = index_path(path)
    assert os.stat(index).st_size > size
    program = f"""
import os
from pathlib import Path
from gateway.tables.index import IndexProblem, open_index
path = Path({str(index)!r})
kept = open_index(path) if {opened} else None
os.truncate(path, {size})
attempts = [lambda: open_index(path).get("key77")]
if kept is not None:
    attempts = [lambda: kept.get("key77"), lambda: list(kept.items()), *attempts]
for attempt in attempts:
    try:
        print("answered", attempt())
    except IndexProblem:
        print("refused")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "refused\n" * (3 if opened else 1)), found.stderr


def test_an_unreadable_index_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_index(tmp_path / "none.lmdb")
    (tmp_path / "x").write_bytes(b"?" * 9000)
    with pytest.raises(IndexProblem, match="no usable index"):
        open_index(tmp_path / "x")


def test_a_new_index_is_taken_at_once_and_a_new_text_when_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a one\n")
    bench = Bench(tmp_path)
    assert bench.ask("hash:map", "a") == "one"
    bench.wall = os.stat(path).st_ctime
    path.write_text("a two\n")
    make(path)
    with new_index(path, size=0, mode=0o644, base=index_path(path), replace=True) as writer:
        writer.add(io.BytesIO(b"A index\n"))
    bench.clock.advance(1)
    assert bench.ask("hash:map", "a") == "index"
    path.write_text("a thr")
    os.utime(path, (bench.wall + 5, bench.wall + 5))
    bench.clock.advance(1)
    assert bench.ask("hash:map", "a") == "index"
    path.write_text("a three\n")
    os.utime(path, (bench.wall + 5, bench.wall + 5))
    bench.wall += 10
    bench.clock.advance(1)
    assert bench.ask("hash:map", "a") == "three"


def test_where_an_answer_stands(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a one\n")
    make(path)
    table = Bench(tmp_path).tables.open("hash:map", Bench(tmp_path).settings)
    assert table.source("A") == f"{path}:1"
    path.unlink()
    assert table.source("a") == f"{path}.lmdb"
    assert table.source("b") is None
    assert table.entries() == [("a", "one")]


def test_a_large_text_without_index_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "LARGE", 1000)
    path = tmp_path / "map"
    path.write_text("".join(f"key{number} value\n" for number in range(100)) + "KEY7 x\n")
    bench = Bench(tmp_path)
    table = bench.tables.open("texthash:map", bench.settings)
    assert now(table.lookup("key99")) == "value"
    assert bench.findings == [f'{path}, line 101: duplicate entry: "key7"']
    assert [found.name for found in tmp_path.iterdir()] == ["map"]
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    assert bench.ask("hash:map", "key99") == "value"


def test_a_million_entries_take_no_memory_with_an_index(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("".join(f"user{number}@example.com OK {number}\n" for number in range(200_000)))
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench = Bench(tmp_path)
    assert bench.ask("hash:map", "user199999@example.com") == "OK 199999"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096


@pytest.mark.skipif(shutil.which("/usr/sbin/postmap") is None, reason="Postfix is not installed")
@pytest.mark.parametrize("option", ["-N", "-n"])
def test_postfix_reads_ours_and_we_read_its(tmp_path: Path, option: str) -> None:
    postmap = ["/usr/sbin/postmap", "-c", str(tmp_path)]
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    path = tmp_path / "map"
    path.write_text("Key a value\n")
    made = subprocess.run([*postmap, option, f"lmdb:{path}"], capture_output=True, text=True)
    if "unsupported dictionary type" in made.stderr:
        pytest.skip("this Postfix has no lmdb: tables (package postfix-lmdb)")
    bench = Bench(tmp_path)
    assert bench.ask("hash:map", "KEY") == "a value"
    subprocess.run([*postmap, option, "-i", f"lmdb:{path}"], input="new one\n", text=True, check=True)
    bench.clock.advance(1)
    assert bench.ask("hash:map", "new") == "one"
    make(path, null=option == "-N")
    asked = subprocess.run([*postmap, "-q", "key", f"lmdb:{path}"], capture_output=True, text=True)
    assert asked.stdout == "a value\n"
