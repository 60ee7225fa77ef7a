"""What can be wrong around a configuration: accounts, owners and modes of files, tables that are not there."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from gateway.config import parameters
from gateway.config.configuration import Configuration
from gateway.config.findings import ERROR, WARNING, ConfigError, Finding
from gateway.config.settings import Place, Settings

FILE_TYPES = {
    "btree", "cdb", "cidr", "dbm", "hash", "ldap", "lmdb", "memcache", "mysql", "pcre", "pgsql", "redis", "regexp",
    "sdbm", "sqlite", "texthash",
}  # fmt: skip
"""Table types whose name is a path (of a source file, or of a file that says where the database is)."""

_TABLE = re.compile(r"(?<![A-Za-z0-9_/.:-])(?:proxy:)?([a-z][a-z0-9-]*):(/[^\s,{}]*)")
_PLAIN = re.compile(r"(?:proxy:)?([a-z][a-z0-9-]*):\S")
_INDEXES = ("", ".db", ".lmdb", ".cdb", ".dir", ".pag")


def check(configuration: Configuration, table_types: Collection[str] | None) -> Iterator[Finding]:
    """Findings about accounts, folders and tables."""
    yield from _accounts(configuration.settings)
    yield from _modes(configuration)
    yield from _tables(configuration, table_types)


# --- accounts ------------------------------------------------------------------------------------------------


def _accounts(settings: Settings) -> Iterator[Finding]:
    """mail_owner must exist when root starts the gateway; default_privs must never be root."""
    for name in ("mail_owner", "default_privs"):
        try:
            account = settings.text(name)
        except ConfigError:
            continue
        place = _place(settings, name)
        try:
            uid = pwd.getpwnam(account).pw_uid
        except KeyError:
            severity = ERROR if os.geteuid() == 0 else WARNING
            yield Finding(severity, *place, f"{name}: unknown user name: {account}", f"create it: useradd -r {account}")
            continue
        if uid == 0:
            yield Finding(ERROR, *place, f"{name} is {account}, a privileged account", "name one without rights")


def _place(settings: Settings, name: str) -> Place:
    if settings.is_set(name):
        return settings.place(name)
    return Place(str(settings.directory / "main.cf") if settings.directory else "main.cf", 0)


# --- owners and modes ------------------------------------------------------------------------------------------


def _modes(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    trusted = {0, os.geteuid()}
    for name in ("main.cf", "master.cf"):
        yield from _guarded(configuration.directory / name, trusted)
    yield from _guarded(configuration.directory, trusted)
    if os.geteuid() == 0:
        owners = {_uid(settings.text("mail_owner"))}
    else:
        owners = {os.geteuid()}
    for name in ("queue_directory", "data_directory"):
        try:
            path = Path(settings.text(name))
        except ConfigError:
            continue
        yield from _folder(path, name, owners | {0} if name == "queue_directory" else owners)


def _guarded(path: Path, trusted: set[int]) -> Iterator[Finding]:
    """Who can write here can read all mail."""
    try:
        status = path.stat()
    except OSError:
        return
    if status.st_uid not in trusted:
        yield Finding(WARNING, str(path), 0, f"not owned by root (but by uid {status.st_uid})", f"chown root {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(WARNING, str(path), 0, "group or other writable", f"chmod go-w {path}")


def _folder(path: Path, name: str, owners: set[int | None]) -> Iterator[Finding]:
    """An own folder; one that is missing is made at start."""
    if not path.is_absolute():
        yield Finding(ERROR, str(path), 0, f"{name} is not an absolute path", "write it with a slash in front")
        return
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as problem:
        yield Finding(ERROR, str(path), 0, f"{name}: {problem.strerror}", "make it accessible")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Finding(ERROR, str(path), 0, f"{name} is not a directory", "remove or rename what is there")
        return
    known = [uid for uid in owners if uid is not None]  # a mail_owner that does not exist is told of elsewhere
    if known and status.st_uid not in known:
        wanted = ", ".join(sorted(map(_name, known)))
        what = f"{name} is owned by {_name(status.st_uid)}, not by {wanted}"
        yield Finding(ERROR, str(path), 0, what, f"chown it to {wanted}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(WARNING, str(path), 0, f"{name} is group or other writable", f"chmod go-w {path}")


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


# --- tables ----------------------------------------------------------------------------------------------------

CACHES = frozenset((
    "address_verify_map", "postscreen_cache_map", "smtp_tls_session_cache_database", "lmtp_tls_session_cache_database",
    "smtpd_tls_session_cache_database", "smtp_sasl_auth_cache_name", "lmtp_sasl_auth_cache_name",
))  # fmt: skip
"""What is kept by the gateway itself, be it in a file of that name or not at all in one: nobody has to make it."""


def _tables(configuration: Configuration, table_types: Collection[str] | None) -> Iterator[Finding]:
    """Tables that main.cf or an -o names: is there such a type, is the file there?"""
    yield from _tables_of(configuration.settings, configuration.settings.values, table_types)
    for service in configuration.services:
        yield from _tables_of(service.settings(configuration.settings), service.overrides, table_types)


def _tables_of(
    settings: Settings, names: Collection[str], table_types: Collection[str] | None
) -> Iterator[Finding]:
    for name in names:
        parameter = parameters.find(name)
        if name in CACHES or (parameter is not None and parameter.effect == parameters.NEVER):
            continue
        try:
            text = settings.text(name)
        except ConfigError:
            continue
        place = settings.place(name)
        for type, path in _TABLE.findall(text):
            if type in FILE_TYPES:
                yield from _table(f"{type}:{path}", Path(path), place)
        if parameter is not None and parameter.type == parameters.TABLES and table_types is not None:
            yield from _types(settings, name, table_types)


def _types(settings: Settings, name: str, table_types: Collection[str]) -> Iterator[Finding]:
    try:
        words = settings.words(name)
    except ConfigError:
        return
    for word in words:
        match = _PLAIN.match(word)
        if match and match.group(1) not in table_types:
            mend = f"use one of {', '.join(sorted(table_types))}"
            yield Finding(ERROR, *settings.place(name), f"{name}: unsupported dictionary type: {match.group(1)}", mend)


def _table(table: str, path: Path, place: Place) -> Iterator[Finding]:
    present = [each for each in (Path(f"{path}{suffix}") for suffix in _INDEXES) if each.exists()]
    if not present:
        type = table.partition(":")[0]
        postmap = f", then: mailgateway postmap {table}" if type in ("hash", "btree", "lmdb", "cdb", "dbm") else ""
        yield Finding(ERROR, *place, f"{table}: no such file", f"create {path}{postmap}")
        return
    for each in present:
        if not os.access(each, os.R_OK):
            yield Finding(ERROR, *place, f"{table}: {each} cannot be read", f"make {each} readable")
