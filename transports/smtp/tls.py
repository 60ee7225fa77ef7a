"""TLS for the client: which servers it is used with, and what their certificates must show; TLS_README.

Levels (smtp_tls_security_level): ``none``; ``may`` = if the server offers it, whoever it is; ``encrypt`` = always,
whoever it is; ``verify`` and ``secure`` = always, with a certificate of a trusted authority for the name of the host or
of the next hop (smtp_tls_verify_cert_match, smtp_tls_secure_cert_match).  ``smtp_tls_wrappermode``
starts with the handshake.

Contexts are made once a service; a connection costs a small creator object.  Names are checked with service_identity.
"""

from __future__ import annotations

import re
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import extract_patterns, verify_hostname
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from gateway.addresses.syntax import to_ascii
from gateway.config.settings import Settings

LEVELS = ("none", "may", "encrypt", "verify", "secure")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes one connection's TLS object, with the server's name in it (RFC 6066 3)."""

    def __init__(self, context: SSL.Context, name: str) -> None:
        self._context, self._name = context, name

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._name:
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        return connection


class TLSPolicy:
    """What one service wants.  Raises ValueError for a level that is not known here, OSError and SSL.Error for files
    that cannot be used."""

    def __init__(self, settings: Settings, prefix: str = "smtp_") -> None:
        level = settings.text(prefix + "tls_security_level").lower()
        if not level:
            enforced, used = settings.flag(prefix + "enforce_tls"), settings.flag(prefix + "use_tls")
            level = "encrypt" if enforced else "may" if used else "none"
        if level not in LEVELS:
            raise ValueError(f"{prefix}tls_security_level: {level} is not supported; use one of {', '.join(LEVELS)}")
        self.level = level
        self.wrapped = settings.flag(prefix + "tls_wrappermode") and level not in ("none", "may")
        self.wanted = level != "none"
        self.required = level not in ("none", "may")
        self.checked = level in ("verify", "secure")
        self.servername = settings.text(prefix + "tls_servername")
        matching = "tls_verify_cert_match" if level == "verify" else "tls_secure_cert_match"
        self._match = settings.words(prefix + matching)
        self._log_level = settings.number(prefix + "tls_loglevel")
        self._context = self._make_context(settings, prefix) if self.wanted else None

    def plain(self) -> TLSPolicy:
        """The policy for another try without TLS, after a handshake failed at level "may"."""
        copy = object.__new__(TLSPolicy)
        copy.__dict__.update(self.__dict__, level="none", wanted=False)
        return copy

    def _make_context(self, settings: Settings, prefix: str) -> SSL.Context:
        options: dict[str, Any] = {}
        certificate = settings.text(prefix + "tls_cert_file")
        if certificate:
            key = settings.text(prefix + "tls_key_file")
            with open(certificate, "rb") as opened:
                chain = [cert.original for cert in _certificates(opened.read())]
            with open(key, "rb") as opened:
                private = ssl.KeyPair.load(opened.read(), FILETYPE_PEM).original
            options = {"certificate": chain[0], "extraCertChain": chain[1:], "privateKey": private}
        factory = ssl.CertificateOptions(verify=False, **options)
        context = factory.getContext()
        if self.checked:
            file, path = settings.text(prefix + "tls_CAfile"), settings.text(prefix + "tls_CApath")
            if file or path:
                context.load_verify_locations(file or None, path or None)
            else:
                context.set_default_verify_paths()
            context.set_verify(SSL.VERIFY_PEER, lambda connection, certificate, number, depth, good: bool(good))
        return context

    def creator(self, peer: Any) -> Any:
        assert self._context is not None
        name = peer.host if self.servername == "hostname" else peer.domain if self.servername == "nexthop" else ""
        if not name:
            name = self.servername or (peer.domain or peer.host if self.checked else peer.host)
        return _Creator(self._context, _server_name(name))

    def problem(self, transport: Any, peer: Any) -> str:
        """Why the server is not whom we want to talk to; "" = it is."""
        if not self.checked:
            return ""
        connection = transport.getHandle()
        for name in self._names(peer):
            try:
                if name.startswith("."):
                    if any(pattern.lower().endswith(name) for pattern in _dns_names(connection)):
                        return ""
                else:
                    verify_hostname(connection, name)
                    return ""
            except (VerificationError, CertificateError, ValueError):
                continue
        return "Server certificate not verified"

    def _names(self, peer: Any) -> list[str]:
        domain = _server_name(peer.domain)
        found = []
        for word in self._match:
            if word == "hostname":
                found.append(_server_name(peer.host))
            elif word == "nexthop":
                found.append(domain)
            elif word == "dot-nexthop":
                found.append("." + domain if domain else "")
            else:
                found.append(word.lower())
        return [name for name in found if name]

    def note(self, transport: Any, peer: Any) -> str:
        """The line for smtp_tls_loglevel = 1 and more."""
        if self._log_level < 1:
            return ""
        connection = transport.getHandle()
        trust = "Verified" if self.checked else "Untrusted"
        cipher, bits = connection.get_cipher_name(), connection.get_cipher_bits()
        version = connection.get_protocol_version_name()
        return (
            f"{trust} TLS connection established to {peer.relay}: {version} with cipher {cipher} ({bits}/{bits} bits)"
        )


def _server_name(name: str) -> str:
    """A name that may be sent and compared: no final dot, ASCII, no address; "" if there is none."""
    name = to_ascii(name.rstrip(".")).lower()
    return name if _HOST.fullmatch(name) and not name.replace(".", "").isdigit() else ""


def _dns_names(connection: SSL.Connection) -> list[str]:
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return []
    patterns = [getattr(pattern, "pattern", b"") for pattern in extract_patterns(certificate)]
    return [pattern.decode("ascii", "replace") for pattern in patterns if isinstance(pattern, bytes)]


def _certificates(data: bytes) -> list[ssl.Certificate]:
    end = b"-----END CERTIFICATE-----"
    blocks = [block + end for block in data.split(end)[:-1]]
    return [ssl.Certificate.loadPEM(block[block.index(b"-----BEGIN CERTIFICATE-----") :]) for block in blocks]
