"""Certificates for tests of the client: authorities, and servers with names of any kind."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


class Certificate:
    """A key with its certificate, signed by ``issuer`` or by itself.  ``days``: when it begins and ends to be valid."""

    def __init__(
        self, common_name: str = "", names: Sequence[str] = (), issuer: Certificate | None = None, *,
        authority: bool = False, days: tuple[int, int] = (-1, 2), kind: str = "ec", usage: Any = None,
        broken: bool = False,
    ) -> None:
        """``broken``: its names cannot be read."""
        self.key: Any = {
            "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
        }[kind]()
        signer = issuer or self
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0])).not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), False)
        if broken:
            rubbish = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"rubbish")
            builder = builder.add_extension(rubbish, False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        algorithm = None if isinstance(signer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        self.certificate = builder.sign(signer.key, algorithm)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return bytes(self.key.private_bytes(PEM, form, serialization.NoEncryption()))

    @property
    def public_pem(self) -> bytes:
        return bytes(self.key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))

    def fingerprint(self, digest: str = "sha256") -> str:
        return hashlib.new(digest, self.certificate.public_bytes(DER)).hexdigest()

    def key_fingerprint(self) -> str:
        public = self.key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).digest().hex(":").upper()

    def write(self, file: Path, *chain: Certificate, key: bool = True) -> Path:
        """The key, the certificate, and those that lead to its authority."""
        file.write_bytes((self.key_pem if key else b"") + self.pem + b"".join(each.pem for each in chain))
        return file


def _name(text: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(text)) if text.replace(".", "").isdigit() else x509.DNSName(text)


FOR_CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH
