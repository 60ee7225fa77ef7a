from __future__ import annotations

import pytest

from gateway.addresses.find import AddressFinder, Found, Ways
from gateway.addresses.local import LocalDomains
from gateway.addresses.syntax import Extensions
from gateway.interfaces import TableError
from tests.gateway.addresses.support import OWN_ADDRESSES, basis, now, site


class AllKeys:
    """Tables that have nothing, and note what they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __bool__(self) -> bool:
        return True

    async def find(self, key: str, *, partial: bool = False) -> None:
        self.asked.append(f"({key})" if partial else key)


def keys(address: str, ways: Ways = Ways.USUAL, delimiters: str = "+") -> list[str]:
    bench = site()
    local = LocalDomains(bench.tables.string_list("mydestination", bench.settings), OWN_ADDRESSES, "my.domain")
    maps = AllKeys()
    assert now(AddressFinder(maps, Extensions(delimiters), local, ways).find(address)) is None
    return maps.asked


def test_keys_of_a_local_user() -> None:
    assert keys("joe+ext@my.domain") == [
        "joe+ext@my.domain", "(joe@my.domain)", "(joe+ext)", "(joe)", "(@my.domain)",
    ]  # fmt: skip
    assert keys("joe@[192.0.2.1]") == ["joe@[192.0.2.1]", "(joe)", "(@[192.0.2.1])"]


def test_keys_of_somebody_else() -> None:
    assert keys("joe@far.tld") == ["joe@far.tld", "(@far.tld)"]
    assert keys("joe+x@far.tld", delimiters="") == ["joe+x@far.tld", "(@far.tld)"]


def test_both_forms() -> None:
    assert keys("a b@far.tld") == ['"a b"@far.tld', "a b@far.tld", "(@far.tld)"]
    assert keys("") == ['""']
    assert keys("a@b@my.domain") == [
        '"a@b"@my.domain', "a@b@my.domain", '("a@b")', "(a@b)", "(@my.domain)",
    ]  # fmt: skip


def test_addresses_are_mapped_by_their_external_form() -> None:
    assert keys("a@b@my.domain", Ways.MAPPING) == ['"a@b"@my.domain', '("a@b")', "(@my.domain)"]


def test_keys_for_transports() -> None:
    dotted = ["u+x@a.b.c", "(u@a.b.c)", "(a.b.c)", "(.b.c)", "(.c)"]
    assert keys("u+x@a.b.c", Ways.DOMAIN | Ways.DOTTED_PARENTS) == dotted
    assert keys("u@a.b.c", Ways.DOMAIN | Ways.PARENTS) == ["u@a.b.c", "(a.b.c)", "(b.c)", "(c)"]
    assert keys("u@[192.0.2.9]", Ways.DOMAIN | Ways.PARENTS) == ["u@[192.0.2.9]", "([192.0.2.9])"]
    assert keys("u@b", Ways.DOMAIN) == ["u@b", "(b)"]


def found(table: str, address: str) -> Found | None:
    return now(basis(site(relocated_maps=table)).finder("relocated_maps").find(address))


def test_what_is_found() -> None:
    table = "inline:{joe@far.tld=1, ann=2, ann+list=3, @far.tld=4}"
    assert found(table, "joe@far.tld") == Found("1", "", table, "joe@far.tld")
    assert found(table, "Joe+Ext@FAR.tld") == Found("1", "+Ext", table, "joe@far.tld")
    assert found(table, "ann@gw.my.domain") == Found("2", "", table, "ann")
    assert found(table, "ann+list@my.domain") == Found("3", "", table, "ann+list")
    assert found(table, "ann+x@my.domain") == Found("2", "+x", table, "ann")
    assert found(table, "ann+x@far.tld") == Found("4", "", table, "@far.tld")
    assert found(table, "ann@elsewhere.tld") is None


def test_a_table_that_is_away_is_an_error() -> None:
    with pytest.raises(TableError):
        found("inline:{a=b}, fail:4.0.0", "joe@far.tld")


def test_local_domains() -> None:
    local = basis(site(mydestination="my.domain, inline:{other.tld=x}")).local
    for domain in ("my.domain", "MY.domain", "my.domain.", "other.tld", "[192.0.2.1]", "[127.0.0.1]", "[IPv6:::1]"):
        assert now(local.match(domain)), domain
    for domain in ("", ".", "my.domain..", "sub.my.domain", "[192.0.2.2]", "192.0.2.1", "[my.domain]", "[::1]"):
        assert not now(local.match(domain)), domain
    assert now(local.has_bare_names("my.domain"))
    assert not now(local.has_bare_names("far.tld"))
