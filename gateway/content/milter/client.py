"""The dialogue with one milter about one SMTP session; the Sendmail milter protocol.

A Milter is asked event by event and answers with a Verdict, None meaning that mail may go on.  What goes wrong with it
(it is not there, hangs up, says what it may not or more than it may, is silent for too long or does not come to an
end) is one warning in the log; from then on milter_default_action is its answer to everything.  A refusal of the
connection or of HELO holds for the whole session, ACCEPT for what it was said about: the session, or the message.
"""

from __future__ import annotations

import enum
import errno
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.content.milter import config, protocol
from gateway.content.milter.config import MilterConfig
from gateway.content.milter.protocol import Agreed
from gateway.interfaces import Log
from gateway.tables.requests import Network, NoAnswer, connect_to

MOST_WAITING = 1 << 20
"""Bytes of a milter's answers that wait to be looked at."""
MOST_PACKETS = 10_000
"""That one event may be answered with, changes and signs of life together."""
MOST_CHANGED = 1 << 20
"""Bytes of changes that one message may get beside a new body."""
PATIENCE = 12.0
"""Times milter_content_timeout for an answer that is announced again and again."""
CONTENT_PROGRAM = "cleanup"
"""In whose name the log speaks of content."""
_OVERHEAD = 100
_NULL_SENDER = "{mail_addr}"
"""The macro that is sent even if it is empty, from MAIL on."""
_BEFORE_MAIL = frozenset((protocol.CONNECT, protocol.HELO, protocol.UNKNOWN))

_REPLY = re.compile(rb"([45])\d\d[ -](?:\1|\D|\Z)")
_PERCENT = re.compile(r"%(%?)")
_CLOSED = "Application error"


class Kind(enum.Enum):
    REFUSE = enum.auto()
    """``text`` is the reply, its lines parted by LF."""
    DISCARD = enum.auto()
    HOLD = enum.auto()


class Verdict(NamedTuple):
    kind: Kind
    text: str = ""

    @property
    def ends(self) -> bool:
        """There is nothing more to ask."""
        return self.kind is not Kind.HOLD


DISCARD, HOLD = Verdict(Kind.DISCARD), Verdict(Kind.HOLD)
REJECTED = Verdict(Kind.REFUSE, "550 5.7.1 Command rejected")
TEMPFAILED = Verdict(Kind.REFUSE, "451 4.7.1 Service unavailable - try again later")
MISCONFIGURED = Verdict(Kind.REFUSE, "451 4.3.5 Server configuration problem - try again later")
SHUT_DOWN = Verdict(Kind.REFUSE, "421 4.7.0 Server closing connection")

_DEFAULTS = {
    config.ACCEPT: None, config.REJECT: Verdict(Kind.REFUSE, "550 5.5.0 Service unavailable"),
    config.TEMPFAIL: TEMPFAILED, config.QUARANTINE: HOLD, config.SHUTDOWN: SHUT_DOWN,
}  # fmt: skip

Answer = tuple[bytes, bytes]
"""Command and data."""


class _Broken(Exception):
    """The milter cannot be used any more; the text is for the log, "" = we have hung up ourselves."""


class _Nonsense(_Broken):
    """What it says is no reply."""


class _Line(Protocol):
    """The connection: packets in the order in which they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._packets: deque[Answer] = deque()
        self._size = 0
        self._waiting: defer.Deferred[Answer] | None = None
        self._problem = ""
        self.lost = False

    def next(self) -> defer.Deferred[Answer]:
        """The next packet; fails with _Broken."""
        if self._packets:
            answer = self._packets.popleft()
            self._size -= len(answer[1]) + _OVERHEAD
            return defer.succeed(answer)
        if self.lost:
            return defer.fail(_Broken(self._problem or _CLOSED))
        self._waiting = defer.Deferred(lambda _: None)
        return self._waiting

    def send(self, data: bytes) -> None:
        if not self.lost:
            self.transport.write(data)  # type: ignore[union-attr]

    def close(self, problem: str = "") -> None:
        if not self.lost:
            self.lost, self._problem = True, problem
            self.transport.loseConnection()  # type: ignore[union-attr]
            self._tell()

    def dataReceived(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4 and not self.lost:
            length = int.from_bytes(buffer[:4], "big")
            if not 0 < length <= protocol.LONGEST:
                self.close(f"unreasonable packet length: {length} > {protocol.LONGEST}")
                return
            if len(buffer) < 4 + length:
                return
            answer = bytes(buffer[4:5]), bytes(buffer[5 : 4 + length])
            del buffer[: 4 + length]
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(answer)
            return
        self._packets.append(answer)
        self._size += len(answer[1]) + _OVERHEAD
        if self._size > MOST_WAITING:
            self.close("says more than it was asked for")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(_Broken(self._problem or _CLOSED))


class Milter:
    """``macro``: the value of a macro by its name, "" = none."""

    def __init__(self, what: MilterConfig, network: Network, log: Log, program: str) -> None:
        self.config = what
        self.agreed = Agreed(0, 0, 0, {})
        self._network = network
        self._log = log
        self._program = self._at_work = program
        self._line: _Line | None = None
        self._sticky: Verdict | None = None
        """The answer to everything from now on."""
        self._over = self._message_over = False
        """It wants to hear no more: of this session, of this message."""
        self._in_message = False
        self._skips = b""
        """An event of which it wants to hear no more, until another one comes."""
        self.closed = False

    @property
    def silent(self) -> bool:
        """Nothing is to be asked of it now."""
        return self._over or self._message_over

    @property
    def wants_body(self) -> bool:
        return not (self.silent or self._skips == protocol.BODY or self._spared(protocol.BODY))

    # --- events --------------------------------------------------------------------------------------------------

    async def connect(self, data: bytes, macro: Callable[[str], str]) -> Verdict | None:
        name = f"connect to Milter service {self.config.name}"
        try:
            self._line = await connect_to(name, self.config.place, self._network, _Line, self.config.connect_timeout)
        except NoAnswer as problem:
            return self._failed(_Broken(f"{name}: {problem.reason}"))
        if self.closed:
            self._line.close()
            return None
        try:
            await self._negotiate()
        except _Broken as problem:
            return self._failed(problem)
        return await self.event(protocol.CONNECT, data, macro)

    async def event(self, command: bytes, data: bytes, macro: Callable[[str], str]) -> Verdict | None:
        """Tell of something that is answered with one packet."""
        if self._sticky is not None and not self._message_over:
            return self._sticky
        if self.silent or self._line is None:
            return None
        self._at_work = self._program
        if command == protocol.MAIL:
            self._in_message = True
        if self._spared(command) or self._has_skipped(command):
            return None
        self._line.send(self._macros(command, macro) + protocol.packet(command, data))
        if self.agreed.options & protocol.SILENT.get(command, 0):
            return None
        try:
            answer, said = await self._answer(command, self.config.command_timeout)
            return self._meaning(command, answer, said)
        except _Broken as problem:
            return self._failed(problem)

    async def header(self, name: bytes, value: bytes, macro: Callable[[str], str]) -> Verdict | None:
        """``value``: what is behind the colon, without its last LF."""
        if self._spared(protocol.HEADER):
            return None
        if not self.agreed.options & protocol.LEADING_SPACE:
            value = value.lstrip(b" \t")
        data = protocol.text(name) + protocol.text(value)
        return await self._content(protocol.HEADER, data, macro)

    async def end_of_header(self, macro: Callable[[str], str]) -> Verdict | None:
        return await self._content(protocol.END_OF_HEADER, b"", macro)

    async def body(self, chunk: bytes, macro: Callable[[str], str]) -> Verdict | None:
        """A piece of the body with CRLF line ends, not longer than protocol.CHUNK."""
        return await self._content(protocol.BODY, chunk, macro)

    async def end(self, macro: Callable[[str], str], changes: list[Answer], most: int) -> Verdict | None:
        """The end of the message.  What the milter wants changed is added to ``changes``; ``most``: bytes of a new
        body."""
        if self._sticky is not None:
            return self._sticky
        if self.silent or self._line is None:
            return None
        self._at_work = CONTENT_PROGRAM
        self._line.send(self._macros(protocol.END, macro) + protocol.packet(protocol.END))
        self._in_message = False
        room = most + MOST_CHANGED
        try:
            async for answer, said in self._answers(protocol.END, self.config.content_timeout):
                if answer not in protocol.MODIFICATIONS:
                    return self._meaning(protocol.END, answer, said)
                room -= len(said)
                if room < 0:
                    raise self._broken("changes more of a message than it may")
                changes.append((answer, said))
        except _Broken as problem:
            changes.clear()
            return self._failed(problem)
        raise AssertionError("answers end with an error only")

    def abort(self) -> None:
        """The message, if there is one, is over."""
        if self._in_message and self._line is not None and not self._over:
            self._line.send(protocol.packet(protocol.ABORT))
        self._in_message = self._message_over = False
        self._skips = b""

    def close(self) -> None:
        self.closed = True
        if self._line is not None:
            if self._in_message and not self._over:
                self._line.send(protocol.packet(protocol.ABORT))
            self._line.send(protocol.packet(protocol.QUIT))
            self._line.close()

    # --- how -----------------------------------------------------------------------------------------------------

    def _spared(self, command: bytes) -> bool:
        return bool(self.agreed.options & protocol.SPARED.get(command, 0))

    def _has_skipped(self, command: bytes) -> bool:
        if self._skips != command:
            self._skips = b""
        return bool(self._skips)

    async def _content(self, command: bytes, data: bytes, macro: Callable[[str], str]) -> Verdict | None:
        if self._sticky is not None or self.silent or self._line is None or self._spared(command):
            return self._sticky
        if self._has_skipped(command):
            return None
        self._at_work = CONTENT_PROGRAM
        self._line.send(self._macros(command, macro) + protocol.packet(command, data))
        if self.agreed.options & protocol.SILENT[command]:
            return None
        try:
            answer, said = await self._answer(command, self.config.content_timeout)
            return self._meaning(command, answer, said)
        except _Broken as problem:
            return self._failed(problem)

    async def _negotiate(self) -> None:
        line, version = self._line, self.config.version
        assert line is not None
        line.send(protocol.offer(version))
        answer, said = await self._answer(protocol.NEGOTIATE, self.config.command_timeout)
        if answer != protocol.NEGOTIATE:
            raise self._broken(f"unexpected filter response {_shown(answer)} after event SMFIC_OPTNEG")
        try:
            self.agreed = protocol.agreement(said, version)
        except ValueError as problem:
            raise self._broken(str(problem)) from None

    def _macros(self, command: bytes, macro: Callable[[str], str]) -> bytes:
        configured: Mapping[bytes, tuple[str, ...]] = self.config.macros
        # Header and body are about what their ends are about.
        stage = {protocol.HEADER: protocol.END_OF_HEADER, protocol.BODY: protocol.END}.get(command, command)
        names = self.agreed.macros.get(stage, configured.get(stage, ()))
        values = {name: macro(name) for name in names}
        empty = _NULL_SENDER if command not in _BEFORE_MAIL else ""
        return protocol.macros(command, {name: value for name, value in values.items() if value or name == empty})

    async def _answer(self, command: bytes, timeout: float) -> Answer:
        async for answer in self._answers(command, timeout):
            return answer
        raise AssertionError("answers end with an error only")

    async def _answers(self, command: bytes, timeout: float) -> AsyncIterator[Answer]:
        """What the milter says to an event, but for signs of life.  ``timeout``: for each packet."""
        line, reactor = self._line, self._network.reactor
        assert line is not None
        until = reactor.seconds() + PATIENCE * timeout
        for _ in range(MOST_PACKETS):
            left = min(timeout, until - reactor.seconds())
            try:
                answer = await line.next().addTimeout(max(0.0, left), reactor)
            except defer.TimeoutError:
                timed_out = os.strerror(errno.ETIMEDOUT)
                raise self._broken(self._cannot_read(command, timed_out)) from None
            except _Broken as problem:
                text = str(problem)
                raise self._broken(self._cannot_read(command, text) if text == _CLOSED else text) from None
            if answer[0] != protocol.PROGRESS:
                yield answer
        raise self._broken(f"says too much to SMFIC_{protocol.NAMES[command]}")

    @staticmethod
    def _cannot_read(command: bytes, why: str) -> str:
        return f"can't read SMFIC_{protocol.NAMES[command]} reply packet header: {why}"

    def _broken(self, text: str) -> _Broken:
        return _Broken(f"milter {self.config.name}: {text}")

    def _failed(self, problem: _Broken) -> Verdict | None:
        """The milter is of no use any more: what is to be done then."""
        if self.closed:
            return None
        self._log.warning(self._at_work, str(problem))
        if self._line is not None:
            self._line.close()
            self._line = None
        self._sticky = _DEFAULTS[self.config.default_action]
        if isinstance(problem, _Nonsense) and self._sticky is not None and self._sticky is not HOLD:
            self._sticky = MISCONFIGURED
        self._over = self._sticky is None
        return self._sticky

    def _meaning(self, command: bytes, answer: bytes, said: bytes) -> Verdict | None:
        if answer == protocol.CONTINUE:
            return None
        if answer == protocol.ACCEPT:
            if command in (protocol.CONNECT, protocol.HELO):
                self._over = True
            else:
                self._message_over, self._in_message = True, False
            return None
        if answer == protocol.SKIP:
            self._skips = command
            return None
        if answer == protocol.DISCARD and command in (protocol.CONNECT, protocol.HELO):
            text = f"milter {self.config.name}: DISCARD action is not allowed for connect or helo"
            self._log.warning(self._program, text)
            return None
        verdict = self._refusal(answer, said)
        if verdict is None:
            where = f"SMFIC_{protocol.NAMES[command]}"
            raise self._broken(f"unexpected filter response {_shown(answer)} after event {where}")
        if verdict.kind is Kind.REFUSE and command in (protocol.CONNECT, protocol.HELO):
            self._sticky = verdict
        if verdict is DISCARD:
            self._message_over = True
        return verdict

    def _refusal(self, answer: bytes, said: bytes) -> Verdict | None:
        if answer == protocol.REPLY:
            if not _REPLY.match(said):
                text = said[:100].decode("ascii", "replace").rstrip("\0")
                raise _Nonsense(f"milter {self.config.name}: malformed reply: {text}")
            return Verdict(Kind.REFUSE, _lines(said))
        return {
            protocol.REJECT: REJECTED, protocol.TEMPFAIL: TEMPFAILED, protocol.DISCARD: DISCARD,
            protocol.SHUTDOWN: SHUT_DOWN,
        }.get(answer)


def _shown(answer: bytes) -> str:
    name = protocol.ANSWER_NAMES.get(answer)
    return f"SMFIR_{name}" if name else "(unknown filter reply)"


def _lines(said: bytes) -> str:
    """A reply of the milter's own, as our replies are: its lines by LF, each with its code.  As Sendmail takes it for
    a format, "%%" is a "%", and a "%" alone is nothing."""
    text = _PERCENT.sub(r"\1", said.removesuffix(b"\0").replace(b"\r", b"").decode("utf-8", "replace"))
    lines = text.split("\n")
    lines = [line for line in lines if line] or ["550 5.7.1 Command rejected"]
    code = lines[0][:3]
    rest = [line[4:] if line[:3] == code and line[3:4] in ("-", " ", "") else line for line in lines]
    return "\n".join([f"{code}-{line}" for line in rest[:-1]] + [f"{code} {rest[-1]}"])


