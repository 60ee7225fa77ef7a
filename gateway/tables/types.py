"""Which lookup types there are, and where each is made.  A type's module is imported when it is first opened."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table
from gateway.tables.indexed import INDEXED_TYPES

_MAKERS = {
    **dict.fromkeys(INDEXED_TYPES | {"texthash"}, "indexed:IndexedTable"),
    "cidr": "networks:CidrTable",
    "debug": "combined:DebugTable",
    "environ": "plain:EnvironTable",
    "fail": "plain:FailTable",
    "inline": "plain:InlineTable",
    "ldap": "databases.ldap:LdapTable",
    "memcache": "databases.caches:MemcacheTable",
    "mysql": "databases.sql:MysqlTable",
    "pcre": "patterns:PerlTable",
    "pgsql": "databases.sql:PgsqlTable",
    "pipemap": "combined:PipeTable",
    "proxy": "combined:proxy_table",
    "python": "plugin:PluginTable",
    "randmap": "combined:RandomTable",
    "redis": "databases.caches:RedisTable",
    "regexp": "patterns:RegexpTable",
    "socketmap": "remote:SocketmapTable",
    "sqlite": "databases.sql:SqliteTable",
    "static": "plain:StaticTable",
    "tcp": "remote:TcpTable",
    "unionmap": "combined:UnionTable",
    "unix": "accounts:AccountTable",
}

_NOT_AVAILABLE = frozenset({"internal", "mongodb", "netinfo", "nis", "nisplus"})
"""Known to Postfix or to its users, and not made here."""


def table_types() -> list[str]:
    """All that can be used, for "postconf -m"."""
    return sorted(_MAKERS)


def make_table(spec: Spec, environment: Environment) -> Table:
    """Raises TableError."""
    maker = _MAKERS.get(spec.type)
    if maker is None:
        if spec.type in _NOT_AVAILABLE:
            raise TableError(f"dictionary type {spec.type} is not available")
        raise TableError(f"unsupported dictionary type: {spec.type}")
    module, _, name = maker.partition(":")
    make: Callable[[Spec, Environment], Table] = getattr(import_module(f"gateway.tables.{module}"), name)
    return make(spec, environment)
