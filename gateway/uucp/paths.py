"""Tables of paths, as pathalias writes them, for the transport table; pathalias(1), RFC 976.

    leaf    hub!leaf!%s         a host: leaf and leaf.uucp go to hub, for leaf
    .edu    hub!gateway!%s      a domain: whatever ends in it
    12 leaf hub!leaf!%s         with what it costs in front

``entries`` gives (pattern, next hop) of each line, and says which cannot be used: addresses have to be paths here, so
routes such as hub!%s@leaf cannot be followed.  This site itself (a route that is only %s) needs no entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

_LINE = re.compile(r"(?:-?\d+\s+)?(\S+)\s+(\S+)(?:\s+-?\d+)?\Z")
_HOST = re.compile(r"\.?[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_ROUTE = re.compile(r"((?:[A-Za-z0-9][A-Za-z0-9._-]*!)*)%s\Z")


def entries(lines: Iterable[str], note: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """``note`` takes a line about what is passed over."""
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = _LINE.match(text)
        route = _ROUTE.match(match[2]) if match is not None and _HOST.match(match[1]) else None
        if match is None or route is None:
            note(f"line {number}: not understood: {re.sub(r'[^ -~]', '?', text)[:100]}")
            continue
        hop, host = route[1].rstrip("!"), match[1].lower()
        if not hop:
            continue
        yield host, hop
        if "." not in host:
            yield f"{host}.uucp", hop
