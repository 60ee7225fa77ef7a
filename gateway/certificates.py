"""Certificates: from files into a context, and what they say of a client; TLS_README."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from gateway.config import Settings

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_UNSAFE = re.compile(r"[^\x20-\x7e]|[<>()\\\";]")
_LONGEST_NAME = 256


def load(context: SSL.Context, files: Iterable[Path]) -> None:
    """Use the keys and certificates in files of PEM.  Raises OSError, ValueError, SSL.Error."""
    use(context, [file.read_bytes() for file in files])


def use(context: SSL.Context, texts: Iterable[bytes]) -> None:
    """Use the keys and certificates in texts of PEM.  Each certificate that belongs to a key is one of our own, the
    others lead to their authorities.  Raises ValueError, SSL.Error."""
    keys = []
    certificates: dict[bytes, x509.Certificate] = {}
    for text in texts:
        for match in _BLOCK.finditer(text):
            if match[1].endswith(b"PRIVATE KEY"):
                keys.append(load_pem_private_key(match[0], None))
            elif match[1] == b"CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(match[0])
                certificates[certificate.public_bytes(Encoding.DER)] = certificate
    if not keys or not certificates:
        raise ValueError("no certificate" if keys else "no private key")
    public = {_public(key.public_key()): key for key in keys}
    others = []
    used = set()
    for certificate in certificates.values():
        kind = _public(certificate.public_key())
        if kind in public and kind not in used:
            used.add(kind)
            context.use_certificate(certificate)
            context.use_privatekey(public[kind])  # type: ignore[arg-type]
        else:
            others.append(certificate)
    if len(used) < len(public):
        raise ValueError("the private key does not belong to the certificate")
    for certificate in others:
        context.add_extra_chain_cert(certificate)


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def states(files: Iterable[Path]) -> list[tuple[int, int, int] | None]:
    """What tells a file from one that takes its place, or that may be read now; None = it is not there."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
            found.append((status.st_ctime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(None)
    return found


def reason(error: Exception) -> str:
    """Why files cannot be used, in one line."""
    if isinstance(error, (SSL.Error, crypto.Error)) and error.args and isinstance(error.args[0], list):
        return ", ".join([str(each[-1]) for each in error.args[0] if each[-1]]) or "TLS library problem"
    return " ".join(str(error).split()) or type(error).__name__


def digest_of(settings: Settings, parameter: str) -> str:
    """The digest that a parameter names.  Raises ConfigError."""
    name = settings.text(parameter).strip().lower()
    if name not in hashlib.algorithms_available or name.startswith("shake"):
        raise settings.error(parameter, f"{parameter}: unknown digest {name}", "choose sha256, for example")
    return name


def describe(certificate: x509.Certificate, digest: str) -> tuple[str, str, tuple[str, str]]:
    """The common names of whom it is for and of who issued it, and the fingerprints of it and of its key."""
    fingerprints = (
        _fingerprint(digest, certificate.public_bytes(Encoding.DER)),
        _fingerprint(digest, _public(certificate.public_key())),
    )
    return _common_name(certificate.subject), _common_name(certificate.issuer), fingerprints


def certificate_hash(certificate: x509.Certificate) -> bytes:
    """By the digest that it is signed with, and SHA-256 where that is a weak one; RFC 5929 4.1."""
    name = certificate.signature_hash_algorithm.name if certificate.signature_hash_algorithm is not None else "sha256"
    return hashlib.new("sha256" if name in ("md5", "sha1") else name, certificate.public_bytes(Encoding.DER)).digest()


def _fingerprint(digest: str, data: bytes) -> str:
    return hashlib.new(digest, data).digest().hex(":").upper()


def _common_name(name: x509.Name) -> str:
    found = [*name.get_attributes_for_oid(NameOID.COMMON_NAME), *name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return _UNSAFE.sub("?", str(found[0].value))[:_LONGEST_NAME] if found else ""
