"""Lookup tables behind ILookupTable: one module a kind of table, Tables for the composition, Maps and lists to ask.

Knows of mail only as far as lists of domains and networks go.  See registry (how to open), maps (how to search),
lists (domain, string and address lists), search (partial keys), text (file formats), watch (changed files).
"""

from gateway.tables.base import Table, Unavailable, fold
from gateway.tables.lists import AddressList, DomainList, StringList
from gateway.tables.maps import Maps, Match
from gateway.tables.registry import Tables
from gateway.tables.types import table_types

__all__ = [
    "AddressList", "DomainList", "Maps", "Match", "StringList", "Table", "Tables", "Unavailable", "fold", "table_types",
]  # fmt: skip
