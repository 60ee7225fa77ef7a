"""The two forms of an address: external with quotes (``"a b"@c``), internal without (``a b@c``); RFC 5321 4.1.2.

What is quoted when: as Postfix does it.  The last "@" ends the local part; a source route in front is left alone.
"""

from __future__ import annotations

import re

# Atomic groups, as a possessive group "(…)*+" lets a half-matched member through in Python 3.11.
_ATOM = r'[^\x00-\x20\x7f()<>@,;:\\".\[\]]++'
_DOT_STRING = re.compile(rf"{_ATOM}(?>(?:\.{_ATOM})*)\Z")
_TO_ESCAPE = re.compile(r'(["\\\r])')
_QUOTING = re.compile(r'"|\\(.?)', re.DOTALL)


def quote(address: str) -> str:
    """Internal form to external form.  The empty address becomes ``""`` in quotes."""
    route, local, domain = _parts(address)
    return address if _DOT_STRING.match(local) else f"{route}{quote_local(local)}{domain}"


def quote_local(local: str) -> str:
    """The same for a local part by itself."""
    if _DOT_STRING.match(local):
        return local
    escaped = _TO_ESCAPE.sub(r"\\\1", local)
    return f'"{escaped}"'


def unquote(address: str) -> str:
    """External form to internal form."""
    if '"' not in address and "\\" not in address:
        return address
    route, local, domain = _parts(address)
    return route + _QUOTING.sub(lambda match: match[1] or "", local) + domain


def _parts(address: str) -> tuple[str, str, str]:
    """Source route with its colon, local part, domain with its "@"."""
    route = ""
    if address.startswith("@") and ":" in address:
        route, colon, address = address.partition(":")
        route += colon
    at = address.rfind("@")
    return (route, address, "") if at < 0 else (route, address[:at], address[at:])


def split_domain(address: str) -> tuple[str, str]:
    """Local part and domain of an address with a domain, or (address, "").  Good for the internal form; and for the
    external form of addresses that have a domain."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (domain, "")
