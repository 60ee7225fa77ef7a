"""As Postfix 3.7 does it."""

from __future__ import annotations

import pytest

from gateway.addresses.login_senders import LoginSenders
from tests.gateway.addresses.support import now, site

RULES = "inline:{{joe = joe, list@gw.my.domain, @lists.tld} {ann = *} {bob = <> bob@gw.my.domain} {uid:99 = x@y}}"


@pytest.mark.parametrize(
    ("login", "sender", "allowed"),
    [
        ("joe", "joe", True), ("joe", "joe+ext", True), ("joe", "JOE", True), ("joe", "joe@gw.my.domain", False),
        ("joe", "list@gw.my.domain", True), ("joe", "List+x@GW.my.domain", True), ("joe", "any@LISTS.tld", True),
        ("joe", "x@sub.lists.tld", False), ("joe", "ann", False), ("joe", "", False), ("ann", "who@ever.tld", True),
        ("ann", "", True), ("bob", "", True), ("bob", "bob", False), ("bob", "bob@gw.my.domain", True),
        ("eve", "eve", False), ("uid:99", "x@y", True),
    ],
)  # fmt: skip
def test_who_may_name_whom(login: str, sender: str, allowed: bool) -> None:
    bench = site(local_login_sender_maps=RULES, recipient_delimiter="+")
    senders = LoginSenders.of(bench.settings, bench.tables, "pickup")
    assert senders is not None and now(senders.allow(login, sender)) is allowed


def test_everybody_may_name_anybody() -> None:
    bench = site()
    assert LoginSenders.of(bench.settings, bench.tables, "pickup") is None
