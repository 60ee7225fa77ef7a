from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.addresses.qualify import Qualifier, Rules, is_plain
from gateway.config import Settings
from tests.gateway.addresses.support import cases

SITE = Qualifier(Rules("my.domain", "my.domain"))


@pytest.mark.parametrize(("address", "expected"), cases("standard-form"))
def test_as_postfix_does(address: str, expected: str) -> None:
    assert SITE(address) == expected


def test_parameters() -> None:
    values = {"myhostname": "gw.my.domain", "myorigin": "here.example", "append_dot_mydomain": "yes"}
    local = Qualifier(Rules.local(Settings(values)))
    assert [local(address) for address in ("a", "a@b", "x!y", "x%y")] == [
        "a@here.example", "a@b.my.domain", "y@x.my.domain", "x@y.my.domain",
    ]  # fmt: skip
    off = {"append_at_myorigin": "no", "append_dot_mydomain": "no", "swap_bangpath": "no", "allow_percent_hack": "no"}
    local = Qualifier(Rules.local(Settings({**values, **off})))
    for address in ("a", "a@b", "x!y", "x%y"):
        assert local(address) == address
    remote = Qualifier(Rules.remote(Settings({**values, "remote_header_rewrite_domain": "domain.invalid"})))
    assert remote("a") == "a@domain.invalid"
    assert remote("a@b") == "a@b.domain.invalid"


def test_the_null_sender_stays() -> None:
    assert SITE("") == ""


@given(st.text(alphabet="ab@.<>()[]\",;:\\ %!\té", max_size=20))
@settings(max_examples=300)
def test_any_text_is_answered_and_plain_ones_stay(text: str) -> None:
    result = SITE(text)
    if is_plain(text):
        assert result == text


def test_the_memory_is_bounded() -> None:
    qualify = Qualifier(Rules("my.domain", "my.domain"))
    for number in range(10000):
        qualify(f"user{number}")
    assert len(qualify._known) <= 4096


def test_what_is_not_plain() -> None:
    odd = 'a.@b.c .a@b.c a@b.c. a@b a@b..c a@@b.c a%b@c.d a!b@c.d "a"@b.c a@[1.2]'
    for address in [*odd.split(), "a b@c.d"]:
        assert not is_plain(address), address
