"""The beginning of an SMTP or LMTP session, until the server is ready for mail: greeting, EHLO (RFC 5321 4.1.1.1) or
LHLO (RFC 2033), STARTTLS (RFC 3207), AUTH (RFC 4954).

``opened`` fires with None when the server is ready for mail, or with the Verdict why not.  What was said in clear is
forgotten after the handshake; what came in clear behind the answer to STARTTLS is a breach of the protocol
(transports.smtp.channel).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.interfaces import Log
from transports.smtp import verdict as stages
from transports.smtp.channel import Channel, Peer
from transports.smtp.features import Features
from transports.smtp.login import Login, NothingInCommon
from transports.smtp.options import Options
from transports.smtp.replies import Reply
from transports.smtp.reply_filter import ReplyFilter
from transports.smtp.sasl import SaslError
from transports.smtp.system_errors import error_text
from transports.smtp.tls import Handshake
from transports.smtp.tls_policy import Policy
from transports.smtp.verdict import Verdict

KEYWORDS = (
    "8BITMIME", "AUTH", "ETRN", "PIPELINING", "SIZE", "VERP", "VRFY", "XCLIENT", "XFORWARD", "STARTTLS",
    "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING",
)
"""Those that Postfix knows of, in the order of its log."""


@dataclass(slots=True)
class Hello:
    """How a session begins."""

    policy: Policy
    nexthop: str
    """For texts."""
    handshake: Handshake | None = None
    """The TLS of the connection; None where the policy wants none, or there can be none."""
    workarounds: tuple[str, ...] = ()
    """PIX work-arounds that may be switched on."""
    old: bool = False
    """The message has waited long enough for delay_dotcrlf among them."""
    discarded: frozenset[str] = frozenset()
    """EHLO keywords that are not seen."""
    queue_id: str = ""
    detect_loops: bool = False
    login: Login | None = None
    """Log in, if the server offers it."""

    def plain(self) -> Hello:
        """Another try without TLS."""
        return replace(self, policy=self.policy.plain(), handshake=None)


@implementer(IHandshakeListener)
class Opening(Channel):
    def __init__(
        self, options: Options, peer: Peer, hello: Hello, reactor: Any, log: Log, program: str,
        reply_filter: ReplyFilter | None = None,
    ) -> None:
        super().__init__(peer, options.times, reactor, reply_filter)
        self.hello = hello
        self.opened: Deferred[Verdict | None] = Deferred()
        self.features = Features()
        self.ready = 0.0
        """When the greetings were over."""
        self.secure: Handshake | None = None
        """The TLS that the session is in."""
        self.tls_failed = False
        self._lost: BaseException | None = None
        """How the line went away, if it was not us."""
        self._options, self._log, self._program = options, log, program
        self._delay_dot = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason.value
        super().connectionLost(reason)

    def _opening_ended(self, why: Verdict) -> None:
        if self._at is stages.TLS and why.dsn == stages.LOST:
            self._tell_tls_failure(self._lost)
            self.tls_failed = True
            why = Verdict("4.7.5", "Cannot start TLS: handshake failure", site=self.hello.policy.required)
        self.opened.callback(why)

    # --- greetings

    def _begin(self) -> None:
        if not self.hello.policy.wrapped:
            self._expect(self._greeted, stages.GREETING)
        elif self.hello.handshake is None:
            self._end(self._no_engine())
        else:
            self._start_tls("")

    def _greeted(self, reply: Reply) -> None:
        options, peer = self._options, self.peer
        if not reply.good:
            self._refuse(reply, soften=options.skip_5xx_greeting)
            return
        words = reply.lines[0][4:].decode("utf-8", "replace").split()
        if words and self.hello.detect_loops and words[0].lower() == options.own_name.lower():
            self._log.warning(self._program, f"host {peer.relay} greeted me with my own hostname {options.own_name}")
        extended = options.always_ehlo or any(word.upper() == "ESMTP" for word in words)
        if self.hello.workarounds and _is_pix(reply) and "disable_esmtp" in self._work_around():
            extended = False
        if extended and not options.never_ehlo:
            self._say_ehlo()
        else:
            self._say_helo()

    def _work_around(self) -> list[str]:
        hello = self.hello
        words = [word for word in hello.workarounds if hello.old or word != "delay_dotcrlf"]
        text = f"{hello.queue_id}: enabling PIX workarounds: {' '.join(words)} for {self.peer.relay}"
        self._log.info(self._program, text)
        self._delay_dot = "delay_dotcrlf" in words
        return words

    def _say_ehlo(self) -> None:
        verb, stage = (b"LHLO", stages.LHLO) if self._options.lmtp else (b"EHLO", stages.EHLO)
        self._command(b"%b %b\r\n" % (verb, self._options.helo), self._ehlo_answered, stage)

    def _say_helo(self) -> None:
        self._command(b"HELO %b\r\n" % self._options.helo, self._helo_answered, stages.HELO)

    def _ehlo_answered(self, reply: Reply) -> None:
        if reply.good:
            self.features = Features(reply, self.hello.discarded)
            if self.hello.discarded:
                self._tell_discarded(self.hello.discarded)
            self._after_hello(reply)
        elif reply.code == 421 or self._options.lmtp:
            self._refuse(reply)
        else:
            self._say_helo()

    def _tell_discarded(self, words: frozenset[str]) -> None:
        known = [word for word in KEYWORDS if word in words]
        if known and "SILENT-DISCARD" not in words:
            self._log.info(self._program, f"discarding EHLO keywords: {' '.join(known)}")

    def _helo_answered(self, reply: Reply) -> None:
        if reply.good:
            self._after_hello(reply)
        else:
            self._refuse(reply)

    def _after_hello(self, reply: Reply) -> None:
        words = reply.lines[0][4:].decode("utf-8", "replace").split()
        own = self._options.own_name
        if words and self.hello.detect_loops and words[0].lower() == own.lower():
            text = f"host {self.peer.relay} replied to HELO/EHLO with my own hostname {own}"
            self._log.warning(self._program, text)
            dsn = "5.4.6" if self.peer.best else "4.4.6"
            self._leave(Verdict(dsn, f"mail for {self.hello.nexthop} loops back to myself", site=True))
            return
        if self.secure is not None:
            self.secure.remember(self.tls_connection)
            self._after_tls()
        elif self.hello.handshake is not None and self.features.starttls:
            name = words[0] if words else ""
            self._command(b"STARTTLS\r\n", lambda answer: self._starttls_answered(answer, name), stages.STARTTLS)
        elif self.hello.policy.required and self.features.starttls:
            self._leave(self._no_engine())
        elif self.hello.policy.required:
            text = f"TLS is required, but was not offered by host {self.peer.named}"
            self._leave(Verdict("4.7.4", text, site=True))
        else:
            if self.features.starttls and self._options.note_starttls and not self.hello.policy.wanted:
                self._log.info(self._program, f"Host offered STARTTLS: [{self.peer.host}]")
            self._after_tls()

    @staticmethod
    def _no_engine() -> Verdict:
        return Verdict("4.7.5", "TLS is required, but our TLS engine is unavailable", site=True)

    def _after_tls(self) -> None:
        if self.hello.login is not None and "AUTH" in self.features.keywords:
            self._log_in(self.hello.login)
        else:
            self._become_ready()

    def _become_ready(self) -> None:
        self.usable = True
        self.ready = self._reactor.seconds()
        self.opened.callback(None)

    def _refuse(self, reply: Reply, *, soften: bool = False) -> None:
        if self.transcript is not None:
            self.transcript.refused(reply)
        self._leave(stages.refused(reply, self.peer.host, self.peer.named, soften=soften))

    def _leave(self, why: Verdict) -> None:
        """We, or the server, do not want to go on."""
        self._write(b"QUIT\r\n")
        self._end(why)

    # --- TLS

    @property
    def tls_connection(self) -> SSL.Connection:
        return self.transport.getHandle()  # type: ignore[union-attr]

    def _starttls_answered(self, reply: Reply, name: str) -> None:
        if reply.good:
            self._start_tls(name)
        elif self.hello.policy.required:
            text = f"TLS is required, but host {self.peer.named} refused to start TLS: {reply.text}"
            self._leave(Verdict(reply.dsn, text, reply.text, site=True, host=self.peer.host))
        elif reply.code == 421:
            self._end(stages.said(reply, self.peer.host, self.peer.named, stages.STARTTLS))
        else:
            self._after_tls()

    def _start_tls(self, name: str) -> None:
        """``name``: what the server calls itself."""
        self._at = stages.TLS
        self._arm(stages.TLS)
        self.features = Features()
        handshake = self.hello.handshake
        assert handshake is not None
        handshake.greeted_by(name)
        self.transport.startTLS(handshake)  # type: ignore[union-attr]

    def handshakeCompleted(self) -> None:
        handshake = self.hello.handshake
        assert handshake is not None
        problem = handshake.judge(self.tls_connection)
        self.secure = handshake
        if problem:
            self._leave(Verdict("4.7.5", problem, site=True))
        elif self.hello.policy.wrapped:
            self._expect(self._greeted, stages.GREETING)
        else:
            self._say_ehlo()

    def _tell_tls_failure(self, problem: BaseException | None) -> None:
        """``problem``: None = it took too long."""
        library = isinstance(problem, SSL.Error) and bool(problem.args)
        if problem is None:
            what = "Connection timed out"
        else:
            what = "-1" if library else error_text(problem, "lost connection")
        self._log.info(self._program, f"SSL_connect error to {self.peer.relay}: {what}")
        if library and problem is not None and isinstance(problem.args[0], list):
            for error in problem.args[0]:
                self._log.warning(self._program, f"TLS library problem: error:{':'.join(map(str, error))}")

    # --- SASL

    def _log_in(self, login: Login) -> None:
        known = login.failed_before(self.peer.host, self._reactor.seconds())
        if known is not None:
            dsn, said = known
            text = f"SASL [CACHED] authentication failed; server {self.peer.host} said: {said}"
            self._leave(Verdict(login.softened(dsn), text, said, site=True, host=self.peer.host))
            return
        offered = self.features.keywords["AUTH"]
        verified = self.secure is not None and self.secure.matched
        try:
            name, self._mechanism = login.begin(offered, secure=self.secure is not None, verified=verified)
        except NothingInCommon as problem:
            what = f"no supported AUTH mechanisms: '{' '.join(offered)}'" if offered else "null AUTH mechanism list"
            self._log.warning(self._program, f"{self.peer.relay} offered {what}")
            self._leave(Verdict("4.7.0", f"SASL authentication failed: server {self.peer.named} {problem}", site=True))
            return
        except SaslError as problem:
            self._cannot_log_in(problem)
            return
        first = self._mechanism.first()
        words = name.encode() if first is None else b"%b %b" % (name.encode(), b64encode(first) or b"=")
        self._command(b"AUTH %b\r\n" % words, self._login_answered, stages.EHLO, b"AUTH *")

    def _login_answered(self, reply: Reply) -> None:
        login = self.hello.login
        assert login is not None
        if reply.good:
            self._become_ready()
        elif reply.code // 100 == 3:
            try:
                response = self._mechanism.next(b64decode(reply.lines[-1][4:].strip(), validate=True))
            except ValueError as problem:  # of base64, or a SaslError
                self._cannot_log_in(problem)
                return
            self._command(b64encode(response) + b"\r\n", self._login_answered, stages.EHLO, b"*")
        else:
            if reply.code == 535:
                login.note_failure(self.peer.host, reply.dsn, reply.text, self._reactor.seconds())
            text = f"SASL authentication failed; server {self.peer.named} said: {reply.text}"
            self._leave(Verdict(login.softened(reply.dsn), text, reply.text, site=True, host=self.peer.host))

    def _cannot_log_in(self, problem: Exception) -> None:
        text = f"SASL authentication failed; cannot authenticate to server {self.peer.named}: {problem}"
        self._leave(Verdict("4.7.0", text, site=True))


def _is_pix(reply: Reply) -> bool:
    """The greeting of a Cisco PIX: its text is masked with asterisks."""
    return all(not line.strip(b"20 *\t") for line in reply.lines) and b"*" in reply.lines[0]
