"""A load balancer in front: the PROXY protocol, versions 1 and 2."""

from __future__ import annotations

import ipaddress
import ssl
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from gateway.config import ConfigError
from gateway.smtpd.proxy import Proxied, ProxyError, parse
from tests.gateway.smtpd.rig import Rig
from tests.gateway.smtpd.test_server import Caller, served
from tests.gateway.smtpd.test_tls import tls_rig

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 198.51.100.9 192.0.2.1 4321 25\r\n"


def binary(client: str, server: str, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    packed = [ipaddress.ip_address(one).packed for one in (client, server)]
    body = b"".join(packed) + struct.pack("!HH", 4321, 25) + extra
    family = 0x11 if len(packed[0]) == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


SAID = Proxied("198.51.100.9", "4321", "192.0.2.1", "25")


@pytest.mark.parametrize(
    "header, said",
    [
        (LINE, SAID),
        (b"PROXY TCP6 2001:DB8::9 ::1 4321 25\r\n", Proxied("2001:db8::9", "4321", "::1", "25")),
        (b"PROXY UNKNOWN\r\n", Proxied()),
        (b"PROXY UNKNOWN ffff:f...f 65535 65535\r\n", Proxied()),
        (binary("198.51.100.9", "192.0.2.1"), SAID),
        (binary("198.51.100.9", "192.0.2.1", extra=b"\3\0\4\xa9\xb8\x7e\x8f"), SAID),
        (binary("2001:db8::9", "::1"), Proxied("2001:db8::9", "4321", "::1", "25")),
        (binary("1.2.3.4", "1.2.3.4", command=0x20), Proxied()),
    ],
)
def test_headers(header: bytes, said: Proxied) -> None:
    assert parse(header + b"EHLO x\r\n") == (said, b"EHLO x\r\n")
    for length in range(len(header)):
        assert parse(header[:length]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 25\r\n", b"PROXY TCP4 ::1 ::1 1 25\r\n",
        b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 300.1.1.1 1.2.3.4 1 25\r\n", b"PROXY " + b"x" * 120,
        binary("1.2.3.4", "1.2.3.4", command=0x31), binary("1.2.3.4", "1.2.3.4", command=0x22),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x12, 12) + b"x" * 12,
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 4) + b"x" * 4,
    ],
)
def test_what_is_none(header: bytes) -> None:
    with pytest.raises(ProxyError):
        parse(header)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: SIGNATURE + rest))
def test_it_takes_anything(data: bytes) -> None:
    try:
        parse(data)
    except ProxyError:
        pass


def rig(**settings: str) -> Rig:
    return Rig(smtpd_upstream_proxy_protocol="haproxy", **settings)


def test_the_client_is_whom_it_says() -> None:
    made = rig()
    client = made.connect(greet=False)
    assert client.got() == ""
    assert client.send(LINE[:20]) == "" and client.send(LINE[20:]).startswith("220 gw.test")
    client.say("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@gw.test>", "DATA")
    assert client.send("x\r\n.\r\n").startswith("250 2.0.0")
    assert "connect from unknown[198.51.100.9]" in made.lines
    sent = made.cleanup.stored[0].envelope.client
    assert (sent.address, sent.port) == ("198.51.100.9", "4321")


def test_commands_right_behind_it_are_talking_ahead() -> None:
    made = rig(smtpd_forbid_unauth_pipelining="no")
    client = made.connect(greet=False)
    assert client.send(LINE + b"EHLO x\r\n").startswith("220 gw.test ESMTP mailgateway\n250-gw.test")
    assert any(line.startswith("improper command pipelining after CONNECT") for line in made.lines)


def test_a_connection_of_the_balancers_own() -> None:
    made = rig()
    assert made.connect(greet=False).send(b"PROXY UNKNOWN\r\n").startswith("220 ")
    assert "connect from unknown[192.0.2.7]" in made.lines


def test_without_the_header_it_ends() -> None:
    made = rig()
    client = made.connect(greet=False)
    assert client.send("EHLO x\r\n") == "" and client.closed
    assert "warning: haproxy read: not a PROXY header from 192.0.2.7" in made.lines
    client = made.connect(greet=False)
    made.clock.pump([1] * 7)
    assert client.closed


def test_only_named_upstreams() -> None:
    made = rig(smtpd_upstream_proxy_clients="192.0.2.8")
    client = made.connect(greet=False)
    assert client.send(LINE) == "" and client.closed
    assert made.connect("192.0.2.8", greet=False).send(LINE).startswith("220 ")


def test_what_cannot_be_understood() -> None:
    with pytest.raises(ConfigError):
        Rig(smtpd_upstream_proxy_protocol="nginx")


@ensureDeferred
async def test_in_front_of_tls_from_the_first_byte(tmp_path: Path) -> None:
    made = tls_rig(tmp_path, "encrypt", smtpd_tls_wrappermode="yes", smtpd_upstream_proxy_protocol="haproxy")

    def talk(port: int) -> bytes:
        caller = Caller(port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inside = context.wrap_bio(incoming, outgoing)
        ahead = LINE
        while True:
            try:
                inside.do_handshake()
                answer = inside.read(100)
                caller.socket.close()
                return answer
            except ssl.SSLWantReadError:
                caller.socket.sendall(ahead + outgoing.read())
                ahead = b""
                incoming.write(caller.socket.recv(65536))

    with served(made) as port:
        assert (await deferToThread(talk, port)).startswith(b"220 gw.test")
    assert "connect from unknown[198.51.100.9]" in made.lines
