"""Which keys are tried, in which order, for a domain or a client address; access(5), transport(5).

Pure generators of (key, partial) for Maps.find_first(): ``partial`` keys are not for tables that want whole ones.
"""

from __future__ import annotations

from collections.abc import Iterator


def domain_keys(name: str, *, parent: bool) -> Iterator[tuple[str, bool]]:
    """The name and the domains that it is in.  ``parent``: these are looked up as "example.com"
    (parent_domain_matches_subdomains); else as ".example.com"."""
    yield name, False
    at = name.find(".", 1)
    while at >= 0:
        key = name[at + 1 :] if parent else name[at:]
        if key and key != ".":
            yield key, True
        at = name.find(".", at + 1)


def address_keys(address: str) -> Iterator[tuple[str, bool]]:
    """The address and the networks that it is in, an octet (IPv6: a group) at a time from the right."""
    yield address, False
    delimiter = ":" if ":" in address else "."
    at = address.rfind(delimiter)
    while at > 0:
        yield address[:at], True
        at = address.rfind(delimiter, 0, at)
