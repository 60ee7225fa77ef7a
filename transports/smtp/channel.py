"""The line below an SMTP session: what is due, in which order, for how long, and what ends it.

``_expected`` holds who takes each reply that is due.  The rules that keep mail safe:

* A reply that nobody asked for, one that is none (transports.smtp.replies), and bytes behind the last reply that was
  due are a breach of the protocol: the connection is cut.  So an answer can never be taken for one to a later command,
  and nothing received in clear is believed after a TLS handshake, nor what comes too early within TLS, whatever
  smtp_tls_block_early_mail_reply and lmtp_tls_block_early_mail_reply say.
* 421 ends the session, whatever it answers.
* One timer runs whenever something is due, for the whole reply, so that a trickle of bytes extends nothing.

A subclass sends commands, and learns of the end by ``_ended_by``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from gateway.interfaces import TableError
from gateway.sending import send
from transports.smtp import verdict as stages
from transports.smtp.options import Times
from transports.smtp.replies import ProtocolError, Reply, ReplyReader
from transports.smtp.reply_filter import ReplyFilter
from transports.smtp.transcript import Transcript
from transports.smtp.verdict import Stage, Verdict

FAREWELL = 10.0
"""Seconds that a closed connection may take to get rid of what is still to be written."""

Handler = Callable[[Reply], None]


@dataclass(slots=True, frozen=True)
class Peer:
    """The other end.  ``port`` 0: a local socket, ``address`` is its path."""

    host: str
    address: str
    port: int
    best: bool = True
    """One of the best hosts for the next hop; false for a backup."""
    domain: str = ""
    """The next hop's domain, for certificates."""

    @property
    def named(self) -> str:
        return f"{self.host}[{self.address}]"

    @property
    def relay(self) -> str:
        return f"{self.named}:{self.port}" if self.port else self.named


class Channel(Protocol):
    def __init__(self, peer: Peer, times: Times, reactor: Any, reply_filter: ReplyFilter | None = None) -> None:
        self.peer = peer
        self.usable = False
        """Nothing is due, and something can be asked for."""
        self.began = reactor.seconds()
        """When the connection stood."""
        self._times, self._reactor = times, reactor
        self.transcript: Transcript | None = None
        """What is said, if somebody may want to read it."""
        self._reader = ReplyReader()
        self._filter = reply_filter
        self._held = False
        """A reply is with the filter."""
        self._filtering = False
        self._expected: deque[tuple[Handler, Stage]] = deque()
        self._at = stages.GREETING
        """The step that we are in while no reply is due."""
        self._ended = False
        self._connected = False
        self._timer: Any = None
        self._deadline: float | None = None

    # --- for the subclass

    def _begin(self) -> None:
        """The connection stands."""
        raise NotImplementedError

    def _ended_by(self, why: Verdict, idle: bool) -> bool:
        """The session is over; whoever waits is to be told.  True: cut the line, nothing more may be written."""
        raise NotImplementedError

    def quit(self) -> None:
        """End the session politely."""
        raise NotImplementedError

    # --- the line

    def connectionMade(self) -> None:
        self._connected = True
        self.began = self._reactor.seconds()
        if self.peer.port:
            self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self._begin()

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        self._reader.feed(data)
        try:
            if self._filter is not None:
                self._filter_replies(self._filter)
                return
            while not self._ended and (reply := self._reader.take()) is not None:
                self._take(reply)
        except ProtocolError as error:
            self._breach(error)

    def _take(self, reply: Reply) -> None:
        """Raises ProtocolError."""
        reader, expected = self._reader, self._expected
        if not expected:
            raise ProtocolError(f"{reply.text} (nothing was asked)")
        handler, self._at = expected.popleft()
        if not expected:
            self._deadline = None
            if not reader.empty and reply.code != 421:
                raise ProtocolError(f"{reply.text} (and more than was asked for)")
        stage = self._at
        if self.transcript is not None:
            self.transcript.heard(reply)
        handler(reply)
        if reply.code == 421:
            self._end(stages.said(reply, self.peer.host, self.peer.named, stage))
        elif expected:
            self._arm(expected[0][1])

    def _breach(self, error: ProtocolError) -> None:
        if self.transcript is not None:
            self.transcript.broken(str(error))
        self._end(stages.breach(self.peer.named, self._stage, str(error)), abort=True)

    # --- replies that a table may change

    def _filter_replies(self, reply_filter: ReplyFilter) -> None:
        """Hand them over one by one, unless that is being done.  Raises ProtocolError."""
        if self._filtering:
            return
        self._filtering = True
        try:
            while not self._ended and not self._held and (reply := self._reader.take()) is not None:
                self._held = True
                self.transport.pauseProducing()  # type: ignore[union-attr]
                changed = Deferred.fromCoroutine(reply_filter.changed(reply, self.peer.relay))
                changed.addCallbacks(self._release, self._not_filtered)
        finally:
            self._filtering = False

    def _release(self, reply: Reply) -> None:
        self._held = False
        if self._ended:
            return
        self.transport.resumeProducing()  # type: ignore[union-attr]
        try:
            self._take(reply)
        except ProtocolError as error:
            self._breach(error)
        self.dataReceived(b"")

    def _not_filtered(self, failure: Failure) -> None:
        if failure.check(ProtocolError):
            self._breach(failure.value)  # type: ignore[arg-type]
        else:
            failure.trap(TableError)
            self._end(Verdict("4.3.0", f"local data error while talking to {self.peer.named}", site=True), abort=True)

    def _expect(self, handler: Handler, stage: Stage) -> None:
        if not self._expected:
            self._arm(stage)
        self._expected.append((handler, stage))

    def _command(self, line: bytes, handler: Handler, stage: Stage, shown: bytes = b"") -> None:
        """``shown``: what the transcript has in its place."""
        self._note(shown or line)
        self._write(line)
        self._expect(handler, stage)

    def _note(self, *commands: bytes) -> None:
        if self.transcript is not None:
            for command in commands:
                self.transcript.asked(command)

    def _refusal(self, reply: Reply, stage: Stage) -> Verdict:
        """The server's answer to a command is no."""
        if self.transcript is not None:
            self.transcript.refused(reply)
        return stages.said(reply, self.peer.host, self.peer.named, stage)

    def _write(self, data: bytes) -> None:
        send(self.transport, data)

    @property
    def _stage(self) -> Stage:
        """Where we are, for the wording of a failure."""
        return self._expected[0][1] if self._expected else self._at

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self._end(stages.lost(self.peer.named, self._stage))
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- time

    def _arm(self, stage: Stage) -> None:
        self._set_timer(getattr(self._times, stage.time))

    def _set_timer(self, seconds: float) -> None:
        """The one timer is moved to an earlier moment only; a later one is looked at when it fires."""
        self._deadline = deadline = self._reactor.seconds() + seconds
        if self._timer is None:
            self._timer = self._reactor.callLater(seconds, self._fired)
        elif self._timer.getTime() > deadline:
            self._timer.reset(seconds)

    def _fired(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._reactor.seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._fired)
        elif self.usable:
            self.quit()
        elif self._ended:
            self.transport.abortConnection()  # type: ignore[union-attr]
        else:
            self._end(stages.timed_out(self.peer.named, self._stage), abort=True)

    # --- the end

    def _end(self, why: Verdict, *, abort: bool = False) -> None:
        if self._ended:
            return
        self._ended = True
        idle, self.usable = self.usable, False
        self._expected.clear()
        abort = self._ended_by(why, idle) or abort
        if self._connected:
            if abort:
                self.transport.abortConnection()  # type: ignore[union-attr]
            else:
                self._close()

    def _close(self) -> None:
        self._ended = True
        self.transport.loseConnection()  # type: ignore[union-attr]
        self._set_timer(FAREWELL)
