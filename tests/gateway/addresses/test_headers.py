from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.addresses.headers import AddressField, is_simple, simple_addresses
from gateway.addresses.qualify import Qualifier, Rules
from tests.gateway.addresses.support import cases

_PIECES = ["a", "b", "@", ".", ",", ";", ":", "<", ">", "(", ")", '"', "[", "]", "\\", " ", "\n ", "%", "!", "é", "c.d"]
_VALUES = st.lists(st.sampled_from(_PIECES), max_size=20).map("".join)


def rewritten(value: bytes) -> bytes:
    qualify = Qualifier(Rules("my.domain", "my.domain"))
    field = AddressField(value)
    field.replace([qualify(address) for address in field.addresses])
    return field.render("To")


@pytest.mark.parametrize(("value", "expected"), cases("headers"))
def test_rewritten_as_postfix_does(value: str, expected: str) -> None:
    assert rewritten(value.encode()) == expected.encode()


def test_nothing_changed_nothing_touched() -> None:
    value = b' Joe\xff  <joe@a.b>  ,\n\t"x"  (odd  spacing) <\te@c.d >;  :'
    field = AddressField(value)
    field.replace(list(field.addresses))
    assert field.render("From") is value


def rewritten_up_to(limit: int, value: bytes) -> bytes:
    qualify = Qualifier(Rules("my.domain", "my.domain"))
    field = AddressField(value, limit)
    field.replace([qualify(address) for address in field.addresses])
    return field.render("To")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a, b, c, d, e, f, g", b"a@my.domain, b@my.domain, c@my.domain, "),
        (b"a.b.c.d.e@x", b'"a.b.c."@my.domain'),
        (b"a@b.c, d@e.f, g@h.i", b"a@b.c, d@e.f, g@h.i"),
        (b"One Two <a>, Three <b>", b"One Two <a@my.domain>, "),
    ],
)
def test_what_is_behind_the_token_limit_is_cut_off_when_an_address_changes(value: bytes, expected: bytes) -> None:
    assert rewritten_up_to(6, value) == expected


def test_no_limit() -> None:
    assert rewritten_up_to(0, b", ".join([b"a"] * 20000)).count(b"@my.domain") == 20000


@given(_VALUES)
@settings(max_examples=300)
def test_any_value_can_be_rewritten(text: str) -> None:
    value = text.encode()
    field = AddressField(value)
    field.replace([f"{number}@new.example" for number in range(len(field.addresses))])
    result = field.render("To")
    if not field.addresses:
        assert result is value
    again = AddressField(result)
    assert again.addresses == field.addresses
    assert not re.search(rb"\n(?![ \t])", result)


@given(_VALUES)
@settings(max_examples=300)
def test_what_is_simple_needs_no_rewriting(text: str) -> None:
    value = text.encode()
    if is_simple(value):
        assert rewritten(value) is value


def test_what_most_mail_has_is_simple() -> None:
    for value in (b"a@b.c", b"Joe Doe <joe@b.c>", b'"Doe, Joe" <joe@b.c>, x@y.z,\n\tJ. Q. <q@r.s>', b"<a@b.c>"):
        assert is_simple(value)
    odd = (b"a", b"a@b", b"a b@c.d", b"Joe <a>", b"a@b.c (x)", b"g: a@b.c;", b"a.@b.c", b"a@b.", b"<a.@b.c>")
    for value in (*odd, b'"x" y" <a@b.c>', b"a@b.c,, x@y.z", b"a@b.c; x@y.z"):
        assert not is_simple(value)


def test_addresses_of_a_value_in_standard_form() -> None:
    value = b'a.b@c.d, "x y@z.example" <-e@f.g>,\n h@i.k'
    assert simple_addresses(value) == ["a.b@c.d", "y@z.example", "-e@f.g", "h@i.k"]


def test_a_long_name_costs_little() -> None:
    value = b'"' + b"a." * 10_000 + b'" <a@b.example>'
    begin = time.perf_counter()
    assert is_simple(value) and simple_addresses(value) == ["a@b.example"]
    assert time.perf_counter() - begin < 0.1
