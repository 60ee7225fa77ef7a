"""Addresses as programs and mailboxes get them: with the quotes of RFC 5321 or without.

Envelope addresses are in external form (``"two words"@here.example``).  Commands get the internal one (``two words@…``)
unless pipe(8)'s flag q asks for quotes; header lines and From_ lines have the external form.  Nothing here judges: any
text goes in, and internal(external(x)) == x.
"""

from __future__ import annotations

import re

_DOT_STRING = re.compile(r'[^\s()<>@,;:\\".\[\]\x00-\x1f\x7f]+(?:\.[^\s()<>@,;:\\".\[\]\x00-\x1f\x7f]+)*')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split(address: str) -> tuple[str, str]:
    """Local part and domain, at the last @; ("…", "") without one."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (domain, "")


def internal(address: str) -> str:
    """Without quotes and backslashes in the local part."""
    if '"' not in address and "\\" not in address:
        return address
    local, domain = split(address)
    if len(local) >= 2 and local[0] == local[-1] == '"':
        local = local[1:-1]
    local = _ESCAPED.sub(r"\1", local)
    return f"{local}@{domain}" if domain else local


def external(address: str) -> str:
    """The local part of an internal address in quotes where RFC 822 wants them; 8-bit letters pass."""
    local, domain = split(address)
    if not local or _DOT_STRING.fullmatch(local):
        return address
    quoted = re.sub(r'(["\\\r])', r"\\\1", local)
    return f'"{quoted}"@{domain}' if domain else f'"{quoted}"'


def split_extension(local: str, delimiters: str, *, owner_special: bool = True) -> tuple[str, str]:
    """User and extension of a local part; postconf(5) recipient_delimiter.  Names that the mail system itself uses
    (mailer-daemon, owner-X, X-request) are not split at "-"."""
    lower = local.lower()
    if not delimiters or lower in ("mailer-daemon", "double-bounce"):
        return local, ""
    if "-" in delimiters and owner_special and (lower.startswith("owner-") or lower.endswith("-request")):
        return local, ""
    for at, letter in enumerate(local):
        if letter in delimiters and at > 0:
            return local[:at], local[at + 1 :]
    return local, ""
