"""What the tests of addresses have in common: a site with tables, and cases that Postfix 3.7 has answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.addresses.basis import Basis
from tests.gateway.tables.support import Bench, now

__all__ = ["CASES", "OWN_ADDRESSES", "Bench", "basis", "cases", "now", "site"]

CASES = Path(__file__).parent / "cases"
OWN_ADDRESSES = frozenset(("127.0.0.1", "::1", "192.0.2.1"))

_SITE = {
    "compatibility_level": "3.6",
    "myhostname": "gw.my.domain",
    "mydomain": "my.domain",
    "myorigin": "my.domain",
    "mydestination": "$myhostname, localhost, my.domain, closed.my.domain",
    "append_dot_mydomain": "yes",
    "recipient_delimiter": "+",
    "local_recipient_maps": "",
}


def cases(name: str) -> list[Any]:
    """Rows of a file in cases/: what was asked, and what Postfix made of it, on a site such as site()."""
    rows: list[Any] = json.loads((CASES / f"{name}.json").read_text())
    return rows


def site(**values: str) -> Bench:
    return Bench(CASES, **{**_SITE, **values})


def basis(bench: Bench) -> Basis:
    return Basis.of(bench.settings, bench.tables, OWN_ADDRESSES)
