"""Tables of databases, as far as they need no server: parameters, expansions, SQLite, the pool, the caches."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults

from gateway.config import Settings, from_texts
from gateway.interfaces import TableError
from gateway.log import MemoryLog
from gateway.tables import Tables, Unavailable
from gateway.tables.databases import pool as pools
from gateway.tables.databases import served
from gateway.tables.databases import table as table_module
from gateway.tables.databases.caches import _memcache_reply, _redis_replies
from gateway.tables.databases.ldap import quote_dn, quote_filter
from gateway.tables.databases.pool import Databases, Host, Limits, Lost, Refused
from gateway.tables.databases.template import Template
from tests.gateway.tables.support import Bench

reactor: Any = global_reactor


# --- templates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "key", "query"),
    [
        ("x='%s'", "joe@a.b", "x='joe@a.b'"),
        ("%u at %d", "joe@a.b", "joe at a.b"),
        ("%U at %D", "joe@a.b", "joe at a.b"),
        ("%u", "joe", "joe"),
        ("%u", "@a.b", None),
        ("%s", "@a.b", "@a.b"),
        ("%d", "joe", None),
        ("%d", "joe@", None),
        ("%1 %2 %3", "joe@mail.example.com", "com example mail"),
        ("%3", "joe@example.com", None),
        ("%1", "com", None),
        ("100%% %s", "x", "100% x"),
        ("%s", "", None),
        ("%u@%d", 'a"@"b@c', 'a"@"b@c'),
    ],
)
def test_queries(template: str, key: str, query: str | None) -> None:
    assert Template(template, "query").of_key(key, str) == query


@pytest.mark.parametrize(
    ("template", "value", "result"),
    [
        ("smtp:[%s]", "host", "smtp:[host]"),
        ("%s", "", None),
        ("%u", "a@b", "a"),
        ("%u", "@b", None),
        ("%d", "plain", None),
        ("%d", "a@b", "b"),
        ("%s %S %U %D %1", "v", "v joe@x.org joe x.org org"),
    ],
)
def test_results(template: str, value: str, result: str | None) -> None:
    assert Template(template, "result_format").of_result(value, "joe@x.org") == result


def test_results_that_need_more_than_the_key_has() -> None:
    assert Template("%D", "result_format").of_result("v", "joe") is None
    assert not Template("%3", "result_format").suits("joe@x.org")
    assert Template("%s", "result_format").suits("joe")


@pytest.mark.parametrize("text", ["%x", "a%", "%0"])
def test_bad_templates(text: str) -> None:
    with pytest.raises(TableError, match="invalid query template"):
        Template(text, "query")


@settings(max_examples=50)
@given(st.text(max_size=20), st.text(max_size=20))
def test_what_comes_from_the_key_is_quoted(local: str, domain: str) -> None:
    quoted = str.maketrans("", "", "<>")
    query = Template("<%s><%u>", "query").of_key(f"{local}@{domain}", lambda text: text.translate(quoted))
    assert query is None or (query.count("<"), query.count(">")) == (2, 2)


def test_quoting_for_ldap() -> None:
    assert quote_filter("a*(b)\\\0") == "a\\2a\\28b\\29\\5c\\00"
    assert quote_dn(' a,b="c" ') == '\\ a\\,b\\=\\"c\\"\\ '
    assert quote_dn("#a") == "\\#a"


# --- parameters and SQLite -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE aliases (name TEXT, target TEXT, n INTEGER)")
        database.executemany(
            "INSERT INTO aliases VALUES (?, ?, ?)",
            [
                ("joe@a.b", "one@x.y", 1), ("joe@a.b", "two@x.y", 2), ("o'hara@a.b", "quoted", 3),
                ("null@a.b", None, 4), ("root", "jane", 5), ("empty", "", 6),
            ],
        )  # fmt: skip
    return tmp_path


def cf(folder: Path, text: str, name: str = "table.cf") -> str:
    (folder / name).write_text(f"dbpath = {folder}/db\n{text}\n")
    return f"sqlite:{folder}/{name}"


QUERY = "query = SELECT target FROM aliases WHERE name = '%s'"


def test_sqlite(folder: Path) -> None:
    bench, spec = Bench(folder), cf(folder, QUERY)
    assert bench.ask(spec, "JOE@a.b") == "one@x.y,two@x.y"
    assert bench.ask(spec, "o'hara@a.b") == "quoted"
    assert bench.ask(spec, "' OR 1=1 --") is None
    assert [bench.ask(spec, key) for key in ("null@a.b", "empty", "none", "a\0b", "a\udcff")] == [None] * 5
    assert bench.ask(f"proxy:{spec}", "root") == "jane"


def test_all_columns_of_all_rows(folder: Path) -> None:
    spec = cf(folder, "query = SELECT n, target FROM aliases WHERE name = '%s'\nresult_format = <%s>")
    assert Bench(folder).ask(spec, "joe@a.b") == "<1>,<one@x.y>,<2>,<two@x.y>"


def test_expansion_limit(folder: Path) -> None:
    spec = cf(folder, f"{QUERY}\nexpansion_limit = 1")
    assert Bench(folder).ask(spec, "root") == "jane"
    with pytest.raises(TableError, match="Expansion limit exceeded for key: 'joe@a.b'"):
        Bench(folder).ask(spec, "joe@a.b")


def test_domain(folder: Path) -> None:
    (folder / "domains").write_text("c.d x\n")
    spec = cf(folder, f"query = SELECT '%s'\ndomain = a.b, hash:{folder}/domains")
    bench = Bench(folder)
    asked = ("x@a.b", "x@C.D", "x@e.f", "x@s.a.b", "@a.b", "a.b", "x")
    assert [bench.ask(spec, key) for key in asked] == ["x@a.b", "x@c.d", None, None, None, None, None]


def test_parameters_of_old(folder: Path) -> None:
    bench = Bench(
        folder, old_dbpath=f"{folder}/db", old_table="aliases", old_select_field="$field", old_where_field="name",
        old_additional_conditions="and n < 3", field="target",
    )  # fmt: skip
    assert bench.ask("sqlite:old", "joe@a.b") == "one@x.y,two@x.y"
    assert bench.ask("sqlite:old", "root") is None
    assert Bench(folder, old_dbpath=f"{folder}/db", old_select_function="upper").ask("sqlite:old", "x") == "X"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "table.cf: bad or missing parameter: table"),
        ("query = SELECT %x", "invalid query template"),
        (f"{QUERY}\nexpansion_limit = many", "table.cf: bad numerical parameter: expansion_limit = many"),
        ("broken", "table.cf, line 2: "),
    ],
)
def test_mistakes_name_the_file(folder: Path, text: str, problem: str) -> None:
    opened = Bench(folder).open(cf(folder, text))
    assert isinstance(opened, Unavailable) and problem in opened.why


def test_missing_files(folder: Path) -> None:
    assert "No such file" in Bench(folder).open("sqlite:/no/such.cf").findings()[0].what
    (folder / "table.cf").write_text("dbpath = /no/such/db\nquery = SELECT 1\n")
    with pytest.raises(TableError, match="sqlite:.*table.cf: connect to /no/such/db: No such file or directory"):
        Bench(folder).ask(f"sqlite:{folder}/table.cf", "x")


def test_a_broken_database_heals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "BACKOFF", 0)
    bench, spec = Bench(folder), cf(folder, QUERY)
    assert bench.ask(spec, "root") == "jane"
    os.rename(folder / "db", folder / "away")
    (folder / "db").write_bytes(b"no database" * 1000)
    with pytest.raises(TableError, match="file is not a database"):
        bench.ask(spec, "root")
    os.rename(folder / "away", folder / "db")
    assert bench.ask(spec, "root") == "jane"


@pytest.mark.parametrize(
    ("type", "package", "extra"),
    [("pgsql", "psycopg", "pgsql"), ("mysql", "pymysql", "mysql"), ("ldap", "ldap3", "ldap")],
)
def test_a_missing_package_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "x.cf").write_text("query = SELECT 1\nsearch_base = x\n")
    opened = Bench(tmp_path).open(f"{type}:{tmp_path}/x.cf")
    assert isinstance(opened, Unavailable)
    assert opened.why == f"the package {package} is not installed: pip install 'mailgateway[{extra}]'"


# --- the pool ------------------------------------------------------------------------------------------------------


class Fake:
    """A connection that counts, and breaks when told so."""

    made = 0
    broken = False

    def __init__(self) -> None:
        Fake.made += 1
        self.closed = False

    def query(self) -> str:
        if self.broken:
            raise Lost("server went away")
        return "answer"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def databases() -> Any:
    Fake.made = 0
    made = Databases(reactor)
    yield made
    made.close()


@ensureDeferred
async def test_no_more_connections_than_allowed(databases: Databases) -> None:
    running, most, lock = [0], [0], threading.Lock()
    go = threading.Event()

    def ask(connection: Fake) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        go.wait(5)
        with lock:
            running[0] -= 1
        return connection.query()

    pool = databases.pool("x", [Host("h", Fake)], Limits(connections=2))
    assert databases.pool("x", [], Limits(connections=2)) is pool
    asked = [Deferred.fromCoroutine(pool.run(ask)) for _ in range(10)]
    reactor.callLater(0.05, go.set)
    assert await gatherResults(asked) == ["answer"] * 10
    assert (most[0], Fake.made) == (2, 2)


@ensureDeferred
async def test_waiting_for_a_connection_has_an_end(databases: Databases) -> None:
    go = threading.Event()
    pool = databases.pool("x", [Host("h", Fake)], Limits(timeout=0.05, connections=1))
    first = Deferred.fromCoroutine(pool.run(lambda connection: go.wait(5)))
    with pytest.raises(TableError, match=r"no free connection within 0.15 s \(1 in use\)"):
        await pool.run(Fake.query)
    go.set()
    assert await first


@ensureDeferred
async def test_a_connection_lost_while_idle_is_replaced(databases: Databases) -> None:
    pool = databases.pool("x", [Host("h", Fake)], Limits())
    used: list[Fake] = []

    def ask(connection: Fake) -> str:
        used.append(connection)
        return connection.query()

    assert await pool.run(ask) == "answer"
    used[0].broken = True
    assert await pool.run(ask) == "answer"
    assert used[0].closed and Fake.made == 2
    used[-1].broken = True

    def refuse(connection: Fake) -> str:
        raise Refused("syntax error")

    with pytest.raises(TableError, match="syntax error"):
        await pool.run(refuse)
    assert Fake.made == 2


@ensureDeferred
async def test_the_next_host_is_asked_and_the_failed_one_left_aside(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def host(name: str, works: Callable[[], bool]) -> Host:
        def connect() -> Fake:
            tried.append(name)
            if not works():
                raise Lost("Connection refused")
            return Fake()

        return Host(name, connect)

    second = [True]
    pool = databases.pool("x", [host("one", lambda: False), host("two", lambda: second[0])], Limits(idle=0))
    assert [await pool.run(Fake.query) for _ in range(2)] == ["answer"] * 2
    assert tried == ["one", "two", "two"]
    second[0] = False
    with pytest.raises(TableError, match="connect to two: Connection refused"):
        await pool.run(Fake.query)
    with pytest.raises(TableError, match="could not be reached a moment ago"):
        await pool.run(Fake.query)
    monkeypatch.setattr(pools, "BACKOFF", 0)
    second[0] = True
    assert await pool.run(Fake.query) == "answer"


# --- caches --------------------------------------------------------------------------------------------------------


def test_framing_of_memcache() -> None:
    reply = b"VALUE key 0 5\r\na\r\nbc\r\nEND\r\n"
    assert all(_memcache_reply(reply[:cut], 100) is None for cut in range(len(reply)))
    assert _memcache_reply(reply + b"x", 100) == (reply, b"x")
    assert _memcache_reply(b"END\r\n", 100) == (b"END\r\n", b"")
    for bad in (b"VALUE key 0 500\r\n", b"x" * 2000, b"VALUE k 0 1\r\nabcEND\r\n\r\n"):
        with pytest.raises(ValueError, match="the server's reply"):
            _memcache_reply(bad, 100)


def test_framing_of_redis() -> None:
    reply = b"+OK\r\n$5\r\na\r\nbc\r\n"
    assert all(_redis_replies(reply[:cut], 2) is None for cut in range(len(reply)))
    assert _redis_replies(reply + b"x", 2) == (reply, b"x")
    assert _redis_replies(b"$-1\r\n-ERR x\r\n", 2) == (b"$-1\r\n-ERR x\r\n", b"")
    with pytest.raises(ValueError, match="not in the protocol"):
        _redis_replies(b"HTTP/1.1\r\n", 1)


@pytest.mark.parametrize("type", ["memcache", "redis"])
def test_caches_are_not_for_what_names_commands(tmp_path: Path, type: str) -> None:
    (tmp_path / "x.cf").write_text("")
    tables = Tables(clock=reactor, log=MemoryLog(), reactor=reactor)
    opened = tables.open(f"{type}:{tmp_path}/x.cf", Settings({}), substitution=False)
    assert isinstance(opened, Unavailable) and "not allowed for security sensitive data" in opened.why
    assert not isinstance(tables.open(f"{type}:{tmp_path}/x.cf", Settings({})), Unavailable)


# --- one role asks for another -------------------------------------------------------------------------------------


class Gone(Exception):
    pass


def config(folder: Path, text: str) -> Any:
    return from_texts(f"compatibility_level = 3.6\nalias_maps =\n{text}", "", folder)


@pytest.fixture
def told_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite files have no limit of connections; here they stand for databases that have."""
    monkeypatch.setattr(table_module, "SHARED", frozenset({"sqlite"}))
    monkeypatch.setattr(served, "_SPEC", re.compile(r"\bsqlite:[^\s,{}]+"))


@ensureDeferred
async def test_another_role_asks(folder: Path, told_shared: None) -> None:
    spec = cf(folder, QUERY)
    asked: list[list[str]] = []
    configuration = config(folder, f"virtual_alias_maps = pipemap:{{proxy:{spec}, static:x}}\n")
    serving = served.Served(Tables(clock=reactor, log=MemoryLog(), reactor=None), configuration)

    async def call(name: str, value: list[str]) -> Any:
        asked.append(value)
        return await serving.answer(value)

    ask = served.elsewhere(call, Gone, reactor)
    table = Tables(clock=reactor, log=MemoryLog(), elsewhere=ask).open(spec, configuration.settings)
    assert await table.lookup("root") == "jane"
    assert await table.lookup("none") is None
    assert asked == [[spec, "root"], [spec, "none"]]
    (folder / "db").unlink()
    with pytest.raises(TableError, match="No such file"):
        await table.lookup("root")
    assert await serving.answer(["sqlite:/other", "x"]) == ["unknown"]


@ensureDeferred
async def test_without_the_other_role_it_asks_itself(folder: Path, told_shared: None) -> None:
    async def call(name: str, value: Any) -> Any:
        raise Gone

    ask = served.elsewhere(call, Gone, reactor)
    settings = Settings({}, directory=folder)
    table = Tables(clock=reactor, log=MemoryLog(), elsewhere=ask).open(cf(folder, QUERY), settings)
    assert await table.lookup("root") == "jane"


@ensureDeferred
async def test_an_answer_that_does_not_come_defers(
    folder: Path, told_shared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PATIENCE", 0.05)

    async def call(name: str, value: Any) -> Any:
        await Deferred()

    ask = served.elsewhere(call, Gone, reactor)
    settings = Settings({}, directory=folder)
    table = Tables(clock=reactor, log=MemoryLog(), elsewhere=ask).open(cf(folder, QUERY), settings)
    with pytest.raises(TableError, match="no answer within 0.05 s"):
        await table.lookup("root")
