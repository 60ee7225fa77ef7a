"""One SMTP or LMTP session as a client: RFC 5321, 2033 (LMTP), 2920 (pipelining).

When it is open (transports.smtp.opening), ``deliver`` takes one transaction at a time and gives a Deferred of its
Outcome, which never fails.  ``quit`` says good-bye.

A small state machine: the channel (transports.smtp.channel) keeps who takes each reply that is due, and the time.  A
recipient is delivered only on a 2xx reply that came after our final dot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from gateway.interfaces import Log
from transports.smtp import verdict as stages
from transports.smtp.channel import Handler, Peer
from transports.smtp.features import Features
from transports.smtp.opening import Hello, Opening
from transports.smtp.options import Options
from transports.smtp.payload import Payload
from transports.smtp.producers import CheckedProducer, Producer
from transports.smtp.replies import ProtocolError, Reply
from transports.smtp.reply_filter import ReplyFilter
from transports.smtp.transcript import DATA
from transports.smtp.verdict import Outcome, Stage, Verdict

Step = tuple[bytes, Handler, Stage]


@dataclass(slots=True)
class Transaction:
    """One message for some recipients, as commands made by ``commands`` when the server's features are known."""

    payload: Payload
    commands: Callable[[Features, Peer], tuple[list[bytes], bytes, list[bytes]] | Verdict]
    """XFORWARD commands, MAIL, and the RCPTs; or why this server cannot take the message."""
    downgrade: Callable[[Features], bool]
    probe: bool = False
    """Ask for the recipients only (sendmail -bv)."""


class Session(Opening):
    def __init__(
        self, options: Options, peer: Peer, hello: Hello, reactor: Any, log: Log, program: str,
        reply_filter: ReplyFilter | None = None,
    ) -> None:
        super().__init__(options, peer, hello, reactor, log, program, reply_filter)
        self.uses = 0
        self.on_idle_end: Callable[[Session], None] | None = None
        """Told when an idle session is no more."""
        self._dirty = False
        """The server may still hold a MAIL of ours: RSET before the next."""
        self._done: Deferred[Outcome] | None = None
        self._producer: Producer | CheckedProducer | None = None
        self._fresh_reuse = False

    # --- the end

    def _ended_by(self, why: Verdict, idle: bool) -> bool:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if idle:
            self._tell_idle_end()
        if not self.opened.called:
            self._opening_ended(why)
        done, self._done = self._done, None
        if done is not None:
            self._outcome.failure = self._outcome.failure or why
            self._outcome.stale = self._fresh_reuse
            done.callback(self._outcome)
        # Within a message nothing may follow that could be taken for its end.
        return producer is not None

    def _tell_idle_end(self) -> None:
        if self.on_idle_end is not None:
            self.on_idle_end(self)

    def quit(self) -> None:
        if self._ended:
            return
        idle, self.usable = self.usable, False
        if idle:
            self._tell_idle_end()
        if self._options.skip_quit_response:
            self._write(b"QUIT\r\n")
            self._close()
        else:
            self._command(b"QUIT\r\n", self._said_goodbye, stages.QUIT)

    def _said_goodbye(self, reply: Reply) -> None:
        self._close()

    def idle(self, seconds: float) -> None:
        """Keep the session open for so long."""
        self._set_timer(seconds)

    # --- a transaction

    def deliver(self, transaction: Transaction) -> Deferred[Outcome]:
        """Only while ``usable``."""
        commands = transaction.commands(self.features, self.peer)
        done: Deferred[Outcome] = Deferred()
        if isinstance(commands, Verdict):
            done.callback(Outcome([], commands))
            return done
        self.usable = False
        self.uses += 1
        self._done = done
        self._fresh_reuse = self.uses > 1
        """Nothing has been accepted yet in a session that may have died since its last use."""
        self._transaction = transaction
        forward, mail, self._rcpts = commands
        self._outcome = Outcome([None] * len(self._rcpts), handed_on_dsn=self.features.dsn)
        self._accepted: list[int] = []
        self._answered = 0
        first: list[Step] = [(b"RSET\r\n", self._nothing, stages.RSET)] if self._dirty else []
        first += [(command, self._nothing, stages.XFORWARD) for command in forward]
        self._dirty = True
        self._asks_only = transaction.probe and not self._options.probe_data
        """The answers to RCPT are all that is wanted."""
        if self.features.pipelining:
            last = b"RSET\r\n" if self._asks_only else b"DATA\r\n"
            together = [*[command for command, _, _ in first], mail, *self._rcpts, last]
            self._note(*together)
            self._write(b"".join(together))
            for _, handler, stage in first:
                self._expect(handler, stage)
            self._expect(self._mail_answered, stages.MAIL)
            for _ in self._rcpts:
                self._expect(self._rcpt_answered, stages.RCPT)
            if self._asks_only:
                self._expect(self._probe_ended, stages.RSET)
            else:
                self._expect(self._data_answered, stages.DATA)
        else:
            self._waiting: Iterator[Step] = self._one_by_one(first, mail)
            self._next()
        return done

    def _one_by_one(self, first: list[Step], mail: bytes) -> Iterator[Step]:
        """The commands for a server without PIPELINING, each asked for when the one before is answered."""
        yield from first
        yield mail, self._mail_answered, stages.MAIL
        for command in self._rcpts:
            if self._outcome.failure is not None:
                break
            yield command, self._rcpt_answered, stages.RCPT
        if self._accepted and not self._asks_only:
            yield b"DATA\r\n", self._data_answered, stages.DATA
        else:
            yield b"RSET\r\n", self._probe_ended, stages.RSET

    def _next(self) -> None:
        if not self.features.pipelining:
            self._command(*next(self._waiting))

    def _nothing(self, reply: Reply) -> None:
        """Whatever the answer is, the dialogue goes on."""
        if reply.code != 421:
            self._next()

    def _mail_answered(self, reply: Reply) -> None:
        if not reply.good:
            self._outcome.failure = self._refusal(reply, stages.MAIL)
            if reply.code == 421:
                return
            self._fresh_reuse = False
        self._next()

    def _rcpt_answered(self, reply: Reply) -> None:
        index = self._answered
        self._answered += 1
        if self._outcome.failure is None:
            self._fresh_reuse = False
            if not reply.good:
                self._outcome.verdicts[index] = self._refusal(reply, stages.RCPT)
            else:
                self._accepted.append(index)
                if self._asks_only:
                    self._outcome.verdicts[index] = self._success(reply)
        if reply.code != 421:
            self._next()

    def _success(self, reply: Reply) -> Verdict:
        text = reply.text
        return Verdict(reply.dsn, text, text, host=self.peer.host)

    def _probe_ended(self, reply: Reply) -> None:
        self._dirty = not reply.good
        self._conclude(keep=reply.code != 421)

    def _data_answered(self, reply: Reply) -> None:
        wanted = bool(self._accepted) and self._outcome.failure is None
        if reply.code // 100 == 3:
            if self._transaction.probe:
                self._break_off(reply)
            elif wanted:
                self._send_message()
            else:
                # The server takes a message for nobody (RFC 2920 3.1).
                self._command(b".\r\n", self._void_answered, stages.DOT)
            return
        if wanted:
            self._outcome.failure = self._refusal(reply, stages.DATA)
        self._conclude(keep=not reply.good and reply.code != 421)

    def _break_off(self, reply: Reply) -> None:
        """The server would take a message.  It gets none, not even an empty one."""
        success = Verdict("2.0.0", reply.text, reply.text, host=self.peer.host)
        for index in self._accepted:
            self._outcome.verdicts[index] = success
        done, self._done = self._done, None
        self._end(stages.lost(self.peer.named, stages.DATA), abort=True)
        assert done is not None
        done.callback(self._outcome)

    def _void_answered(self, reply: Reply) -> None:
        self._conclude(keep=not self._options.lmtp)

    def _send_message(self) -> None:
        transaction = self._transaction
        downgraded = transaction.downgrade(self.features)
        if transaction.payload.checks is not None:
            self._produce(CheckedProducer(self, transaction.payload.checked_blocks(downgraded)), streaming=True)
            return
        whole = transaction.payload.whole(downgraded)
        if whole is None:
            self._produce(Producer(self, transaction.payload.blocks(downgraded)), streaming=False)
        elif self._delay_dot:
            self._write(whole[:-3])
            self._set_timer(self._options.pix_delay + self._options.times.data_done)
            self._expected.append((self._early_answer, stages.BODY))
            self._reactor.callLater(self._options.pix_delay, self._send_dot)
        else:
            self._write(whole)
            self._await_dot()

    def _produce(self, producer: Producer | CheckedProducer, *, streaming: bool) -> None:
        self._producer = producer
        self._arm(stages.BODY)
        self._expected.append((self._early_answer, stages.BODY))
        self.transport.registerProducer(producer, streaming)  # type: ignore[union-attr]
        producer.begin()

    def _send_dot(self) -> None:
        if not self._ended:
            self._write(b".\r\n")
            self._expected.clear()
            self._await_dot()

    def _await_dot(self) -> None:
        self._note(b".")
        for _ in self._accepted if self._options.lmtp else (0,):
            self._expect(self._dot_answered, stages.DOT)
        self._awaited = iter(self._accepted)

    def _early_answer(self, reply: Reply) -> None:
        """A reply before the message has been sent can only be a refusal."""
        if reply.good or reply.code < 400:
            raise ProtocolError(f"{reply.text} (before the end of the message)")
        self._end(self._refusal(reply, stages.BODY), abort=True)

    def send_block(self, block: bytes) -> None:
        """For the producer, which is asked for more when the transport's buffer runs empty: nothing goes past that."""
        self.transport.write(block)  # type: ignore[union-attr]
        longest, rate = self._times.data_xfer, self._options.least_rate
        if rate and self._deadline is not None:
            left = self._deadline - self._reactor.seconds() + len(block) / rate
            self._set_timer(max(0.0, min(left, longest)))
        else:
            self._set_timer(longest)

    def body_sent(self) -> None:
        self._producer = None
        self._expected.clear()
        self._await_dot()

    def body_failed(self) -> None:
        """The message cannot be read any further, or not be checked."""
        if self.transcript is not None:
            self.transcript.errors.add(DATA)
        self._end(Verdict("4.3.0", f"local data error while talking to {self.peer.named}", site=True), abort=True)

    def _dot_answered(self, reply: Reply) -> None:
        if self._options.lmtp:
            index = next(self._awaited)
            self._outcome.verdicts[index] = self._success(reply) if reply.good else self._refusal(reply, stages.DOT)
            if self._expected:
                return
        elif reply.good:
            success = self._success(reply)
            for index in self._accepted:
                self._outcome.verdicts[index] = success
        else:
            self._outcome.failure = self._refusal(reply, stages.DOT)
        self._dirty = not reply.good
        self._conclude(keep=reply.code // 100 != 3 and reply.code != 421)

    def _conclude(self, keep: bool = True) -> None:
        """The transaction is over.  Not ``keep``: what the server thinks now is not known."""
        if keep and self._dirty:
            self._command(b"RSET\r\n", self._reset_answered, stages.RSET)
        else:
            self._tell(keep)

    def _reset_answered(self, reply: Reply) -> None:
        """The server holds nothing of ours any more: the session can wait for the next message."""
        self._dirty = not reply.good
        if reply.code != 421:
            self._tell(reply.good)

    def _tell(self, keep: bool) -> None:
        done, self._done = self._done, None
        assert done is not None
        self.usable = keep
        if not keep:
            self._write(b"QUIT\r\n")
            self._close()
        done.callback(self._outcome)
