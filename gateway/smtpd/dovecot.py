"""Whether a login is good is for another program to say, by Dovecot's protocol for SASL clients: SASL_README.

    server = DovecotServer(place, network)
    mechanisms = await server.mechanisms()                 # name → properties, such as {"plaintext"}
    step = await server.first("PLAIN", b"AGpvZQBz…", facts)
    step = await server.more(step.number, b"…")            # as long as step.outcome is MORE

Responses and challenges are base64, as SMTP has them.  All exchanges share one lasting connection, told apart by their
numbers; it is made when first needed, and again when the server has closed it.  A server that cannot be reached, breaks
the rules or says nothing for TIMEOUT seconds is a step with the outcome TEMPORARY; ``mechanisms`` raises NoAnswer.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.smtpd.sasl_types import Facts, Outcome, Step
from gateway.tables.requests import LOST, Network, NoAnswer, Place, connect_to

TIMEOUT = 10.0
LONGEST_LINE = 65536
MAJOR = b"1"
LOST_SERVER = "Connection lost to authentication server"

_connections = itertools.count()


def _client_id() -> int:
    """No two connections to a server may have the same; usually it is a process ID, which has up to 22 bits."""
    return (next(_connections) << 22 | os.getpid()) & 0x7FFFFFFF


_ESCAPED = re.compile(r"\x01(.)", re.DOTALL)
_MEANT = {"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"}


class _Link(Protocol):
    """One connection.  ``ready`` fires when the server has introduced itself."""

    def __init__(self) -> None:
        self.ready: defer.Deferred[None] = defer.Deferred()
        self.mechanisms: dict[str, frozenset[str]] = {}
        self.lost = False
        self._introduced = False
        self._buffer = b""
        self._waiting: dict[int, defer.Deferred[Step]] = {}

    def connectionMade(self) -> None:
        self.transport.write(b"VERSION\t%b\t1\nCPID\t%d\n" % (MAJOR, _client_id()))  # type: ignore[union-attr]

    def ask(self, number: int, line: bytes) -> defer.Deferred[Step]:
        answer: defer.Deferred[Step] = defer.Deferred(lambda _: None)
        self._waiting[number] = answer
        self.transport.write(line)  # type: ignore[union-attr]
        return answer

    def forget(self, number: int) -> None:
        self._waiting.pop(number, None)

    def close(self) -> None:
        if not self.lost:
            self.lost = True
            self.transport.abortConnection()  # type: ignore[union-attr]
            self._fail()

    def dataReceived(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self.lost:
                return
            self._take(line)
        if len(self._buffer) > LONGEST_LINE:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._fail()

    def _fail(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.errback(NoAnswer(LOST, LOST))
        if not self.ready.called:
            self.ready.errback(NoAnswer(LOST, LOST))

    def _take(self, line: bytes) -> None:
        words = line.split(b"\t")
        if self._introduced:
            self._answered(words[0], words[1:])
        elif words[0] == b"VERSION" and words[1:2] != [MAJOR]:
            self.close()
        elif words[0] == b"MECH" and len(words) > 1:
            name, *properties = (word.decode("ascii", "replace") for word in words[1:])
            self.mechanisms[name.upper()] = frozenset(each.lower() for each in properties)
        elif words[0] == b"DONE":
            self._introduced = True
            self.ready.callback(None)

    def _answered(self, kind: bytes, words: list[bytes]) -> None:
        if kind not in (b"OK", b"FAIL", b"CONT") or not words or not words[0].isdigit():
            return
        number = int(words[0][:10])
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        if kind == b"CONT":
            challenge = words[1].decode("ascii", "replace") if len(words) > 1 else ""
            waiting.callback(Step(Outcome.MORE, number, challenge))
        else:
            waiting.callback(_verdict(kind == b"OK", number, words[1:]))


def _verdict(good: bool, number: int, words: list[bytes]) -> Step:
    said: dict[str, str] = {}
    for word in words:
        name, _, value = word.decode("utf-8", "replace").partition("=")
        said[name] = _ESCAPED.sub(lambda match: _MEANT.get(match[1], match[1]), value)
    user = said.get("user")
    if good:
        return Step(Outcome.DONE if user else Outcome.FAILED, number, "", user)
    temporary = "temp" in said or said.get("code") == "temp_fail"
    return Step(Outcome.TEMPORARY if temporary else Outcome.FAILED, number, said.get("reason", ""), user)


class DovecotServer:
    def __init__(self, place: Place, network: Network) -> None:
        self._place = place
        self._network = network
        self._link: _Link | None = None
        self._waiting: list[defer.Deferred[_Link]] | None = None
        """Who waits for the connection that is being made; None = none is."""
        self._numbers = 0

    async def mechanisms(self) -> dict[str, frozenset[str]]:
        """Raises NoAnswer."""
        return (await self._linked()).mechanisms

    async def first(self, mechanism: str, response: bytes | None, facts: Facts) -> Step:
        """Begin an exchange.  ``response``: what the client has said with it, None = nothing."""
        number = self._numbers = self._numbers % 0x7FFFFFFF + 1
        words = [
            "AUTH", str(number), mechanism, f"service={facts.service}", "nologin", f"lip={facts.server_address}",
            f"rip={facts.client_address}", *(("secured",) if facts.secured else ()),
        ]  # fmt: skip
        if response is not None:
            words.append(f"resp={response.decode('ascii')}")  # it must be the last
        line = "\t".join(words).encode() + b"\n"
        kept = self._link is not None and not self._link.lost
        step = await self._ask(number, line)
        if step.outcome is Outcome.TEMPORARY and step.text == LOST_SERVER and kept:
            step = await self._ask(number, line)  # it may only have been restarted
        return step

    async def more(self, number: int, response: bytes) -> Step:
        link = self._link
        if link is None or link.lost:
            return Step(Outcome.TEMPORARY, number, LOST_SERVER)
        return await self._ask(number, b"CONT\t%d\t%b\n" % (number, response))

    def forget(self, number: int) -> None:
        if self._link is not None and not self._link.lost:
            self._link.forget(number)

    async def _ask(self, number: int, line: bytes) -> Step:
        try:
            link = await self._linked()
        except NoAnswer:
            return Step(Outcome.TEMPORARY, number, "Can't connect to authentication server")
        try:
            return await link.ask(number, line).addTimeout(TIMEOUT, self._network.reactor)
        except defer.TimeoutError:
            link.forget(number)
            return Step(Outcome.TEMPORARY, number, "Authentication server does not answer")
        except NoAnswer:
            return Step(Outcome.TEMPORARY, number, LOST_SERVER)

    async def _linked(self) -> _Link:
        if self._link is not None and not self._link.lost:
            return self._link
        if self._waiting is not None:
            turn: defer.Deferred[_Link] = defer.Deferred()
            self._waiting.append(turn)
            return await turn
        waiting = self._waiting = []
        try:
            link = self._link = await self._connect()
        except Exception as problem:
            self._waiting = None
            for each in waiting:
                each.errback(problem)
            raise
        self._waiting = None
        for each in waiting:
            each.callback(link)
        return link

    async def _connect(self) -> _Link:
        name = "SASL server"
        link: Any = await connect_to(name, self._place, self._network, _Link, TIMEOUT)
        try:
            await link.ready.addTimeout(TIMEOUT, self._network.reactor)
        except (NoAnswer, defer.TimeoutError):
            link.close()
            raise NoAnswer(f"{name} {self._place} does not introduce itself", LOST) from None
        made: _Link = link
        return made
