"""What a TLS handshake goes through, step by step, for the log: smtpd_tls_loglevel and smtp_tls_loglevel from 2 on.

    SSL_accept:SSLv3/TLS read client hello
    SSL3 alert read:fatal:unknown CA

The levels 3 and 4, which dump what is sent, say no more than that.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

_SIDES = ((SSL.SSL_ST_CONNECT, "SSL_connect"), (SSL.SSL_ST_ACCEPT, "SSL_accept"))
_SIGNED = "TLSv1.3 write server certificate verify"
_CLOSE_NOTIFY = 0
_LEVELS = {1: "warning", 2: "fatal"}
_ALERTS = {
    10: "unexpected message", 20: "bad record mac", 21: "decryption failed", 22: "record overflow",
    30: "decompression failure", 40: "handshake failure", 41: "no certificate", 42: "bad certificate",
    43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired", 46: "certificate unknown",
    47: "illegal parameter", 48: "unknown CA", 49: "access denied", 50: "decode error", 51: "decrypt error",
    60: "export restriction", 70: "protocol version", 71: "insufficient security", 80: "internal error",
    90: "user canceled", 100: "no renegotiation", 110: "unsupported extension", 111: "certificate unobtainable",
    112: "unrecognized name", 113: "bad certificate status response", 114: "bad certificate hash value",
    115: "unknown PSK identity",
}  # fmt: skip
"""RFC 8446 6, as the library words them."""


def trace(
    context: SSL.Context, tell: Callable[[str], None] | None, signed: Callable[[SSL.Connection], object] | None = None
) -> None:
    """Of all connections that are made with ``context`` from now on.  ``signed`` hears of those for which a server has
    proved itself anew (TLS 1.3), as it does not when a session is resumed."""

    def heard(connection: SSL.Connection, where: int, value: int) -> None:
        if signed is not None and where & SSL.SSL_CB_LOOP and _state(connection) == _SIGNED:
            signed(connection)
        if tell is None:
            return
        side = next((name for bit, name in _SIDES if where & ~SSL.SSL_ST_MASK & bit), "undefined")
        if where & SSL.SSL_CB_LOOP:
            tell(f"{side}:{_state(connection)}")
        elif where & SSL.SSL_CB_ALERT:
            level, alert = divmod(value, 256)
            if alert != _CLOSE_NOTIFY:
                way = "read" if where & SSL.SSL_CB_READ else "write"
                tell(f"SSL3 alert {way}:{_LEVELS.get(level, 'unknown')}:{_ALERTS.get(alert, 'unknown')}")
        elif where & SSL.SSL_CB_EXIT and value == 0:
            tell(f"{side}:failed in {_state(connection)}")

    context.set_info_callback(heard)


def _state(connection: SSL.Connection) -> str:
    return connection.get_state_string().decode("ascii", "replace")
