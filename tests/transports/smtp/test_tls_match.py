"""Names of certificates, compared with what OpenSSL itself says."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.smtp.certificates import DER, Certificate
from transports.smtp.tls_match import fits, name_that_fits, vouches, wanted_names

NO_PARTIAL_WILDCARDS = 4


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("mx.test", "mx.test", True), ("MX.Test", "mx.test", True), ("mx.test", "a.mx.test", False),
        ("*.example.com", "mx.example.com", True), ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False), ("*.example.com", ".example.com", True),
        ("*.com", "example.com", False), ("mx*.example.com", "mx1.example.com", False), ("*", "example", False),
        ("a.*.example.com", "a.b.example.com", False), ("*.example.com", "xn--a.example.com", True),
        ("a.b.example.com", ".example.com", True), ("example.com", ".example.com", False),
        ("xexample.com", ".example.com", False), (".example.com", ".example.com", True),
        ("mx.test\0.evil.test", "mx.test", False), ("a\0b.example.com", ".example.com", False),
        ("*.example.com", "a\0b.example.com", False), ("*.-a.example.com", "x.-a.example.com", False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, name: str, good: bool) -> None:
    assert fits(pattern, name) is good


def test_keywords() -> None:
    match = ("nexthop", "dot-nexthop", "Hostname", "Other.test", ".dot.test", "bücher.test")
    assert wanted_names(match, "Hop.test", "mx.hop.test") == [
        "hop.test", ".hop.test", "mx.hop.test", "other.test", ".dot.test", "xn--bcher-kva.test",
    ]  # fmt: skip
    assert wanted_names(match[:3], "", "") == []


def test_where_names_stand() -> None:
    def found(certificate: Certificate, *names: str) -> str:
        return name_that_fits(certificate.certificate, names)

    assert found(Certificate("cn.test", ["a.test", "b.test"]), "cn.test", "b.test") == "b.test"
    assert found(Certificate("cn.test", ["192.0.2.1"]), "cn.test") == "cn.test"
    assert found(Certificate("cn.test", ["192.0.2.1"]), "192.0.2.1") == "192.0.2.1"
    assert found(Certificate("192.0.2.1", ["a.test"]), "192.0.2.1") == ""
    assert found(Certificate(""), "cn.test") == ""


LABELS = st.sampled_from(["a", "b", "*", "xn--a", "a-b", "-a", "mx*", "", "com", "A"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@settings(max_examples=300, deadline=None)
@given(pattern=NAMES.filter(bool), name=NAMES.filter(bool))
def test_openssl_agrees(pattern: str, name: str) -> None:
    """As Postfix asks it: X509_check_host(3) without partial wildcards."""
    library = _libcrypto()
    name = name.lower()
    try:
        der = Certificate("none", [pattern]).certificate.public_bytes(DER)
    except ValueError:
        return
    buffer = ctypes.c_char_p(der)
    parsed = library.d2i_X509(None, ctypes.byref(buffer), len(der))
    assert parsed
    try:
        said = library.X509_check_host(ctypes.c_void_p(parsed), name.encode(), len(name), NO_PARTIAL_WILDCARDS, None)
    finally:
        library.X509_free(ctypes.c_void_p(parsed))
    assert fits(pattern, name) is (said == 1), (pattern, name)


def _libcrypto() -> ctypes.CDLL:
    found = ctypes.util.find_library("crypto")
    if found is None:
        pytest.skip("needs libcrypto")
    library = ctypes.CDLL(found)
    library.d2i_X509.restype = ctypes.c_void_p
    return library


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_keys_that_vouch(kind: str) -> None:
    root, other = Certificate("Root", authority=True, kind=kind), Certificate("Root", authority=True, kind=kind)
    signed = Certificate("mx.test", ["mx.test"], root)
    assert vouches(root.key.public_key(), signed.certificate)
    assert not vouches(other.key.public_key(), signed.certificate)
    assert not vouches(Certificate(kind="rsa" if kind == "ec" else "ec").key.public_key(), signed.certificate)
    assert not vouches(None, signed.certificate)
