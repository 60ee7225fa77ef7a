"""The words of TLS parameters that the server's and the client's side share: versions of the protocol, grades of
ciphers; postconf(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.config import Settings

VERSIONS = ("sslv2", "sslv3", "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
"""The oldest first."""

_WORD = re.compile(r"(>=|<=|!)?\s*([A-Za-z0-9.]+)\Z")
_GRADES = {"high": "tls_high_cipherlist", "medium": "tls_medium_cipherlist", "null": "tls_null_cipherlist"}
_WITHDRAWN = {"export": "medium", "low": "medium"}


def allowed_versions(words: Iterable[str]) -> set[str]:
    """The versions of the protocol that a list such as "!SSLv2 !SSLv3" or ">=TLSv1.2" leaves.  Raises ValueError."""
    allowed: set[str] = set()
    forbidden: set[str] = set()
    lowest, highest = 0, len(VERSIONS) - 1
    for word in " ".join(words).replace(">= ", ">=").replace("<= ", "<=").replace("! ", "!").split():
        match = _WORD.match(word)
        name = match[2].lower() if match else ""
        if match is None or name not in VERSIONS:
            raise ValueError(f"unknown protocol {word}")
        if match[1] == ">=":
            lowest = VERSIONS.index(name)
        elif match[1] == "<=":
            highest = VERSIONS.index(name)
        else:
            (forbidden if match[1] else allowed).add(name)
    return {one for one in (allowed or VERSIONS) if one in VERSIONS[lowest : highest + 1]} - forbidden


def cipher_list(settings: Settings, grade: str, excluded: Iterable[str]) -> str:
    """The library's words for a grade without some ciphers.  Raises ValueError."""
    name = grade.strip().lower()
    name = _WITHDRAWN.get(name, name)
    if name not in _GRADES:
        raise ValueError(f"invalid cipher grade: {grade}")
    return ":!".join([settings.text(_GRADES[name]), *dict.fromkeys(excluded)])
