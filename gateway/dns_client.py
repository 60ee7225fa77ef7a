"""Questions to name servers over UDP and TCP (RFC 1035), on Twisted; dnspython reads and writes the packets.

``DNSClient.ask`` sends one question to the servers in turn, with the times and number of attempts of resolv.conf(5)
and never longer than ``DEADLINE`` in all, and gives the first usable answer as a ``dns.message.Message`` whose code is
NOERROR or NXDOMAIN.  SERVFAIL, REFUSED and the like make it go on to the next server.  It raises NoAnswer when nobody
answered so.

Against forged answers (RFC 5452): a socket of its own for every question (the kernel picks the port and drops what
comes from elsewhere), a random ID, and the question in the answer must be the one that was asked.  An answer that does
not fit is ignored, the wait goes on.  A truncated answer is asked for again over TCP.

Every question has its own timers: a slow server delays those who wait for it and nobody else.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.dns_files import ResolvConf

DEADLINE = 30.0
"""Seconds for one question, all servers and attempts together."""
MAX_SOCKETS = 400
"""Questions on the way at the same time; further ones wait for a place."""
USABLE = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)

Server = tuple[str, int]
Done = Callable[["dns.message.Message | None"], None]


class NoAnswer(Exception):
    """No server gave a usable answer."""


class DNSClient:
    """``conf`` gives the current resolv.conf; ``servers``, if given, are asked instead of those that it names."""

    def __init__(
        self,
        reactor: Any,
        conf: Callable[[], ResolvConf],
        *,
        servers: Sequence[Server] | None = None,
        random_id: Callable[[], int] = lambda: secrets.randbelow(65536),
    ) -> None:
        self._reactor, self._conf, self._servers, self._random_id = reactor, conf, servers, random_id
        self._free = MAX_SOCKETS
        self._waiting: deque[Deferred[None]] = deque()

    async def ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        if self._free == 0:
            place: Deferred[None] = Deferred()
            self._waiting.append(place)
            await place
        else:
            self._free -= 1
        try:
            return await self._ask_servers(name, kind)
        finally:
            if self._waiting:
                self._waiting.popleft().callback(None)
            else:
                self._free += 1

    async def _ask_servers(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        conf = self._conf()
        servers = list(self._servers if self._servers is not None else [(host, 53) for host in conf.servers])
        if conf.rotate:
            start = secrets.randbelow(len(servers))
            servers = servers[start:] + servers[:start]
        end = self._reactor.seconds() + DEADLINE
        for attempt in range(conf.attempts):
            # As in res_send(3): later rounds wait longer, shared between the servers.
            patience = conf.timeout if attempt == 0 else max(1.0, conf.timeout * 2**attempt / len(servers))
            for server in servers:
                left = end - self._reactor.seconds()
                if left <= 0:
                    raise NoAnswer
                answer = await self._ask_one(server, name, kind, min(patience, left))
                if answer is not None and answer.rcode() in USABLE:
                    return answer
        raise NoAnswer

    async def _ask_one(
        self, server: Server, name: dns.name.Name, kind: dns.rdatatype.RdataType, patience: float
    ) -> dns.message.Message | None:
        query = dns.message.make_query(name, kind, id=self._random_id())
        answer = await _over_udp(self._reactor, server, query, patience)
        if answer is not None and answer.flags & dns.flags.TC:
            answer = await _over_tcp(self._reactor, server, query, patience)
        return answer


def read_answer(query: dns.message.Message, packet: bytes) -> dns.message.Message | None:
    """The answer to this very question, or None for anything else."""
    if len(packet) < 12 or packet[:2] != query.id.to_bytes(2, "big"):
        return None
    try:
        answer = dns.message.from_wire(packet, ignore_trailing=True, raise_on_truncation=False)
    except dns.message.Truncated:
        return None
    except Exception:  # whatever dnspython makes of hostile bytes: it is no answer
        return _read_head(query, packet)
    if not query.is_response(answer) or answer.question != query.question:
        return None
    return answer


def _read_head(query: dns.message.Message, packet: bytes) -> dns.message.Message | None:
    """A truncated packet may be cut within a record: then its head and question alone count."""
    if packet[2] & 0x82 != 0x82:  # an answer, cut off
        return None
    try:
        answer = dns.message.from_wire(packet, question_only=True, ignore_trailing=True)
    except Exception:
        return None
    return answer if query.is_response(answer) and answer.question == query.question else None


class _Wait:
    """One question's end: the first of answer, refusal and time-out."""

    def __init__(self, reactor: Any, patience: float, close: Callable[[], Any]) -> None:
        self.result: Deferred[dns.message.Message | None] = Deferred()
        self._close = close
        self._timer = reactor.callLater(patience, self.end, None)

    def end(self, answer: dns.message.Message | None) -> None:
        if self.result.called:
            return
        if self._timer.active():
            self._timer.cancel()
        self._close()
        self.result.callback(answer)


class _UDPQuestion(DatagramProtocol):
    def __init__(self, reactor: Any, server: Server, query: dns.message.Message, patience: float) -> None:
        self._server, self._query = server, query
        self.wait = _Wait(reactor, patience, self._stop)

    def startProtocol(self) -> None:
        assert self.transport is not None
        try:
            self.transport.connect(*self._server)
            self.transport.write(self._query.to_wire(), None)
        except OSError:  # no route.  Out of here, Twisted would take the protocol for one that never started
            self.wait.end(None)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        answer = read_answer(self._query, datagram)
        if answer is not None:
            self.wait.end(answer)

    def connectionRefused(self) -> None:
        self.wait.end(None)

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.stopListening()


def _over_udp(
    reactor: Any, server: Server, query: dns.message.Message, patience: float
) -> Deferred[dns.message.Message | None]:
    question = _UDPQuestion(reactor, server, query, patience)
    try:
        reactor.listenUDP(0, question, interface="::" if ":" in server[0] else "", maxPacketSize=65535)
    except Exception:  # no descriptor, no such address family
        question.wait.end(None)
    return question.wait.result


class _TCPQuestion(Protocol):
    def __init__(self, query: dns.message.Message, end: Done) -> None:
        self._query, self._end = query, end
        self._received = b""

    def connectionMade(self) -> None:
        packet = self._query.to_wire()
        assert self.transport is not None
        self.transport.write(len(packet).to_bytes(2, "big") + packet)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) >= end:
                self._end(read_answer(self._query, self._received[2:end]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(None)


class _TCPFactory(ClientFactory):
    noisy = False

    def __init__(self, query: dns.message.Message, end: Done) -> None:
        self._query, self._end = query, end

    def buildProtocol(self, addr: Any) -> _TCPQuestion:
        return _TCPQuestion(self._query, self._end)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._end(None)


def _over_tcp(
    reactor: Any, server: Server, query: dns.message.Message, patience: float
) -> Deferred[dns.message.Message | None]:
    connector: list[Any] = []
    wait = _Wait(reactor, patience, lambda: [each.disconnect() for each in connector if each.state != "disconnected"])
    factory = _TCPFactory(query, wait.end)
    connector.append(reactor.connectTCP(server[0], server[1], factory, timeout=patience))
    return wait.result
