"""The PROXY protocol: a load balancer in front says, before all else, who the client is; smtpd_upstream_proxy_protocol.

Version 1 is a line of text, version 2 a binary header.  Only clients of smtpd_upstream_proxy_clients are listened to
(empty: all who connect, as with Postfix).  A connection of the balancer's own (LOCAL, UNKNOWN) keeps its address.
``parse`` raises ProxyError for what is no such header: the connection is closed then without a word.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from gateway.smtpd.peer import Peer, plain_address

if TYPE_CHECKING:
    from gateway.smtpd.conversation import Conversation

LONGEST_LINE = 107
LONGEST = 16 + 65535

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5})\Z")
_ADDRESSES = {0x1: (4, "!4s4sHH"), 0x2: (16, "!16s16sHH")}


class ProxyError(ValueError):
    """One line."""


class Proxied(NamedTuple):
    """Client and server, as the balancer saw them; without addresses it speaks for itself."""

    address: str = ""
    port: str = ""
    server: str = ""
    server_port: str = ""


def parse(data: bytes) -> tuple[Proxied, bytes] | None:
    """What the header says, and what is behind it; None: there is more to come."""
    if data.startswith(_SIGNATURE[: len(data)]):
        return _binary(data)
    if not data.startswith(b"PROXY "[: len(data)]):
        raise ProxyError("not a PROXY header")
    line, end, rest = data[:LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= LONGEST_LINE:
            raise ProxyError("the PROXY line is too long")
        return None
    rest = data[len(line) + 2 :]
    if line.startswith(b"PROXY UNKNOWN"):
        return Proxied(), rest
    match = _LINE.match(line)
    if match is None:
        raise ProxyError("malformed PROXY line")
    client, server = (_address(text, match[1]) for text in match.group(2, 3))
    return Proxied(client, _port(match[4]), server, _port(match[5])), rest


def _binary(data: bytes) -> tuple[Proxied, bytes] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack("!BBH", data[12:16])
    if command >> 4 != 2 or command & 0xF > 1:
        raise ProxyError("unknown version or command")
    if len(data) < 16 + length:
        return None
    body, rest = data[16 : 16 + length], data[16 + length :]
    if command & 0xF == 0 or family == 0:
        return Proxied(), rest
    if family & 0xF != 1 or family >> 4 not in _ADDRESSES:
        raise ProxyError(f"unexpected address family or protocol 0x{family:02x}")
    size, form = _ADDRESSES[family >> 4]
    if length < 2 * size + 4:
        raise ProxyError("the addresses are cut off")
    client, server, port, server_port = struct.unpack(form, body[: 2 * size + 4])
    made = IPv4Address if size == 4 else IPv6Address
    return (
        Proxied(plain_address(str(made(client))), str(port), plain_address(str(made(server))), str(server_port)), rest
    )


def _address(text: bytes, family: bytes) -> str:
    try:
        address = ip_address(text.decode())
    except ValueError:
        raise ProxyError("malformed address in the PROXY line") from None
    if address.version != int(family[3:]):
        raise ProxyError("an address is not of the family that the PROXY line names")
    return plain_address(str(address))


def _port(text: bytes) -> str:
    if int(text) > 65535:
        raise ProxyError("bad port in the PROXY line")
    return str(int(text))


async def introduce(self: Conversation) -> bytes | None:
    """Learn of the client.  What came behind the header, or None: the connection is to be closed.  Raises Gone."""
    service, channel = self.service, self.channel
    if service.proxies and not await service.proxies.match(self.peer.address, self.peer.name):
        self.warning(f"connection from {self.peer.address}, which is not in smtpd_upstream_proxy_clients")
        return None
    data = b""
    before, channel.timeout = channel.timeout, self.options.proxy_timeout
    try:
        while (found := parse(data)) is None:
            data += await channel.read_some(LONGEST - len(data))
    except ProxyError as problem:
        self.warning(f"haproxy read: {problem} from {self.peer.address}")
        return None
    finally:
        channel.timeout = before
    said, rest = found
    if said.address:
        self.peer = Peer(said.address, said.port)
        self.session.find_server = lambda: (said.server, said.server_port)
    return rest
