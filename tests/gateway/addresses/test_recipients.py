from __future__ import annotations

import pytest

from gateway.addresses.recipients import Destination, Recipients, Unknown
from gateway.interfaces import AddressClass, TableError
from tests.gateway.addresses.support import OWN_ADDRESSES, now, site

_TABLES = {
    "transport_maps": "texthash:transport",
    "relocated_maps": "texthash:relocated",
    "virtual_alias_domains": "alias.tld",
    "virtual_alias_maps": "inline:{known@alias.tld=joe}",
    "virtual_mailbox_domains": "box.tld",
    "virtual_mailbox_maps": "inline:{v@box.tld=x}",
    "relay_domains": "relayed.tld",
    "relay_recipient_maps": "inline:{r@relayed.tld=x, @wild.relayed.tld=x}",
    "local_recipient_maps": "inline:{joe=x, root=x}",
    "unknown_local_recipient_reject_code": "450",
}


def recipients(**values: str) -> Recipients:
    bench = site(**{**_TABLES, **values})
    return Recipients.from_settings(bench.settings, bench.tables, OWN_ADDRESSES, bench.log)


SITE = recipients()


def unknown(address: str, sender: bool = False, of: Recipients = SITE) -> Unknown | None:
    return now(of.unknown_user(now(of.destination(address)), sender))


@pytest.mark.parametrize(
    ("address", "code", "as_recipient", "as_sender", "text"),
    [
        ("nobody@my.domain", 450, "4.1.1", "4.1.0", "User unknown in local recipient table"),
        ("nobody", 450, "4.1.1", "4.1.0", "User unknown in local recipient table"),
        ("nobody@[192.0.2.1]", 450, "4.1.1", "4.1.0", "User unknown in local recipient table"),
        ('"x y"@my.domain', 450, "4.1.1", "4.1.0", "User unknown in local recipient table"),
        ("x@alias.tld", 550, "5.1.1", "5.1.7", "User unknown in virtual alias table"),
        ("x@box.tld", 550, "5.1.1", "5.1.0", "User unknown in virtual mailbox table"),
        ("x@relayed.tld", 550, "5.1.1", "5.1.0", "User unknown in relay recipient table"),
        ("gone@my.domain", 550, "5.1.6", "5.1.7", "User has moved to new@place"),
        ("a@err.tld", 550, "5.1.1", "5.1.0", "nope nope"),
        ("a@err3.tld", 550, "5.7.1", "5.7.1", "go: away"),
        ("a@err9.tld", 550, "5.1.0", "5.1.0", "not here"),
        ("a@retry.tld", 450, "4.0.0", "4.0.0", "later"),
    ],
)
def test_unknown_as_postfix_says(address: str, code: int, as_recipient: str, as_sender: str, text: str) -> None:
    assert unknown(address) == Unknown(code, as_recipient, text)
    assert unknown(address, sender=True) == Unknown(code, as_sender, text)
    assert now(SITE.unknown_recipient(address)) == text


@pytest.mark.parametrize(
    "address",
    ["joe@my.domain", "JOE+x@gw.My.Domain", "joe", "joe@[192.0.2.1]", "postmaster@my.domain", "double-bounce@my.domain",
     "MAILER-DAEMON", "known@alias.tld", "v+x@box.tld", "R@relayed.tld", "any@wild.relayed.tld", "a@disc.tld", "x@y.z"],
)  # fmt: skip
def test_known(address: str) -> None:
    assert unknown(address) is None
    assert now(SITE.unknown_recipient(address)) is None


def test_an_empty_parameter_knows_everybody() -> None:
    free = recipients(local_recipient_maps="", relay_recipient_maps="", virtual_mailbox_maps="")
    for address in ("nobody@my.domain", "x@relayed.tld", "x@box.tld"):
        assert unknown(address, of=free) is None


def test_canonical_addresses_are_known() -> None:
    mapped = recipients(canonical_maps="inline:{a=b}", recipient_canonical_maps="inline:{r=b}",
                        sender_canonical_maps="inline:{s=b}")  # fmt: skip
    assert unknown("a@my.domain", of=mapped) is None
    assert unknown("r@my.domain", of=mapped) is None
    assert unknown("s@my.domain", of=mapped) is not None
    assert unknown("s@my.domain", sender=True, of=mapped) is None


def test_codes_and_names_of_tables_are_parameters() -> None:
    other = recipients(unknown_virtual_alias_reject_code="450", show_user_unknown_table_name="no")
    assert unknown("x@alias.tld", of=other) == Unknown(450, "4.1.1", "User unknown")
    assert unknown("x@alias.tld", sender=True, of=other) == Unknown(450, "4.1.7", "User unknown")
    assert unknown("x@box.tld", of=other) == Unknown(550, "5.1.1", "User unknown")


def test_destination() -> None:
    found = now(SITE.destination('"A b"%B.tld@MY.domain'))
    assert found.address_class is AddressClass.DEFAULT
    assert now(SITE.destination("Joe%Map.tld@my.domain")) == Destination(
        "joe@map.tld", AddressClass.DEFAULT, "smtp", "[dom]", False
    )
    assert now(SITE.destination("a%b@far.tld")).routed


def test_a_table_that_is_away_says_nothing_about_the_syntax() -> None:
    made = recipients(mydestination="$myhostname, fail:away")
    assert now(made.acceptable("joe@far.tld"))


def test_acceptable() -> None:
    assert now(SITE.acceptable(""))
    assert now(SITE.acceptable("joe"))
    assert not now(SITE.acceptable("a@b..c"))


def test_a_table_that_is_away_is_an_error() -> None:
    for parameter in ("local_recipient_maps", "canonical_maps", "virtual_alias_maps", "transport_maps"):
        with pytest.raises(TableError):
            unknown("nobody@my.domain", of=recipients(**{parameter: "fail:4.3.0"}))
