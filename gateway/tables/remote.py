"""Tables that a server answers for: tcp_table(5), socketmap_table(5)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec, Table
from gateway.tables.requests import Place, Server

MAX_LINE = 4096
MAX_NETSTRING = 100_000

_ENCODED = re.compile(rb"[\x00-\x20%\x7f-\xff]")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,8}):")


class TcpTable(Table):
    """``tcp:HOST:PORT``: "get KEY" → "200 VALUE", "500 …" (not found) or "400 …" (error)."""

    folds_case = False
    whole_keys = True

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        host, _, port = spec.argument.rpartition(":")
        self._server = Server(spec.name, Place(host=host, port=_port(spec, port)), environment, _line)

    async def lookup(self, key: str) -> str | None:
        quoted = _ENCODED.sub(lambda match: b"%%%02X" % match.group()[0], key.encode("utf-8", "surrogateescape"))
        reply = await self._server.ask(b"get " + quoted + b"\n")
        code, _, text = reply.partition(b" ")
        value = unquote_to_bytes(text.strip()).decode("utf-8", "surrogateescape")
        if code == b"200":
            return value
        if code == b"500":
            return None
        raise TableError(f"{self.name}: {value}" if code == b"400" else f"{self.name}: bad reply from the server")

    def close(self) -> None:
        self._server.close()


class SocketmapTable(Table):
    """``socketmap:inet:HOST:PORT:NAME``, ``socketmap:unix:PATH:NAME``: netstrings "NAME KEY" → "OK VALUE" …"""

    folds_case = False
    whole_keys = True

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        where, _, self._map = spec.argument.rpartition(":")
        kind, _, place = where.partition(":")
        if not self._map or not place or kind not in ("inet", "unix"):
            raise TableError("socketmap requires server:socketmap argument")
        if kind == "unix":
            where_it_is = Place(place)
        else:
            host, _, port = place.rpartition(":")
            where_it_is = Place(host=host, port=_port(spec, port))
        self._server = Server(spec.name, where_it_is, environment, _netstring)

    async def lookup(self, key: str) -> str | None:
        question = f"{self._map} {key}".encode("utf-8", "surrogateescape")
        reply = await self._server.ask(b"%d:%s," % (len(question), question))
        status, _, data = reply.decode("utf-8", "surrogateescape").partition(" ")
        if status == "OK":
            return data
        if status == "NOTFOUND":
            return None
        kinds = {"TEMP": "temporary error", "TIMEOUT": "timeout", "PERM": "permanent error"}
        raise TableError(f"{self.name} socketmap server {kinds.get(status, 'protocol error')}: {data}")

    def close(self) -> None:
        self._server.close()


def _port(spec: Spec, port: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise TableError(f"{spec.name}: need host:port, with the port as a number")
    return int(port)


def _line(data: bytes) -> tuple[bytes, bytes] | None:
    reply, feed, rest = data.partition(b"\n")
    if len(reply) >= MAX_LINE:
        raise ValueError("the server's reply is too long")
    return (reply.rstrip(b"\r"), rest) if feed else None


def _netstring(data: bytes) -> tuple[bytes, bytes] | None:
    match = _LENGTH.match(data)
    if match is None:
        if len(data) > 10 or not data.isdigit():
            raise ValueError("the server's reply is no netstring")
        return None
    length, start = int(match.group(1)), match.end()
    if length > MAX_NETSTRING:
        raise ValueError("the server's reply is too long")
    if len(data) <= start + length:
        return None
    if data[start + length : start + length + 1] != b",":
        raise ValueError("the server's reply is no netstring")
    return data[start : start + length], data[start + length + 1 :]
