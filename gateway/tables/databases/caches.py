"""memcache: and redis: tables, over connections that live in the reactor; memcache_table(5).

memcache: as Postfix has it: ``memcache`` (the server), ``backup`` (a table that is asked for what is not there, whose
answers are put there), ``flags``, ``ttl``, ``key_format``, ``data_size_limit``, ``max_try``, ``retry_pause``.

redis: is the gateway's own: ``server`` (inet:host:port or unix:path), ``user``, ``password``, ``database``,
``key_format``, and ``hash`` (the key is a field of that hash).  Both have ``domain``, ``result_format``,
``expansion_limit`` and ``timeout``.

Neither may be used where a result can name a command, a file or an account, as many can write to such a server.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table
from gateway.tables.databases.table import DatabaseTable
from gateway.tables.databases.template import Template
from gateway.tables.requests import Frame, NoAnswer, Patience, Server, service_place

MAX_KEY = 250
_PLAIN_KEY = re.compile(rb"[!-\xff]+")
_VALUE = re.compile(rb"VALUE (\S+) \d+ (\d{1,9})(?: \d+)?\r\n")


class CacheTable(DatabaseTable):
    """The common part: a server, a key, questions that are put again."""

    default_timeout = 10
    frame: Frame

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec, environment)
        if not spec.substitution:
            raise TableError(f"{spec.type} tables are not allowed for security sensitive data")
        given = self.parameters
        self._key_format = Template(given.text("key_format", "%s"), "key_format")
        self._max_try, self._pause = max(given.number("max_try", 2), 1), given.number("retry_pause", 1)
        self._reactor = environment.reactor
        timeout = given.number("timeout", self.default_timeout)
        patience = Patience(timeout, timeout, self.limits.idle, self.limits.connections)
        try:
            place = service_place(self.server_name(), spec.settings)
        except ValueError as error:
            raise TableError(f"{given.place}: {error}") from None
        self._server = Server(spec.type, place, environment, self.frame, patience)

    def server_name(self) -> str:
        raise NotImplementedError

    def close(self) -> None:
        self._server.close()

    async def question(self, text: bytes) -> bytes:
        from twisted.internet.task import deferLater

        for attempt in range(self._max_try):
            try:
                return await self._server.ask(text)
            except NoAnswer:
                if attempt + 1 == self._max_try:
                    raise
            await deferLater(self._reactor, self._pause)
        raise AssertionError

    def key_of(self, key: str) -> bytes | None:
        found = self._key_format.of_key(key, str)
        return None if found is None else found.encode()


class MemcacheTable(CacheTable):
    default_timeout = 2

    def __init__(self, spec: Spec, environment: Environment) -> None:
        limit = 10240

        def frame(data: bytes) -> tuple[bytes, bytes] | None:
            return _memcache_reply(data, limit)

        self.frame = frame
        super().__init__(spec, environment)
        given = self.parameters
        limit = given.number("data_size_limit", limit)
        self._backup: Table | None = spec.open(given.text("backup")) if given.text("backup") else None
        self._flags, self._ttl = given.number("flags", 0), given.number("ttl", 3600)

    def server_name(self) -> str:
        return self.parameters.text("memcache", "inet:localhost:11211")

    async def ask_database(self, key: str) -> str | None:
        name = self.key_of(key)
        if name is None or len(name) > MAX_KEY or not _PLAIN_KEY.fullmatch(name):
            return None
        problem: TableError | None = None
        try:
            value = await self._get(name)
        except TableError as error:
            if self._backup is None:
                raise
            value, problem = None, error
        if value is None and self._backup is not None:
            value = await self._backup.ask(key)
            if value is not None and problem is None:
                await self._put(name, value)
        return None if value is None else self.joined([value], key)

    async def _get(self, name: bytes) -> str | None:
        reply = await self.question(b"get %s\r\n" % name)
        match = _VALUE.match(reply)
        if match is not None:
            return reply[match.end() : match.end() + int(match[2])].decode("utf-8", "surrogateescape")
        if reply == b"END\r\n":
            return None
        raise TableError(f"memcache server: {reply.decode('ascii', 'replace').strip()}")

    async def _put(self, name: bytes, value: str) -> None:
        raw = value.encode("utf-8", "surrogateescape")
        try:
            await self.question(b"set %s %d %d %d\r\n%s\r\n" % (name, self._flags, self._ttl, len(raw), raw))
        except TableError:
            # It is only a cache; the answer is right.
            pass


def _memcache_reply(data: bytes, limit: int) -> tuple[bytes, bytes] | None:
    match = _VALUE.match(data)
    if match is None:
        line, feed, rest = data.partition(b"\r\n")
        if len(line) > 1024:
            raise ValueError("the server's reply is too long")
        return (line + feed, rest) if feed and not line.startswith(b"VALUE ") else None
    length = int(match[2])
    if length > limit:
        raise ValueError("the server's reply is too long (data_size_limit)")
    end = match.end() + length + len(b"\r\nEND\r\n")
    if len(data) < end:
        return None
    if data[match.end() + length : end] != b"\r\nEND\r\n":
        raise ValueError("the server's reply is not in the protocol")
    return data[:end], data[end:]


class RedisTable(CacheTable):
    """Each question brings along who asks and of which database, so that a connection needs no state."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        self._replies = 1
        self.frame = lambda data: _redis_replies(data, self._replies)
        super().__init__(spec, environment)
        given = self.parameters
        self._hash = given.text("hash").encode()
        self._greeting = b""
        if given.text("password"):
            account = [given.text("user"), given.text("password")]
            self._greet("AUTH", *filter(None, account))
        if given.number("database", 0):
            self._greet("SELECT", str(given.number("database", 0)))

    def _greet(self, *words: str) -> None:
        self._greeting += _redis_command(*(word.encode() for word in words))
        self._replies += 1

    def server_name(self) -> str:
        return self.parameters.text("server", "inet:localhost:6379")

    async def ask_database(self, key: str) -> str | None:
        name = self.key_of(key)
        if name is None:
            return None
        command = _redis_command(b"HGET", self._hash, name) if self._hash else _redis_command(b"GET", name)
        replies = await self.question(self._greeting + command)
        at = 0
        value: Any = None
        for _ in range(self._replies):
            found = _redis_reply(replies, at)
            assert found is not None
            value, at = found
            if isinstance(value, TableError):
                raise value
        return None if value is None else self.joined([value.decode("utf-8", "surrogateescape")], key)


def _redis_command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _redis_replies(data: bytes, count: int) -> tuple[bytes, bytes] | None:
    at = 0
    for _ in range(count):
        found = _redis_reply(data, at)
        if found is None:
            return None
        at = found[1]
    return data[:at], data[at:]


def _redis_reply(data: bytes, at: int) -> tuple[bytes | TableError | None, int] | None:
    """One reply and where it ends; None if it is not all there."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    kind, text, behind = data[at : at + 1], data[at + 1 : end], end + 2
    if kind in (b"+", b":"):
        return text, behind
    if kind == b"-":
        return TableError(f"redis server: {text.decode('utf-8', 'replace')}"), behind
    if kind != b"$" or not text.removeprefix(b"-").isdigit():
        raise ValueError("the server's reply is not in the protocol")
    length = int(text)
    if length < 0:
        return None, behind
    if len(data) < behind + length + 2:
        return None
    return data[behind : behind + length], behind + length + 2
