from __future__ import annotations

from typing import Any

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.addresses.masquerade import Masquerade
from gateway.addresses.rewriting import ALL_PLACES, Generic, Rewriting, blind_copies
from gateway.addresses.virtual import ExpansionError
from gateway.config.findings import ConfigError
from gateway.interfaces import IAddressRewriter, Place, TableError
from tests.gateway.addresses.support import OWN_ADDRESSES, Bench, now, site


def rewriting(**values: str) -> Rewriting:
    return of(site(**values))


def of(bench: Bench) -> Rewriting:
    return Rewriting.from_settings(bench.settings, bench.tables, OWN_ADDRESSES, bench.log)


def header(made: Rewriting, name: str, value: str, context: str = "local") -> str:
    return now(made.header(name, value.encode(), context)).decode()


# --- standard form ---------------------------------------------------------------------------------------------


def test_envelope() -> None:
    made = rewriting()
    assert now(made.envelope_sender("joe")) == "joe@my.domain"
    assert now(made.envelope_sender("")) == ""
    assert now(made.envelope_sender('""')) == ""
    assert now(made.envelope_recipient('""')) == "MAILER-DAEMON@my.domain"
    assert now(made.envelope_sender("joe@far.tld")) == "joe@far.tld"
    assert now(made.envelope_recipient("x%far.tld")) == "x@far.tld"
    assert now(made.envelope_recipient("")) == "MAILER-DAEMON@my.domain"
    assert now(made.expand("joe@my.domain")) == ["joe@my.domain"]


def test_mailer_daemon_of_this_site_is_nobody() -> None:
    made = rewriting()
    assert now(made.envelope_sender("MAILER-DAEMON")) == ""
    assert now(made.envelope_sender("mailer-daemon@my.domain")) == ""
    assert now(made.envelope_sender("MAILER-DAEMON@gw.my.domain")) == "MAILER-DAEMON@gw.my.domain"


def test_header_contexts() -> None:
    made = rewriting(remote_header_rewrite_domain="domain.invalid")
    assert header(made, "To", "joe, a@plain, x@y.z") == "joe@my.domain, a@plain.my.domain, x@y.z"
    assert header(made, "to", "joe, a@plain", "remote") == "joe@domain.invalid, a@plain.domain.invalid"
    assert header(made, "To", "joe", "") == "joe"
    assert header(rewriting(), "To", "joe", "remote") == "joe"
    assert header(made, "X-To", "joe") == "joe"


def test_what_stays_is_the_same_object() -> None:
    value = b"Joe <joe@far.tld>"
    for made in (rewriting(), rewriting(canonical_maps="inline:{x@y.z=a}"), rewriting(masquerade_domains="my.domain")):
        assert now(made.header("From", value, "local")) is value


# --- canonical -------------------------------------------------------------------------------------------------

_CANONICAL = {
    "canonical_maps": "inline:{joe=Joe.User@my.domain, @old.tld=@new.tld, ann@ext.tld=ann.public@my.domain}",
    "sender_canonical_maps": "inline:{boss=chief@my.domain}",
    "recipient_canonical_maps": "inline:{boss=desk@my.domain}",
}


def test_canonical() -> None:
    made = rewriting(**_CANONICAL)
    assert now(made.envelope_sender("joe")) == "Joe.User@my.domain"
    assert now(made.envelope_recipient("joe+ext@my.domain")) == "Joe.User+ext@my.domain"
    assert now(made.envelope_recipient("ann+ext@ext.tld")) == "ann.public+ext@my.domain"
    assert now(made.envelope_recipient('"a b+x"@old.tld')) == '"a b+x"@new.tld'
    assert now(made.envelope_sender("boss")) == "chief@my.domain"
    assert now(made.envelope_recipient("boss")) == "desk@my.domain"


def test_canonical_in_headers() -> None:
    made = rewriting(**_CANONICAL)
    assert header(made, "From", "boss, joe") == "chief@my.domain, Joe.User@my.domain"
    assert header(made, "Cc", "boss (Boss)") == "desk@my.domain (Boss)"
    assert header(made, "Reply-To", 'Group: a@old.tld, "B, C" <b@old.tld>;') == 'Group: a@new.tld, "B, C" <b@new.tld>;'
    assert header(made, "Resent-Reply-To", "boss") == "desk@my.domain"


def test_canonical_classes() -> None:
    made = rewriting(canonical_maps="inline:{@old.tld=@new.tld}", canonical_classes="envelope_sender, header_sender")
    assert now(made.envelope_sender("x@old.tld")) == "x@new.tld"
    assert now(made.envelope_recipient("x@old.tld")) == "x@old.tld"
    assert header(made, "From", "x@old.tld") == "x@new.tld"
    assert header(made, "To", "x@old.tld") == "x@old.tld"
    with pytest.raises(ConfigError, match="canonical_classes"):
        rewriting(canonical_maps="inline:{a=b}", canonical_classes="sender")


def test_extensions_are_propagated_on_demand() -> None:
    made = rewriting(canonical_maps="inline:{joe=ann@far.tld}", propagate_unmatched_extensions="virtual")
    assert now(made.envelope_recipient("joe+x@my.domain")) == "ann@far.tld"


def test_a_chain_is_followed_and_a_circle_not_for_ever() -> None:
    bench = site(canonical_maps="inline:{a@x.y=b@x.y, b@x.y=c@x.y, l@x.y=m@x.y, m@x.y=l@x.y}")
    made = of(bench)
    assert now(made.envelope_sender("a@x.y")) == "c@x.y"
    assert now(made.envelope_sender("l@x.y")) == "l@x.y"
    assert "unreasonable canonical_maps map nesting for l@x.y" in bench.log.text


def test_several_results_are_warned_of() -> None:
    bench = site(canonical_maps="inline:{{a@x.y=b@x.y, c@x.y}}")
    assert now(of(bench).envelope_sender("a@x.y")) == "b@x.y"
    assert "multi-valued canonical_maps entry for a@x.y" in bench.log.text


def test_a_table_that_is_away_is_an_error() -> None:
    made = rewriting(canonical_maps="fail:4.3.0", virtual_alias_maps="fail:4.3.0")
    with pytest.raises(TableError):
        now(made.envelope_sender("a@x.y"))
    with pytest.raises(TableError):
        now(made.header("From", b"a@x.y", "local"))
    with pytest.raises(TableError):
        now(made.expand("a@x.y"))


def test_without_mappings() -> None:
    made = rewriting(**_CANONICAL, virtual_alias_maps="inline:{joe=x}").without_mappings()
    assert now(made.envelope_sender("joe")) == "joe@my.domain"
    assert now(made.expand("joe@my.domain")) == ["joe@my.domain"]


# --- masquerading ----------------------------------------------------------------------------------------------


def masqueraded(address: str, domains: str, exceptions: str = "") -> str:
    made = rewriting(masquerade_domains=domains, masquerade_exceptions=exceptions)
    return now(made.envelope_sender(address))


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("jane@pc5.my.domain", "jane@my.domain"),
        ("jane@a.b.PC5.My.Domain", "jane@my.domain"),
        ("joe@somehost.my.domain", "joe@somehost.my.domain"),
        ("joe@below.somehost.my.domain", "joe@somehost.my.domain"),
        ("joe@notsomehost.my.domain", "joe@my.domain"),
        ("joe@my.domain", "joe@my.domain"),
        ("joe@xmy.domain", "joe@xmy.domain"),
        ("joe@a.kept.my.domain", "joe@a.kept.my.domain"),
        ("root@pc5.my.domain", "root@pc5.my.domain"),
        ('"a b"@pc5.my.domain', '"a b"@my.domain'),
    ],
)
def test_masquerade(address: str, result: str) -> None:
    assert masqueraded(address, "somehost.my.domain !kept.my.domain my.domain", "root") == result


def test_masquerade_classes_and_empty_entries() -> None:
    made = rewriting(masquerade_domains="! my.domain")
    assert now(made.envelope_recipient("a@b.my.domain")) == "a@b.my.domain"
    assert header(made, "To", "a@b.my.domain") == "a@my.domain"
    assert now(Masquerade(["a.b"], None, ALL_PLACES).rewrite("nobody", Place.ENVELOPE_SENDER)) == "nobody"


# --- steps -----------------------------------------------------------------------------------------------------


@implementer(IAddressRewriter)
class Shout:
    name = "shout"
    places = frozenset((Place.ENVELOPE_SENDER,))

    async def rewrite(self, address: str, place: Place) -> str:
        return address.upper()


def test_steps_in_their_order_and_plug_ins() -> None:
    made = rewriting(**_CANONICAL, masquerade_domains="my.domain")
    steps: list[Any] = made.steps
    names = [step.name for step in steps]
    assert names[1:] == ["sender_canonical_maps", "recipient_canonical_maps", "canonical_maps", "masquerade_domains"]
    for step in steps:
        verifyObject(IAddressRewriter, step)
    assert now(steps[0].rewrite("joe", Place.ENVELOPE_SENDER)) == "joe@my.domain"
    steps.append(Shout())
    assert now(made.envelope_sender("x@y.z")) == "X@Y.Z"
    assert now(made.envelope_recipient("x@y.z")) == "x@y.z"


# --- virtual aliases -------------------------------------------------------------------------------------------

_VIRTUAL = (
    "inline:{info@virtual.tld=joe, {sales@virtual.tld=ann, joe@gw.my.domain, outside@remote.example}, "
    "chain@virtual.tld=info@virtual.tld, loop@virtual.tld=loop@virtual.tld, @second.tld=@virtual.tld, "
    "moved@gw.my.domain=ann+moved, bare=joe, keep@virtual.tld=joe+own, a@v.tld=b@v.tld, b@v.tld=a@v.tld, "
    "{self@v.tld=self@v.tld, other@v.tld}, other@v.tld=joe}"
)


@pytest.mark.parametrize(
    ("address", "results"),
    [
        ("info@virtual.tld", ["joe@my.domain"]),
        ("info+ext@virtual.tld", ["joe+ext@my.domain"]),
        ("keep+virt@virtual.tld", ["joe+own+virt@my.domain"]),
        ("sales@virtual.tld", ["ann@my.domain", "joe@gw.my.domain", "outside@remote.example"]),
        ("chain@virtual.tld", ["joe@my.domain"]),
        ("info@second.tld", ["joe@my.domain"]),
        ("nobody@second.tld", ["nobody@virtual.tld"]),
        ("loop@virtual.tld", ["loop@virtual.tld"]),
        ("bare@gw.my.domain", ["joe@my.domain"]),
        ("moved@gw.my.domain", ["ann+moved@my.domain"]),
        ("unknown@virtual.tld", ["unknown@virtual.tld"]),
        ("self@v.tld", ["self@v.tld", "joe@my.domain"]),
        ('"info"@virtual.tld', ["joe@my.domain"]),
    ],
)
def test_virtual(address: str, results: list[str]) -> None:
    made = rewriting(virtual_alias_maps=_VIRTUAL)
    assert now(made.expand(now(made.envelope_recipient(address)))) == results


def test_expansion_without_end() -> None:
    made = rewriting(virtual_alias_maps=_VIRTUAL, virtual_alias_recursion_limit="10")
    with pytest.raises(ExpansionError, match=r"^unreasonable virtual_alias_maps map nesting for a@v\.tld -- message"):
        now(made.expand("a@v.tld"))
    table = r"regexp:{{/^(x*)@y\.z$$/ x$$1@y.z, x@w.z}}"
    growing = rewriting(virtual_alias_maps=table, virtual_alias_recursion_limit="50")
    with pytest.raises(ExpansionError, match="map nesting"):
        now(growing.expand("x@y.z"))


def test_expansion_too_wide() -> None:
    members = ", ".join(f"u{number}@x.y" for number in range(6))
    made = rewriting(virtual_alias_maps=f"inline:{{{{all@x.y={members}}}}}", virtual_alias_expansion_limit="5")
    with pytest.raises(ExpansionError, match="map expansion size for all@x.y") as caught:
        now(made.expand("all@x.y"))
    assert caught.value.reply == "4.6.0 Alias expansion error"
    enough = rewriting(virtual_alias_maps=f"inline:{{{{all@x.y={members}}}}}", virtual_alias_expansion_limit="6")
    assert len(now(enough.expand("all@x.y"))) == 6


def test_expansion_too_long() -> None:
    made = rewriting(virtual_alias_maps=f"inline:{{a@x.y={'b' * 50}}}", virtual_alias_address_length_limit="20")
    with pytest.raises(ExpansionError, match="unreasonable virtual_alias_maps result b+"):
        now(made.expand("a@x.y"))


# --- generic, copies -------------------------------------------------------------------------------------------


def test_generic() -> None:
    bench = site(smtp_generic_maps="inline:{joe@my.domain=joe@isp.tld, @my.domain=site@isp.tld}")
    generic = Generic.from_settings(bench.settings, bench.tables, OWN_ADDRESSES)
    assert generic is not None
    assert now(generic.address("joe@my.domain")) == "joe@isp.tld"
    assert now(generic.address("")) == ""
    assert now(generic.address("x@y.z")) == "x@y.z"
    assert now(generic.header("To", b"ann@my.domain, J <joe@my.domain>")) == b"site@isp.tld, J <joe@isp.tld>"
    assert now(generic.header("X-To", b"joe@my.domain")) == b"joe@my.domain"
    none = site()
    assert Generic.from_settings(none.settings, none.tables) is None


def test_blind_copies() -> None:
    bench = site(recipient_bcc_maps="inline:{ann@gw.my.domain=copy+of@gw.my.domain}")
    look_up = blind_copies("recipient_bcc_maps", bench.settings, bench.tables, OWN_ADDRESSES)
    assert look_up is not None
    assert now(look_up("ann+x@gw.my.domain")) == "copy+of@gw.my.domain"
    assert now(look_up("joe@gw.my.domain")) is None
    assert blind_copies("sender_bcc_maps", bench.settings, bench.tables) is None


def test_results_that_are_no_addresses() -> None:
    bad = "{nil@far.tld=<>} {comma@far.tld=,} {comment@far.tld=(nobody)} {list@far.tld=<>, a@b.tld}"
    made = rewriting(sender_canonical_maps=f"inline:{{ {bad} }}", recipient_canonical_maps=f"inline:{{ {bad} }}")
    assert now(made.envelope_sender("nil@far.tld")) == ""
    assert now(made.envelope_recipient("nil@far.tld")) == "MAILER-DAEMON@my.domain"
    assert now(made.envelope_recipient("list@far.tld")) == "a@b.tld"
    assert header(made, "From", "nil@far.tld") == '""'
    for address in ("comma@far.tld", "comment@far.tld"):
        with pytest.raises(TableError, match=f"recipient_canonical_maps lookup of {address} returns non-addr"):
            now(made.envelope_recipient(address))


def test_virtual_aliases_of_nobody() -> None:
    made = rewriting(virtual_alias_maps="inline:{ {nil@far.tld=<>} {both@far.tld=<>, a@b.tld} {comma@far.tld=,} }")
    assert now(made.expand("nil@far.tld")) == ["MAILER-DAEMON@my.domain"]
    assert now(made.expand("both@far.tld")) == ["a@b.tld"]
    with pytest.raises(TableError, match='virtual_alias_maps lookup of comma@far.tld returns non-address result ","'):
        now(made.expand("comma@far.tld"))
