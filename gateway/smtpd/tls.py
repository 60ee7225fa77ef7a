"""The server's TLS context, and what is known of a protected connection; smtpd_tls_*, TLS_README.

TLS 1.2 is the least that is spoken, whatever smtpd_tls_protocols allows beyond.  Certificates are those of
smtpd_tls_chain_files, or of smtpd_tls_cert_file with smtpd_tls_key_file.  Files that cannot be used are one warning,
and STARTTLS then answers 454 4.7.0, as with Postfix: mail goes on in clear where it may.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from gateway.config import Settings
from gateway.interfaces import Log
from gateway.policy.session import Tls

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def server_context(settings: Settings, log: Log, program: str) -> CertificateOptions | None:
    """None: there is no certificate that can be used; the log says why."""
    files = _files(settings)
    if not files:
        log.warning(program, "No server certs available. TLS won't be enabled")
        return None
    try:
        key, chain = _load(files)
        return CertificateOptions(
            privateKey=key,
            certificate=chain[0],
            extraCertChain=chain[1:],
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
    except (OSError, ValueError, crypto.Error) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        log.warning(program, f"cannot load server certificate and key from {', '.join(map(str, files))}: {detail}")
        return None


def _files(settings: Settings) -> list[Path]:
    names = settings.words("smtpd_tls_chain_files")
    if not names:
        for kind in ("", "ec"):
            certificate = settings.text(f"smtpd_tls_{kind}cert_file")
            if certificate and certificate != "none":
                names = [settings.text(f"smtpd_tls_{kind}key_file"), certificate]
                break
    base = settings.directory or Path.cwd()
    return [base / name for name in dict.fromkeys(names)]


def _load(files: list[Path]) -> tuple[crypto.PKey, list[crypto.X509]]:
    """The key and the certificates, the server's own first.  Raises OSError, ValueError, crypto.Error."""
    key: crypto.PKey | None = None
    chain: list[crypto.X509] = []
    for file in files:
        for match in _BLOCK.finditer(file.read_bytes()):
            if b"PRIVATE KEY" in match[1]:
                key = key or crypto.load_privatekey(crypto.FILETYPE_PEM, match[0])
            elif match[1] == b"CERTIFICATE":
                chain.append(crypto.load_certificate(crypto.FILETYPE_PEM, match[0]))
    if key is None or not chain:
        raise ValueError("no private key" if key is None else "no certificate")
    return key, chain


def facts(transport: Any) -> Tls:
    """What was agreed on."""
    connection = transport.getHandle()
    bits = connection.get_cipher_bits() or 0
    return Tls(connection.get_protocol_version_name(), connection.get_cipher_name() or "", bits, bits)
