from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.addresses.forms import quote, split_domain, unquote

_LOCAL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
_DOMAIN = st.sampled_from(["a", "b.c", "[192.0.2.1]"])


@pytest.mark.parametrize(
    ("internal", "external"),
    [
        ("a@b", "a@b"),
        ("a.b@c", "a.b@c"),
        ("a b@c", '"a b"@c'),
        ("a@b@c", '"a@b"@c'),
        (".a@c", '".a"@c'),
        ("a.@c", '"a."@c'),
        ("a..b@c", '"a..b"@c'),
        ('a"b\\@c', '"a\\"b\\\\"@c'),
        ("é@c", "é@c"),
        ("@c", '""@c'),
        ("@r:a b@c", '@r:"a b"@c'),
        ("a", "a"),
        ("", '""'),
        ("a!b%c@d", "a!b%c@d"),
    ],
)
def test_both_forms(internal: str, external: str) -> None:
    assert quote(internal) == external
    assert unquote(external) == internal


@given(_LOCAL, _DOMAIN)
@settings(max_examples=200)
def test_quoting_is_undone(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    if not address.startswith("@") or ":" not in address:
        assert unquote(quote(address)) == address


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_has_both_forms(text: str) -> None:
    quote(unquote(text))
    unquote(quote(text))


def test_split_domain() -> None:
    assert split_domain('"a@b"@c') == ('"a@b"', "c")
    assert split_domain("a") == ("a", "")
