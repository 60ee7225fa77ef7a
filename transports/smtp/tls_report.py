"""What is told of a TLS connection, in Postfix's words: the summary, and why a certificate is not believed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cryptography import x509
from OpenSSL import SSL

from gateway.tls_facts import key_exchange, signature

_UNSAFE = re.compile(r"[^\x20-\x7e]")

SELF_SIGNED, NO_ISSUER, SELF_SIGNED_ABOVE, UNVERIFIED_LEAF = 18, 20, 19, 21
MISMATCH, NO_ANCHOR = 62, 65
EXPIRY = frozenset((9, 10, 13, 14))
_EARLY_ENOUGH, _LATE = frozenset((9, 13)), frozenset((10, 14))
_PURPOSE, TOO_LONG = 26, 22

_TEXTS = {
    1: "unspecified certificate verification error", 2: "unable to get issuer certificate",
    4: "unable to decrypt certificate's signature", 6: "unable to decode issuer public key",
    7: "certificate signature failure", 21: "unable to verify the first certificate", 23: "certificate revoked",
    24: "invalid CA certificate", 25: "path length constraint exceeded", 27: "certificate not trusted",
    28: "certificate rejected", 32: "key usage does not include certificate signing",
    34: "unhandled critical extension", 47: "permitted subtree violation", 48: "excluded subtree violation",
    62: "hostname mismatch", 65: "no matching DANE TLSA records", 66: "EE certificate key too weak",
    67: "CA certificate key too weak", 68: "CA signature digest algorithm too weak",
    79: "invalid CA certificate",
}


class Failure(NamedTuple):
    """Why a certificate is not believed: OpenSSL's number, where in the chain (0 = the server's own), by whom that
    certificate says it was issued."""

    number: int
    depth: int
    issuer: str = ""


def reason(failure: Failure, server: str, limit: int) -> str:
    """``server``: with its address and port; ``limit``: of the chain's length."""
    number, depth = failure.number, failure.depth
    whose = "CA" if depth else "server"
    if number == SELF_SIGNED:
        return f"certificate verification failed for {server}: self-signed certificate"
    if number in (NO_ISSUER, SELF_SIGNED_ABOVE):
        return f"certificate verification failed for {server}: untrusted issuer {failure.issuer}"
    if number in _EARLY_ENOUGH:
        return f"{whose} certificate verification failed for {server}: certificate not yet valid"
    if number in _LATE:
        return f"{whose} certificate verification failed for {server}: certificate has expired"
    if number == _PURPOSE:
        return f"certificate verification failed for {server}: not designated for use as a {whose} certificate"
    if number == TOO_LONG:
        return f"certificate verification failed for {server}: certificate chain longer than limit({limit})"
    text = _TEXTS.get(number, "certificate not accepted")
    return f"{whose} certificate verification failed for {server}: num={number}:{text}"


def issuer_of(certificate: x509.Certificate | None) -> str:
    """Who has signed it, as it says, as "/CN=…/O=…"."""
    return "<unknown>" if certificate is None else _one_line(lambda: certificate.issuer)


def subject_of(certificate: x509.Certificate | None) -> str:
    return "<unknown>" if certificate is None else _one_line(lambda: certificate.subject)


def _one_line(name: Callable[[], x509.Name]) -> str:
    try:
        parts = [f"/{each.rfc4514_attribute_name}={each.value!s}" for each in name()]
    except Exception:  # whatever is wrong with what a stranger has sent
        return "<unknown>"
    return _UNSAFE.sub("?", "".join(parts))[:256]


def summary(connection: SSL.Connection, server: str, trust: str, what: str, *, full: bool) -> str:
    """``trust``: Verified, Trusted, Untrusted, Anonymous; ``what``: established, reused; ``full``: there was a whole
    handshake, not one that resumes a session."""
    bits = connection.get_cipher_bits()
    version, cipher = connection.get_protocol_version_name(), connection.get_cipher_name()
    text = f"{trust} TLS connection {what} to {server}: {version} with cipher {cipher} ({bits}/{bits} bits)"
    if version == "TLSv1.3":
        group = connection.get_group_name()
        if group:
            text += f" {key_exchange(group)}"
        if full and (signed := signature(_certificate(connection), "server")):
            text += f" {signed}"
    return text


def _certificate(connection: SSL.Connection) -> x509.Certificate | None:
    try:
        return connection.get_peer_certificate(as_cryptography=True)
    except Exception:  # whatever is wrong with what a stranger has sent
        return None
