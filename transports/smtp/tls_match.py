"""Whether a certificate is the one of the server that is wanted: by names (RFC 6125, X509_check_host(3)), by
fingerprint, by a bare key that vouches for it.

    wanted_names(("nexthop", "dot-nexthop"), "example.com", "mx.example.com")   → ["example.com", ".example.com"]
    fits("*.example.com", "mx.example.com")                                     → True
    name_that_fits(certificate, names)                                          → what in it has fitted, or ""

A wanted name that begins with a dot means any name below it.  In certificates, "*" stands for the whole first label, if
two more follow.  The common name counts only where a certificate has no DNS name in its subjectAltName.  An address is
compared with the addresses in there.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from gateway.addresses.syntax import to_ascii

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_WILDCARD = re.compile(rf"\*((?:\.{_LABEL}){{2,}})")
_FIRST_LABEL = re.compile(r"[a-z0-9-]+|\*")


def wanted_names(match: Iterable[str], domain: str, host: str) -> list[str]:
    """The names in the place of the keywords "hostname", "nexthop" and "dot-nexthop", in lower case and ASCII."""
    found = []
    for word in match:
        keyword = word.lower()
        if keyword == "hostname":
            name = host
        elif keyword == "nexthop":
            name = domain
        elif keyword == "dot-nexthop":
            name = f".{domain}" if domain else ""
        else:
            name = word
        dot = "." if name.startswith(".") else ""
        name = to_ascii(name.removeprefix(".")).lower()
        if name:
            found.append(dot + name)
    return found


def fits(pattern: str, name: str) -> bool:
    """``pattern``: of a certificate; ``name``: in lower case."""
    pattern = pattern.lower()
    if name.startswith(".") and len(name) > 1:
        return pattern == name or (len(pattern) > len(name) and pattern.endswith(name) and "\0" not in pattern)
    wildcard = _WILDCARD.fullmatch(pattern)
    if wildcard is None:
        return pattern == name and "\0" not in pattern
    rest = wildcard[1]
    if not name.endswith(rest):
        return False
    return bool(_FIRST_LABEL.fullmatch(name[: -len(rest)]))


def name_that_fits(certificate: x509.Certificate, names: Iterable[str]) -> str:
    """What the certificate says that is one of the wanted names; "" = nothing."""
    patterns, addresses = _names_in(certificate)
    for name in names:
        address = _address(name)
        if address is not None:
            if address in addresses:
                return name
            continue
        for pattern in patterns:
            if fits(pattern, name):
                return pattern
    return ""


def _names_in(certificate: x509.Certificate) -> tuple[list[str], list[object]]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternatives.get_values_for_type(x509.DNSName)
        addresses: list[object] = list(alternatives.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        names, addresses = [], []
    except Exception:  # it has names, but nobody can read them
        return [], []
    if not names:
        names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names, addresses


def _address(name: str) -> object:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


# --- fingerprints


def fingerprint_that_fits(certificate: x509.Certificate, digest: str, wanted: Sequence[str]) -> str:
    """``wanted``: in upper case, without colons; of the certificate or of its key."""
    try:
        forms = [certificate.public_bytes(Encoding.DER), key_bytes(certificate.public_key())]
    except Exception:  # a key of a kind that nobody can read
        forms = [certificate.public_bytes(Encoding.DER)]
    for data in forms:
        found = hashlib.new(digest, data).hexdigest().upper()
        if found in wanted:
            return found
    return ""


def key_bytes(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


# --- bare keys as trust anchors


def vouches(key: object, certificate: x509.Certificate) -> bool:
    """Whether a key has signed a certificate."""
    try:
        signature, data = certificate.signature, certificate.tbs_certificate_bytes
        digest = certificate.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey):
            parameters = certificate.signature_algorithm_parameters
            if not isinstance(parameters, (padding.PSS, padding.PKCS1v15)) or digest is None:
                return False
            key.verify(signature, data, parameters, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if digest is None:
                return False
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
