"""Tables without files, tables of tables, the system's accounts, and those that cannot be opened."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from gateway.interfaces import ILookupTable, TableError
from gateway.tables import Unavailable, table_types
from gateway.tables.accounts import KEEP_FOUND
from tests.gateway.tables.support import Bench


@pytest.mark.parametrize(
    ("spec", "key", "answer"),
    [
        ("static:always", "anything", "always"),
        ("static:a:b c", "anything", "a:b c"),
        ("static:{ a b }", "anything", "a b"),
        ("inline:{k1=v1, {k2=v2 with spaces}}", "k1", "v1"),
        ("inline:{k1=v1, {k2=v2 with spaces}}", "K2", "v2 with spaces"),
        ("inline:{ { K = x } }", "k", "x"),
        ("inline:{ { k = {x}, y=z } }", "k", "{x}, y=z"),
        ("inline:{k=v}", "other", None),
        ("environ:x", "no_such_variable", None),
        ("pipemap:{static:x, inline:{x=Y}, inline:{y=z}}", "a", "z"),
        ("pipemap:{inline:{b=x}, static:end}", "a", None),
        ("unionmap:{inline:{a=1}, inline:{b=2}, static:3}", "A", "1,3"),
        ("unionmap:{inline:{a=1}}", "b", None),
        ("randmap:{only}", "any", "only"),
        ("randmap:{one, {the other}}", "any", "{the other}"),
        ("proxy:static:y", "x", "y"),
        ("debug:inline:{a=b}", "A", "b"),
        ("proxy:proxy:debug:static:z", "x", "z"),
    ],
)
def test_answers(spec: str, key: str, answer: str | None) -> None:
    assert Bench().ask(spec, key) == answer


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("nosuchtype:x", "unsupported dictionary type: nosuchtype"),
        ("mongodb:/etc/x.cf", "dictionary type mongodb is not available"),
        ("hash:", 'open dictionary: expecting "type:name" form instead of "hash:"'),
        ("hash", 'open dictionary: expecting "type:name" form instead of "hash"'),
        ("inline:k=v", 'bad syntax: "inline:k=v"; need "inline:{name=value...}"'),
        ("inline:{}", 'bad syntax: "inline:{}"; need "inline:{name=value...}"'),
        ("inline:{k}", "missing '=' after attribute name: \"inline:{k}\"; need \"inline:{name=value...}\""),
        ("static:{a b", "bad static:name syntax: missing '}' in \"{a b\""),
        ("pipemap:static:x", 'bad syntax: "pipemap:static:x"; need "pipemap:{type:name...}"'),
        ("randmap:{}", 'bad syntax: "randmap:{}"; need "randmap:{value...}"'),
        ("unix:foo", "unknown table: unix:foo"),
        ("python:nosuch", 'no plug-in "nosuch" for lookup tables is installed'),
        ("socketmap:foo", "socketmap requires server:socketmap argument"),
        ("tcp:localhost:smtp", "tcp:localhost:smtp: need host:port, with the port as a number"),
        ("regexp:{x}", 'regexp map: no \'{\' at start of text in "x"'),
        ("pipemap:{a}b}", 'bad syntax: "pipemap:{a}b}"; need "pipemap:{type:name...}"'),
    ],
)
def test_a_table_that_cannot_be_opened_defers(spec: str, why: str) -> None:
    bench = Bench()
    table = bench.tables.open(spec, bench.settings)
    assert isinstance(table, Unavailable)
    assert table.why == why
    with pytest.raises(TableError) as raised:
        bench.ask(spec, "x")
    assert str(raised.value) == f"{spec} is unavailable. {table.why}"
    assert table.why in bench.findings[0]


@pytest.mark.parametrize(
    "spec", ["static:x", "cidr:{{::/0 x}}", "pcre:{{/a/ b}}", "randmap:{a}", "nosuch:x", "tcp:h:1"]
)
def test_all_provide_the_interface(spec: str) -> None:
    bench = Bench()
    assert verifyObject(ILookupTable, bench.tables.open(spec, bench.settings))


def test_a_broken_member_defers() -> None:
    bench = Bench()
    with pytest.raises(TableError, match="unsupported dictionary type: nosuch"):
        bench.ask("unionmap:{static:x, nosuch:y}", "k")
    assert any("unsupported dictionary type: nosuch" in finding for finding in bench.findings)


def test_tables_within_tables_end_somewhere() -> None:
    spec = "proxy:" * 500 + "static:x"
    with pytest.raises(TableError, match="nested too deeply"):
        Bench().ask(spec, "k")


def test_fail_fails() -> None:
    with pytest.raises(TableError, match="reason"):
        Bench().ask("fail:reason", "x")


def test_debug_logs_questions_and_answers() -> None:
    bench = Bench()
    bench.ask("debug:inline:{a=b}", "A")
    bench.ask("debug:inline:{a=b}", "c")
    assert bench.log.text == 'debug: inline:{a=b} lookup: "A": b\ndebug: inline:{a=b} lookup: "c": not found'


def test_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("lower_case_name", "x")
    assert Bench().ask("environ:all", "LOWER_case_name") == "x"
    assert Bench().ask("environ:all", "\0") is None


def test_the_last_of_duplicates_inline_counts() -> None:
    assert Bench().ask("inline:{a=1, A=2}", "a") == "2"


def test_accounts() -> None:
    root = pwd.getpwuid(0)
    bench = Bench()
    assert bench.ask("unix:passwd.byname", "root") == f"root:{root.pw_passwd}:0:0:{root.pw_gecos}:/root:{root.pw_shell}"
    group = grp.getgrgid(0)
    assert bench.ask("unix:group.byname", "root") == f"root:{group.gr_passwd}:0:{','.join(group.gr_mem)}"
    for key in ("no such user", "\0", "\udc80", ""):
        assert bench.ask("unix:passwd.byname", key) is None


@pytest.mark.parametrize("status", [errno.EIO, errno.ENOMEM, errno.ETIMEDOUT])
@pytest.mark.parametrize("table", ["passwd", "group"])
def test_a_directory_service_that_is_away_is_not_an_account_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, status: int, table: str
) -> None:
    class Library:
        def getpwnam_r(self, *arguments: object) -> int:
            return status

        getgrnam_r = getpwnam_r

    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    bench = Bench()
    for _ in range(2):
        with pytest.raises(TableError, match=f"unix:{table}.byname: {os.strerror(status)}"):
            bench.ask(f"unix:{table}.byname", "nosuchuser")
    assert bench.ask(f"unix:{table}.byname", "root") is not None


def test_accounts_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = pwd.getpwnam

    def getpwnam(name: str) -> pwd.struct_passwd:
        asked.append(name)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    bench = Bench()
    for _ in range(3):
        bench.ask("unix:passwd.byname", "root")
        bench.ask("unix:passwd.byname", "nosuchuser")
    assert asked == ["root", "nosuchuser"]
    bench.clock.advance(1)
    bench.ask("unix:passwd.byname", "root")
    bench.ask("unix:passwd.byname", "nosuchuser")
    assert asked == ["root", "nosuchuser", "nosuchuser"]
    bench.clock.advance(KEEP_FOUND)
    bench.ask("unix:passwd.byname", "root")
    assert asked[3:] == ["root"]


def test_types_are_what_can_be_opened() -> None:
    assert {"hash", "regexp", "pcre", "cidr", "static", "tcp", "socketmap", "unix", "python"} <= set(table_types())
    assert "mongodb" not in table_types()
    assert table_types() == sorted(table_types())


def test_a_source_in_a_combined_table(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("a 1\n")
    bench = Bench(tmp_path)
    for spec in ("unionmap:{static:x, hash:map}", "pipemap:{hash:map, static:y}", "debug:hash:map"):
        assert bench.tables.open(spec, bench.settings).source("A") == f"{tmp_path}/map:1"


def test_whole_keys_of_combined_tables() -> None:
    bench = Bench()
    assert not bench.tables.open("unionmap:{static:x, cidr:{{::/0 x}}}", bench.settings).whole_keys
    assert bench.tables.open("pipemap:{cidr:{{::/0 x}}}", bench.settings).whole_keys
