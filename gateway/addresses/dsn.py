"""The values of the parameters that ask for notifications, as SMTP clients and milters write them; RFC 3461 4."""

from __future__ import annotations

import re

from gateway.addresses.syntax import AddressError, xtext_decode
from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS

_NOTIFY = {"NEVER": NOTIFY_NEVER, "SUCCESS": NOTIFY_SUCCESS, "FAILURE": NOTIFY_FAILURE, "DELAY": NOTIFY_DELAY}
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_UTF8_ESCAPE = re.compile(r"\\x\{([0-9A-F]{2,6})\}")


def notify_bits(value: str) -> int:
    """NOTIFY as bits (spool.envelope); 0 for what is no such list."""
    bits = 0
    for word in value.upper().split(","):
        bit = _NOTIFY.get(word, 0)
        if not bit or bits & bit:
            return 0
        bits |= bit
    return 0 if bits & NOTIFY_NEVER and bits != NOTIFY_NEVER else bits


def ret_word(value: str) -> str:
    """RET as "FULL" or "HDRS"; "" for anything else."""
    word = value.upper()
    return word if word in ("FULL", "HDRS") else ""


def envelope_id(value: str) -> str:
    """ENVID, decoded; "" for what is none."""
    try:
        envid = _decoded(value)
    except AddressError:
        return ""
    return "" if _UNSAFE.search(envid) else envid


def original_recipient(value: str) -> str:
    """ORCPT as "type;address", decoded (RFC 6533 3 for addresses in UTF-8); "" for what is none."""
    kind, separator, coded = value.partition(";")
    if not separator or not kind or not coded or not kind.isascii() or not kind.replace("-", "").isalnum():
        return ""
    try:
        if kind.lower() == "utf-8":
            address = _UTF8_ESCAPE.sub(lambda match: chr(int(match[1], 16)), coded)
        else:
            address = _decoded(coded)
    except (AddressError, ValueError, OverflowError):
        return ""
    return f"{kind};{address}" if address and address.isprintable() else ""


def _decoded(text: str) -> str:
    """xtext, in which a bare "=" is let pass, as many clients send it.  Raises AddressError."""
    return xtext_decode(text.replace("=", "+3D"))
