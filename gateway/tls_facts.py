"""How keys were exchanged in a TLS handshake and who has signed it, in Postfix's words for the log and for Received.

    key-exchange X25519 server-signature ECDSA (prime256v1) server-digest SHA256

With what digest an RSA key has signed cannot be known here, and is left out.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

_EXCHANGES = {"x25519": "X25519", "x448": "X448"}
_CURVES = {"secp256r1": "prime256v1", "prime256v1": "prime256v1"}
_DIGESTS = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""Of signatures by keys on these curves (RFC 8446 4.2.3)."""
_FINITE_FIELD = re.compile(r"ffdhe([0-9]+)", re.IGNORECASE)


def key_exchange(group: str) -> str:
    """``group``: as the library names it."""
    lower = group.lower()
    field = _FINITE_FIELD.fullmatch(lower)
    if field:
        text = f"DHE ({field[1]} bits)"
    elif lower in _EXCHANGES:
        text = _EXCHANGES[lower]
    else:
        text = f"ECDHE ({_CURVES.get(lower, group)})" if lower.startswith(("secp", "prime", "brainpool")) else group
    return f"key-exchange {text}"


def signature(certificate: x509.Certificate | None, side: str) -> str:
    """How the "server" or "client" has signed, as far as its key tells; "" if it does not."""
    try:
        key = None if certificate is None else certificate.public_key()
    except Exception:  # of a kind that nobody can read
        return ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = key.curve.name
        digest = f" {side}-digest {_DIGESTS[name]}" if name in _DIGESTS else ""
        return f"{side}-signature ECDSA ({_CURVES.get(name, name)}){digest}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"{side}-signature RSA-PSS ({key.key_size} bits)"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return f"{side}-signature ED25519"
    return f"{side}-signature ED448" if isinstance(key, ed448.Ed448PublicKey) else ""
