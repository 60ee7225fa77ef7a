"""A filter in front of the queue: mail is handed through to another SMTP server while it comes; smtpd_proxy_filter.

The filter is talked to from the first recipient on that our own restrictions let pass; its replies to RCPT and at the
end are what the client gets, and nothing is queued here.  It hears of the client by XFORWARD, if it offers that.  What
goes wrong with it is one warning and a temporary error for the client; SMTPD_PROXY_README.

With smtpd_proxy_options = speed_adjust the message is kept until it has come in full, and the filter is talked to only
then: slow clients hold none of its connections, but all it refuses, it refuses at the end.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.addresses.syntax import xtext_encode
from gateway.config import Settings
from gateway.smtpd.peer import UNKNOWN
from gateway.tables.requests import NoAnswer, Place, Reach, connect_to, service_place

if TYPE_CHECKING:
    from gateway.smtpd.conversation import Conversation

FAILED = "451 4.3.0 Error: queue file write error"
LONGEST_REPLY = 64 * 1024

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_LAST = re.compile(rb"(?:^|\n)([2-5]\d\d)(?: [^\n]*)?\r?\n", re.ASCII)
_DATA_LIMIT = 512
_IN_MEMORY = 1024 * 1024
_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProxyFilter:
    """The filter of one smtpd service."""

    name: str
    place: Place
    helo: str
    timeout: float
    reach: Reach
    late: bool = False
    """speed_adjust."""

    @classmethod
    def of(cls, settings: Settings, reach: Reach) -> ProxyFilter | None:
        """None: there is none.  Raises ConfigError."""
        name = settings.text("smtpd_proxy_filter").strip()
        if not name:
            return None
        try:
            place = service_place(name if name.startswith(("inet:", "unix:")) else f"inet:{name}", settings)
        except ValueError as error:
            raise settings.error("smtpd_proxy_filter", f"smtpd_proxy_filter: {error}", "give host:port") from None
        options = settings.words("smtpd_proxy_options")
        if unknown := [word for word in options if word.lower() != "speed_adjust"]:
            problem = f'unknown smtpd_proxy_options value "{unknown[0]}"'
            raise settings.error("smtpd_proxy_options", problem, "give speed_adjust, or nothing")
        helo, timeout = settings.text("smtpd_proxy_ehlo"), settings.seconds("smtpd_proxy_timeout")
        return cls(name, place, helo, timeout, reach, bool(options))


class _Broken(Exception):
    """The filter cannot be used; for the log."""


@implementer(IPushProducer)
class _Line(Protocol):
    """The connection: one reply after another."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: Deferred[str] | None = None
        self._room: list[Deferred[None]] = []
        self.lost = False
        self.full = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def reply(self) -> Deferred[str]:
        waiting = self._waiting = Deferred(lambda _: None)
        self._look()
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > LONGEST_REPLY and (self._waiting is None or self._waiting.called):
            self.transport.abortConnection()  # type: ignore[union-attr]  # it talks without being asked
            return
        self._look()

    def _look(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.called:
            return
        match = _LAST.search(self._buffer)
        if match is not None:
            text, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
            self._waiting = None
            lines = text.decode("utf-8", "replace").replace("\r", "").rstrip("\n").split("\n")
            waiting.callback("\n".join(_UNSAFE.sub("?", line) for line in lines))
        elif self.lost or len(self._buffer) > LONGEST_REPLY:
            self._waiting = None
            waiting.errback(_Broken("lost connection" if self.lost else "the reply is too long"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._look()
        self.resumeProducing()

    def drained(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if self.full and not self.lost:
            self._room.append(done)
        else:
            done.callback(None)
        return done

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        waiting, self._room = self._room, []
        for each in waiting:
            each.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()

    def close(self) -> None:
        if not self.lost:
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()


class Filtered:
    """One message on its way through the filter.  Provides what an IIntake does, but for the envelope."""

    id = ""

    def __init__(self, conversation: Conversation, proxy: ProxyFilter) -> None:
        self._self = conversation
        self._proxy = proxy
        self._line: _Line | None = None
        self._at_line_start = True
        self._mail = ""
        self._rcpts: list[str] = []
        self._kept: Any = None
        """With speed_adjust: the content, as it will be sent."""

    # --- commands ------------------------------------------------------------------------------------------------

    async def rcpt(self, mail: str, rcpt: str) -> str | None:
        """Hand on a recipient; the reply to the client if it is refused.  ``mail``: the command to begin with."""
        self._mail = mail
        if self._proxy.late:
            self._rcpts.append(rcpt)
            return None
        try:
            return await self._recipient(rcpt)
        except _Broken as problem:
            self._fail(str(problem))
            return FAILED

    async def data(self, header: list[bytes]) -> str | None:
        """Begin with the content, ``header`` first; the reply to the client if it cannot be."""
        if self._proxy.late:
            self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed in abort()
            refusal = None
        else:
            try:
                refusal = await self._expect("DATA", "3")
            except _Broken as problem:
                self._fail(str(problem))
                return FAILED
        if refusal is None:
            self.write(b"".join(line.replace(b" id %(id)s", b"") + b"\n" for line in header))
        return refusal

    async def _recipient(self, rcpt: str) -> str | None:
        """The filter's refusal of the sender or of a recipient."""
        if self._line is None:
            await self._connect()
            refusal = await self._expect(self._mail, "2")
            if refusal is not None:
                self._hang_up()
                return refusal
        return await self._expect(rcpt, "2")

    async def _connect(self) -> None:
        proxy = self._proxy
        try:
            self._line = await connect_to("proxy filter", proxy.place, proxy.reach, _Line, proxy.timeout)
        except NoAnswer as problem:
            raise _Broken(f"connect to proxy filter {proxy.name}: {problem.reason}") from None
        greeting = await self._reply()
        if greeting[0] != "2":
            raise _Broken(f'proxy {proxy.name} rejected "connection": "{greeting}"')
        hello = await self._ask(f"EHLO {proxy.helo}")
        for line in hello.split("\n"):
            if line[4:12].upper() == "XFORWARD" and hello[0] == "2":
                for command in _xforward(self._self, line[13:].upper().split()):
                    if await self._expect(command, "2") is not None:
                        raise _Broken("")

    async def _replay(self) -> str | None:
        """Send what was kept; the filter's refusal."""
        for rcpt in self._rcpts:
            refusal = await self._recipient(rcpt)
            if refusal is not None:
                return refusal
        refusal = await self._expect("DATA", "3")
        if refusal is not None:
            return refusal
        kept, self._kept = self._kept, None
        with kept:
            kept.seek(0)
            while block := kept.read(_BLOCK):
                if self._line is not None and not self._line.lost:
                    self._line.transport.write(block)  # type: ignore[union-attr]
                await self.drained()
        return None

    async def _expect(self, command: str, good: str) -> str | None:
        reply = await self._ask(command)
        if reply[0] == good:
            return None
        self._self.warning(f'proxy {self._proxy.name} rejected "{command}": "{reply}"')
        return reply

    async def _ask(self, command: str) -> str:
        line = self._line
        if line is None or line.lost:
            raise _Broken(f"lost connection with proxy {self._proxy.name}")
        line.transport.write(_UNSAFE.sub("?", command).encode("utf-8", "surrogateescape") + b"\r\n")  # type: ignore[union-attr]
        return await self._reply()

    async def _reply(self) -> str:
        assert self._line is not None
        try:
            return await self._line.reply().addTimeout(self._proxy.timeout, self._proxy.reach.reactor)
        except TimeoutError:
            raise _Broken(f"timeout talking to proxy {self._proxy.name}") from None
        except _Broken as problem:
            raise _Broken(f"{problem} with proxy {self._proxy.name}") from None

    def _fail(self, text: str) -> None:
        if text:
            self._self.warning(text)
        self.abort()

    # --- as an intake --------------------------------------------------------------------------------------------

    def write(self, block: bytes) -> None:
        if not block or (self._kept is None and (self._line is None or self._line.lost)):
            return
        dotted = block.replace(b"\n.", b"\n..")
        if self._at_line_start and dotted[:1] == b".":
            dotted = b"." + dotted
        self._at_line_start = block.endswith(b"\n")
        sent = dotted.replace(b"\n", b"\r\n")
        if self._kept is not None:
            self._kept.write(sent)
        elif self._line is not None:
            self._line.transport.write(sent)  # type: ignore[union-attr]

    @property
    def full(self) -> bool:
        return self._line is not None and self._line.full

    async def drained(self) -> None:
        if self._line is not None:
            await self._line.drained()

    async def finish(self) -> str:
        """The end of the content; the filter's reply."""
        if not self._at_line_start:
            self.write(b"\n")
        try:
            reply = await self._replay() if self._kept is not None else None
            if reply is None:
                reply = await self._ask(".")
        except _Broken as problem:
            self._fail(str(problem))
            return FAILED
        self.abort()
        return reply

    def abort(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        self._hang_up()

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None and not line.lost:
            line.transport.write(b"QUIT\r\n")  # type: ignore[union-attr]
            line.close()


def _xforward(self: Conversation, offered: list[str]) -> list[str]:
    """Commands that tell of the client, each no longer than one may be."""
    session, said = self.session, self.forwarded
    known = {
        "NAME": said.get("NAME", session.client_name), "ADDR": said.get("ADDR", session.client_address),
        "PORT": said.get("PORT", session.client_port), "HELO": said.get("HELO", session.helo or ""),
        "PROTO": said.get("PROTO", session.protocol), "IDENT": said.get("IDENT", ""),
        "SOURCE": said.get("SOURCE", "REMOTE"),
    }  # fmt: skip
    commands: list[str] = []
    for name, value in known.items():
        if name not in offered:
            continue
        word = f"{name}={'[UNAVAILABLE]' if value in ('', UNKNOWN) else xtext_encode(value)}"
        if commands and len(commands[-1]) + len(word) < _DATA_LIMIT:
            commands[-1] += f" {word}"
        else:
            commands.append(f"XFORWARD {word}")
    return commands
