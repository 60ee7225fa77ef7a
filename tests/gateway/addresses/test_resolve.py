from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from gateway.addresses.forms import unquote
from gateway.addresses.resolve import BAD_SYNTAX, Router
from gateway.addresses.transport_map import changed
from gateway.interfaces import AddressClass, IRouter, TableError
from tests.gateway.addresses.support import OWN_ADDRESSES, cases, now, site

_TABLES = {
    "transport_maps": "texthash:transport",
    "relocated_maps": "texthash:relocated",
    "virtual_alias_domains": "alias.tld",
    "virtual_mailbox_domains": "box.tld",
    "relay_domains": "relayed.tld",
    "relayhost": "[smart]:587",
    "sender_dependent_relayhost_maps": "inline:{{s@x.y=[sdr]}, {d@x.y=DUNNO}, {@dom.y=[sdd]}, {<>=[null]}}",
    "sender_dependent_default_transport_maps": "inline:{{s@x.y=uucp:host}, {d@x.y=DUNNO}}",
}


def router(prefix: str = "", **values: str) -> Router:
    bench = site(**values)
    return Router.from_settings(bench.settings, bench.tables, OWN_ADDRESSES, bench.log, prefix)


SITE = router(**_TABLES)


@pytest.mark.parametrize("case", cases("resolve"), ids=lambda case: f"{case[0]} {case[1]}")
def test_as_postfix_does(case: list[str]) -> None:
    sender, address, *expected = case
    found = now(SITE.explain(sender, address))
    route = found.route
    if expected == ["broken"]:
        assert found.broken
        assert (route.transport, route.nexthop) == ("error", BAD_SYNTAX)
    else:
        kind = route.address_class.value
        assert [kind, found.routed, route.transport, route.nexthop, route.recipient] == expected
        assert not found.broken


def test_it_is_a_router() -> None:
    verifyObject(IRouter, SITE)
    assert now(SITE.resolve("", "joe@my.domain")).transport == "local"


def test_relay_by_default_has_the_recipients_domain() -> None:
    plain = router(relay_domains="relayed.tld")
    assert now(plain.explain("", "a@sub.relayed.tld")).route.nexthop == "sub.relayed.tld"
    assert now(plain.address_class("a@sub.relayed.tld")) is AddressClass.RELAY
    assert now(plain.address_class("a")) is AddressClass.LOCAL
    assert now(plain.address_class("a@b..c")) is AddressClass.DEFAULT


@pytest.mark.parametrize(
    ("entry", "result"),
    [
        (":", ("smtp", "[old]")),
        (":[new]", ("smtp", "[new]")),
        ("uucp", ("uucp", "a.b")),
        ("uucp:", ("uucp", "a.b")),
        ("uucp:host", ("uucp", "host")),
        ("smtp:[h]:26", ("smtp", "[h]:26")),
        ("error:5.1.1 no: never", ("error", "5.1.1 no: never")),
        ("error:", ("error", "Address is undeliverable")),
        ("retry:", ("retry", "Address is undeliverable")),
        ("discard:", ("discard", "a.b")),
    ],
)
def test_transport_entries(entry: str, result: tuple[str, str]) -> None:
    assert changed(entry, "smtp", "[old]", "a.b") == result


def test_wildcard_and_parents() -> None:
    table = "inline:{{*=smtp:[all]}, {.a.tld=smtp:[below]}, {b.tld=:}}"
    some = router(transport_maps=table)
    assert now(some.explain("", "x@y.z")).route.nexthop == "[all]"
    assert now(some.explain("", "x@c.a.tld")).route.nexthop == "[below]"
    assert now(some.explain("", "x@a.tld")).route.nexthop == "[all]"
    assert now(some.explain("", "x@b.tld")).route.nexthop == "b.tld"
    parents = router(transport_maps="inline:{a.tld=x:y}", parent_domain_matches_subdomains="transport_maps")
    assert now(parents.explain("", "x@c.a.tld")).route.nexthop == "y"


def test_patterns_see_whole_addresses_only() -> None:
    some = router(transport_maps="regexp:{{/^user@a\\.tld$$/ x:y}, {/^a\\.tld$$/ wrong:}, {/^\\*$$/ all:}}")
    assert now(some.explain("", "user@a.tld")).route.transport == "x"
    assert now(some.explain("", "user+ext@a.tld")).route.transport == "all"


def test_options() -> None:
    assert now(router(resolve_null_domain="yes").explain("", "joe@")).route.recipient == "joe@gw.my.domain"
    numeric = router(resolve_numeric_domain="yes")
    assert now(numeric.explain("", "joe@192.0.2.1")).route.transport == "local"
    assert now(numeric.explain("", "joe@192.0.2.9")).route.recipient == "joe@[192.0.2.9]"
    shut = router(resolve_dequoted_address="no")
    assert now(shut.explain("", '"a@b.tld"@my.domain')).route.recipient == '"a@b.tld"@my.domain'
    assert not now(router(allow_min_user="yes").explain("", "-x@a.tld")).broken
    shown = router(virtual_alias_domains="alias.tld", show_user_unknown_table_name="no")
    assert now(shown.explain("", "a@alias.tld")).route.nexthop == "5.1.1 User unknown"


def test_probes_have_parameters_of_their_own() -> None:
    probe = router("address_verify_", relayhost="[smart]", address_verify_relayhost="")
    assert now(probe.explain("", "a@b.tld")).route.nexthop == "b.tld"


def test_acceptable() -> None:
    for address in ("a@b.c", "joe", '"a b"@c.d', "a@[192.0.2.9]", "a@b.", "a..b@c", "a@v_x.b"):
        assert now(SITE.acceptable(address)), address
    for address in ("a@b..c", "a@-b", "a@b/../c", "a@", "-a@b", "a@1.2.3.4", "a@[x]", "a@.b"):
        assert not now(SITE.acceptable(address)), address


def test_a_table_that_is_away_is_an_error() -> None:
    away = ("transport_maps", "relocated_maps", "virtual_mailbox_domains", "relay_domains", "mydestination",
            "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps")  # fmt: skip
    for parameter in away:
        broken = router(**{parameter: "fail:4.3.0"})
        with pytest.raises(TableError):
            now(broken.resolve("s@x.y", "a@b.c"))


def test_a_null_transport_is_an_error() -> None:
    with pytest.raises(TableError, match="null transport"):
        now(router(default_transport=":x").resolve("", "a@b.c"))


def test_empty_results_are_ignored() -> None:
    assert unquote(now(SITE.resolve("d@x.y", "a@b.c")).nexthop) == "[smart]:587"
