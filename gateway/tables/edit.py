"""How an entry is written as a line of a text table: what postmap -s prints can be read again."""

from __future__ import annotations

import re

_PLAIN_MAP_KEY = re.compile(r'[^"\s#][^\s]*')
_PLAIN_ALIAS_KEY = re.compile(r"[^\s\"#:@<>(),;\\]+")


def format_entry(key: str, value: str, *, alias: bool) -> str:
    """The line that says so."""
    plain = (_PLAIN_ALIAS_KEY if alias else _PLAIN_MAP_KEY).fullmatch(key)
    written = key if plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{written}:\t{value}" if alias else f"{written}\t{value}"
