"""Tables of real databases: odd keys, a server that goes away and comes back, mail that waits for it."""

from __future__ import annotations

import importlib.util
import smtplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.databases import ROWS, Maria, Memcached, Postgres, Redis, Server, Slapd, program
from tests.system.gateway import poll

pytestmark = pytest.mark.system

KINDS = {"pgsql": Postgres, "mysql": Maria, "ldap": Slapd, "redis": Redis, "memcache": Memcached}
DRIVERS = {"pgsql": "psycopg", "mysql": "pymysql", "ldap": "ldap3"}
WITHOUT_VALUE = [
    "nobody@a.example", "' OR '1'='1", "*", "x)(uid=*", "joe@a.example\\", "@a.example", "joe", "é@a.example",
]  # fmt: skip


def make_server(kind: str, folder: Path) -> Server:
    made = KINDS[kind]
    for name in made.programs:
        if program(name) is None:
            pytest.skip(f"{name} is not installed (package {made.package})")
    if kind in DRIVERS and importlib.util.find_spec(DRIVERS[kind]) is None:
        pytest.skip(f"the driver {DRIVERS[kind]} is not installed")
    return made(folder / kind)


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, folder: Path) -> Iterator[Server]:
    made = make_server(kind, folder)
    made.start()
    made.fill()
    yield made
    made.stop()


@pytest.fixture
def gateway(make_gateway, make_sink, server: Server, kind: str):  # type: ignore[no-untyped-def]
    made = make_gateway("twistd")
    made.sink = make_sink()
    (made.directory / "table.cf").write_text(server.table())
    (made.directory / "table.cf").chmod(0o644)
    made.table = f"{kind}:{made.directory}/table.cf"
    made.set(
        transport_maps=f"inline:{{b.example=smtp:[127.0.0.1]:{made.sink.port}}}", virtual_alias_maps=made.table,
        virtual_alias_domains="a.example",
    )
    return made


def test_queries_and_mail(gateway, server: Server, kind: str) -> None:  # type: ignore[no-untyped-def]
    keys = "\n".join([*ROWS, *WITHOUT_VALUE])
    asked = gateway.run("postmap", "-q", "-", gateway.table, stdin=keys)
    assert asked.stderr.strip() == ""
    assert asked.stdout.splitlines() == [f"{key}\t{value}" for key, value in ROWS.items()]
    if kind == "ldap":
        assert gateway.run("postmap", "-q", "all@a.example", gateway.table).stdout == "jane@b.example,quote@b.example\n"

    gateway.start()
    gateway.send("joe@a.example")
    (one,) = gateway.sink.wait(1)
    assert one.recipients == ("jane@b.example",)

    server.stop()
    with gateway.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail("ann@b.example", ["joe@a.example"], "Subject: x\n\n")
    assert refused.value.recipients["joe@a.example"][0] == 451
    gateway.wait_for(rf"warning: .*{kind}:.*lookup error")
    assert gateway.run("postmap", "-q", "joe@a.example", gateway.table).returncode == 1

    server.start()
    if kind in ("redis", "memcache"):
        server.fill()

    def accepted() -> bool:
        with gateway.client() as client:
            client.ehlo()
            client.mail("ann@b.example")
            return bool(client.rcpt("joe@a.example")[0] == 250)

    poll(accepted, "the table has healed")


@pytest.mark.parametrize("kind", ["pgsql"], indirect=True)
def test_all_receivers_share_the_connections(gateway, server: Postgres, kind: str) -> None:  # type: ignore[no-untyped-def]
    query = server.table().replace("SELECT target", "SELECT target || (pg_sleep(0.05)::text)")
    (gateway.directory / "table.cf").write_text(query)
    gateway.start()
    most: list[int] = []

    def ask(number: int) -> int:
        with gateway.client() as client:
            client.ehlo()
            client.mail("ann@b.example")
            code = client.rcpt("joe@a.example")[0]
            most.append(server.connections())
            return int(code)

    with ThreadPoolExecutor(12) as clients:
        assert set(clients.map(ask, range(24))) == {250}
    assert 1 <= max(most) <= 2
