from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.addresses.syntax import (
    AddressError,
    Extensions,
    is_numeric,
    is_utf8,
    literal_address,
    parse_path,
    split_address,
    to_ascii,
    valid_domain,
    valid_hostname,
    xtext_decode,
    xtext_encode,
)
from gateway.config import Settings

# --- paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<a@b>", "a@b"),
        ("a@b", "a@b"),
        ("<@r,@s:a@b>", "a@b"),
        ("Name <a@b>", "a@b"),
        ("a@b (c)", "a@b"),
        ("<a(c)@b>", "a@b"),
        ("<>", ""),
        ('<"">', ""),
        ('"a"@"b"', "a@b"),
        ('<"a\\"b"@c>', '"a\\"b"@c'),
        ('<"a>b"@c>', '"a>b"@c'),
        ('<"x y"@[192.0.2.1]>', '"x y"@[192.0.2.1]'),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("<a@b.>", "a@b."),
        ("<a@b@c>", '"a@b"@c'),
        ("<a..b@c>", '"a..b"@c'),
        ("<.a@c>", '".a"@c'),
        ("<a@b:c@d>", '"a@b:c"@d'),
        ("< a@b >", "a@b"),
        ("<<a@b>>", "a@b"),
        ("<far.tld!bang>", "far.tld!bang"),
        ("<é@b>", "é@b"),
        ("<" + "a" * 65 + "@b.c>", "a" * 65 + "@b.c"),
    ],
)
def test_paths(path: str, address: str) -> None:
    assert parse_path(path, allow_empty=True) == address


@pytest.mark.parametrize(
    "path",
    ["<a;b@c>", "<a,b@c>", "<a b@c>", "<>", '<"">', "", "<a@b> <c@d>"]
    + ['<"x\ny"@d>', "<a\0@b>", '<"a\x7f"@b>', "<a\r@b>"],
)
def test_no_paths(path: str) -> None:
    with pytest.raises(AddressError):
        parse_path(path)


@pytest.mark.parametrize("path", ["a@b", "Name <a@b>", "<a@b> (c)", "<@r>"])
def test_strict(path: str) -> None:
    with pytest.raises(AddressError):
        parse_path(path, strict=True)


def test_strict_takes_proper_paths() -> None:
    assert parse_path("<a@b>", strict=True) == "a@b"
    assert parse_path('<@r:"a b"@c>', strict=True) == '"a b"@c'
    assert parse_path("<>", strict=True, allow_empty=True) == ""


@given(st.text(alphabet='ab@.<>()[]",;:\\ %!\t\né\udc80', max_size=25), st.booleans(), st.booleans())
@settings(max_examples=300)
def test_any_text_is_a_path_or_an_address_error(text: str, strict: bool, empty: bool) -> None:
    try:
        address = parse_path(text, strict=strict, allow_empty=empty)
    except AddressError:
        return
    assert empty or address
    assert not any(ord(character) < 32 or ord(character) == 127 for character in address)
    if valid_domain(address.rpartition("@")[2]):
        assert parse_path(f"<{address}>") == address


@pytest.mark.parametrize(
    "unit", ["a.", "a,", "<", "(", "\\", '"', "[", "a@", "@a:", "a<b>", "a:", ";", "!", "a b ", ")"]
)
def test_time_is_linear(unit: str) -> None:
    def spent(count: int) -> float:
        start = time.process_time()
        try:
            parse_path("<" + unit * count + ">")
        except AddressError:
            pass
        return time.process_time() - start

    spent(1000)
    assert spent(40000) < 100 * max(spent(4000), 0.001)


# --- extensions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "delimiters", "user", "extension"),
    [
        ("joe+ext", "+", "joe", "ext"),
        ("joe", "+", "joe", ""),
        ("joe+a+b", "+", "joe", "a+b"),
        ("joe-dash+plus", "+-", "joe", "dash+plus"),
        ("joe+", "+", "joe", ""),
        ("+ext", "+", "+ext", ""),
        ("joe+ext", "", "joe+ext", ""),
        ("owner-list", "-", "owner-list", ""),
        ("Owner-list+x", "+-", "Owner-list+x", ""),
        ("owner-list+x", "+", "owner-list", "x"),
        ("list-request", "-", "list-request", ""),
        ("-request", "-", "-request", ""),
        ("list-requests", "-", "list", "requests"),
        ("double-bounce", "-", "double-bounce", ""),
        ("MAILER-DAEMON", "-", "MAILER-DAEMON", ""),
        ("postmaster-x", "-", "postmaster", "x"),
    ],
)
def test_split_address(local: str, delimiters: str, user: str, extension: str) -> None:
    assert split_address(local, delimiters) == (user, extension)


def test_extensions_of_settings() -> None:
    extensions = Extensions.of(Settings({"recipient_delimiter": "-", "owner_request_special": "no"}))
    assert extensions.strip("owner-x@y") == ("owner@y", "-x")
    assert extensions.strip("owner@y") == ("owner@y", "")
    assert extensions.strip("owner-x") == ("owner", "-x")


# --- domains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "a.b", "v_x.b", "1a.2", "x--y.z", "a" * 63 + ".b", "_dmarc.a", "b_.c", "é.tld", "123.x"]
)
def test_hostnames(name: str) -> None:
    assert valid_hostname(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a/../b", "a b", "192.0.2.1", "1.2", "a" * 64 + ".b", "a@b",
     "a" * 63 + ".b" * 100, "é" * 300, "\udc80.a", "a:b", "xn--é..b"],
)  # fmt: skip
def test_no_hostnames(name: str) -> None:
    assert not valid_hostname(name)


@given(st.text(max_size=40))
@settings(max_examples=200)
def test_any_text_is_a_hostname_or_not(name: str) -> None:
    assert valid_hostname(name) in (True, False)
    assert literal_address(name) is None or name.startswith("[")


def test_literals() -> None:
    assert literal_address("[192.0.2.1]") == "192.0.2.1"
    assert literal_address("[IPv6:2001:DB8:0::1]") == "2001:db8::1"
    assert literal_address("[ipv6:::1]") == "::1"
    for wrong in ("[192.0.2]", "[192.0.2.256]", "[::1]", "[IPv6:x]", "[IPv6:fe80::1%eth0]", "192.0.2.1", "[a.b]", "["):
        assert literal_address(wrong) is None
    assert valid_domain("[192.0.2.1]")
    assert not valid_domain("[a.b]")
    assert is_numeric("192.0.2.1")
    assert not is_numeric("a.b")


def test_idna_and_utf8() -> None:
    assert to_ascii("bücher.example") == "xn--bcher-kva.example"
    assert to_ascii("a.b") == "a.b"
    assert to_ascii("\udc80") == ""
    assert is_utf8("é@b")
    assert not is_utf8("\udce9@b")


# --- xtext -----------------------------------------------------------------------------------------------------


def test_xtext() -> None:
    assert xtext_encode('a+b=c "é"') == 'a+2Bb+3Dc+20"+C3+A9"'
    assert xtext_decode("a+2Bb+3Dc+20") == "a+b=c "
    for wrong in ("+ZZ", "+2", "a b", "a=b", "é", "+0D+0A", "+00", "+2b"):
        with pytest.raises(AddressError):
            xtext_decode(wrong)


@given(st.binary(max_size=30))
@settings(max_examples=200)
def test_xtext_is_undone(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    encoded = xtext_encode(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    if not any(byte < 32 or byte == 127 for byte in data):
        assert xtext_decode(encoded) == text


def test_half_matched_words_are_not_let_through() -> None:
    """Possessive groups would: the short cuts for plain addresses must not take these for plain."""
    assert parse_path("<dotted.@far.tld>") == '"dotted."@far.tld'
    with pytest.raises(AddressError):
        xtext_decode("a+2")
