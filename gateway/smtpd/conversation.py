"""The dialogue with one client: a coroutine that takes command after command; smtpd(8), RFC 5321.

One command at a time: the next one is looked at when the reply to this one is out.  Handlers (session_commands,
mail_commands, content_commands, trusted_commands) return the reply, or None if they have given it themselves; a reply
that begins with 4 or 5 counts as an error.  Whatever a handler raises is one log line and 451 4.3.0, and the session
goes on; only Gone, the client's leaving, ends it.

Limits here: soft errors slow the client down, hard errors, 421 and 521 hang up, junk commands (NOOP, RSET …) become
errors beyond a number.  Talking ahead where that is not allowed is logged, and refused where
smtpd_forbid_unauth_pipelining says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from gateway.clock import time_of_day
from gateway.content.milter.chain import Chain
from gateway.interfaces import TableError
from gateway.policy.session import NAME_OK, Session
from gateway.policy.verdict import UNSAFE, UNSAFE_ASCII
from gateway.smtpd import limits, milters, proxy, tls
from gateway.smtpd.channel import STOPPED, TIMEOUT, Channel, Gone
from gateway.smtpd.peer import Peer, look_up
from gateway.smtpd.service import Service
from gateway.smtpd.tokens import Token, tokenize
from gateway.smtpd.transaction import Transaction
from gateway.smtpd.transcript import CLASSES, Transcript

LAST, LIMITED, BEFORE_TLS = 1, 2, 4
"""Of a command: nothing may be sent behind it without waiting; too many are junk; allowed before STARTTLS."""

_LONGEST_LINE = 2048
_FINAL = re.compile(r"^5(?=\d\d[ -])", re.MULTILINE)
_FINAL_STATUS = re.compile(r"(?<=^4\d\d[ -])5(?=\.\d)", re.MULTILINE)
_HEADER = re.compile(r"[!-9;-~]+:")
_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 92: "\\\\"}

Handler = Callable[["Conversation", list[Token]], Awaitable["str | None"]]


class Command(NamedTuple):
    handler: Handler
    flags: int = 0


def escape(data: bytes) -> str:
    """Bytes for a log line, as Postfix writes them there."""
    return "".join(_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in data)


class Conversation:
    """``commands``: by upper-case name, in the order in which the last log line counts them."""

    def __init__(self, service: Service, channel: Channel, peer: Peer, commands: dict[str, Command]) -> None:
        self.service = service
        self.options = service.options
        self.channel = channel
        self.peer = peer
        self.session: Session = Session(client_address=peer.address, client_port=peer.port)
        self.transaction: Transaction | None = None
        self.lenient = False
        """Old line end rules apply to this client."""
        self.forgiven = False
        """The refusal that is being given does not count as an error."""
        self.hangup = False
        self.overshoot = 0
        self.counts: dict[str, list[int]] = {}
        self.line = b""
        self.network = ""
        """What the client is counted under, if it is."""
        self.xclient_allowed = self.xforward_allowed = self.verp_allowed = False
        self.forwarded: dict[str, str] = {}
        """What XFORWARD said of the client, for the log and the envelope."""
        self.discarded = self.options.discard_keywords
        """EHLO keywords that this client is not told of."""
        self.chain: Chain | None = None
        """The milters of this session."""
        self.routes: dict[str, str] = {}
        """What milters are told of where sender and recipient lead."""
        self.connections: int = 0
        """That this client has, if they are counted."""
        self._commands = commands
        self._errors = 0
        self._junk = 0
        self._denied: str | None = None
        self._begun = False
        self._transcript: Transcript | None = None
        if service.with_.report_session is not None and not CLASSES.isdisjoint(service.options.notify_classes):
            self._transcript = Transcript()
        self._must_encrypt = service.options.tls_level == "encrypt" and not service.stand_alone

    # --- for the handlers ----------------------------------------------------------------------------------------

    async def reply(self, text: str) -> None:
        """Send a reply; lines are parted by LF, each with its code."""
        options = self.options
        if text[0] in "45":
            text = await self._as_configured(text)
        if self._errors >= options.soft_errors and options.error_sleep > 0 and not self.service.stand_alone:
            self.channel.flush()
            await deferLater(self.service.with_.clock, options.error_sleep)
        if self._transcript is not None:
            self._transcript.said(text)
        if text.isascii() and text.isprintable():
            self.channel.write(text[:_LONGEST_LINE].encode("ascii") + b"\r\n")
        else:
            unsafe = UNSAFE if options.smtputf8 else UNSAFE_ASCII
            lines = [unsafe.sub("?", line)[:_LONGEST_LINE] for line in text.split("\n")]
            self.channel.write("\r\n".join(lines).encode() + b"\r\n")
        if text.startswith(("421", "521")):
            self.hangup = True

    async def _as_configured(self, refusal: str) -> str:
        """With what the site wants instead of it, added to it, or softened."""
        service = self.service
        if service.reject_filter is not None:
            refusal = await service.reject_filter.changed(refusal)
        if service.footers is not None:
            refusal = await service.footers.added(refusal, self.session, time_of_day(service.with_.clock))
        return _FINAL_STATUS.sub("4", _FINAL.sub("4", refusal)) if self.options.soft_bounce else refusal

    def forget(self) -> None:
        """The transaction, if there is one, is over."""
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None
        if self.chain is not None:
            self.chain.abort()
        self.overshoot = 0
        self.forwarded = {}
        self.session.forget_transaction()

    def accepted(self) -> None:
        """A message was taken: earlier errors are forgiven."""
        self._errors = self._junk = 0
        if self._transcript is not None:
            self._transcript.errors.clear()

    def fresh_start(self) -> None:
        """HELO, RSET, the end of a message: a long transcript is begun anew."""
        if self._transcript is not None and len(self._transcript) > self.options.history_limit:
            self._report()

    def _report(self, reason: str = "") -> None:
        """Tell the postmaster, if it is something that he wants to hear.  ``reason``: why the session was aborted."""
        transcript, report = self._transcript, self.service.with_.report_session
        if transcript is None or report is None:
            return
        if not transcript.errors.isdisjoint(self.options.notify_classes):
            telling = report(set(transcript.errors), self.session.client, transcript.lines, reason)
            Deferred.fromCoroutine(self._told(telling))
        transcript.forget()

    async def _told(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except Exception as error:
            self.warning(f"cannot notify the postmaster: {type(error).__name__}: {error}")

    def info(self, text: str) -> None:
        self.service.log.info(self.service.program, text)

    def warning(self, text: str) -> None:
        self.service.log.warning(self.service.program, text)

    def is_limited(self, what: str) -> bool:
        """Whether there is a limit at all on how often this client may do something."""
        return self.service.rate_limits[what] > 0 and bool(self.network)

    async def over_limit(self, what: str) -> int:
        """Count an event of a kind that is limited; the number in this time unit if it is beyond the limit, else 0."""
        limits_, name, limit = self.service.with_.limits, self.service.name, self.service.rate_limits[what]
        count = await limits_.in_all(name, self.network, what, limits_.event(name, self.network, what), limit)
        return count if count > limit else 0

    def offers(self, keyword: str) -> bool:
        """Whether this client is offered an extension of SMTP (name in lower case)."""
        return keyword not in self.discarded

    # --- the whole of it -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the greeting to the last log line.  Never raises."""
        reason = ""
        try:
            await self._converse()
        except Gone as gone:
            reason = gone.reason
            if reason == STOPPED:
                self.channel.write(f"{self.channel.farewell}\r\n".encode())
                reason = ""
            elif reason == TIMEOUT:
                self.channel.write(f"421 4.4.2 {self.options.hostname} Error: timeout exceeded\r\n".encode())
        except Exception as error:
            self.service.log.error(self.service.program, f"internal: {type(error).__name__}: {error}")
            self.channel.write(f"421 4.3.0 {self.options.hostname} Server local error\r\n".encode())
        if self.hangup and not reason and self._errors >= self.options.hard_errors:
            reason = "too many errors"
        self._end(reason)

    def _end(self, reason: str) -> None:
        session = self.session
        received = self.transaction.received if self.transaction is not None else 0
        if reason and session.where in ("DATA content", "BDAT content"):
            where = session.where.partition(" ")[0]
            self.info(f"{reason} after {where} ({received} bytes) from {session.client}")
        elif reason and not (session.where == "END-OF-MESSAGE" and reason == "lost connection"):
            self.info(f"{reason} after {session.where} from {session.client}")
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None
        milters.end(self)
        if self.network:
            self.service.with_.limits.disconnect(self.service.name, self.network)
        if not self.service.stand_alone:
            self._report(reason)
        if self._begun:
            self.info(f"disconnect from {session.client}{self._statistics()}")
        self.channel.close()

    def _statistics(self) -> str:
        """ehlo=1 mail=1/2 … commands=5/6"""
        counts = self.counts
        parts, good, total = "", 0, 0
        for name in (*self._commands, "unknown"):
            if name in counts:
                successes, all_ = counts[name]
                parts += f" {name.lower()}={successes}" + (f"/{all_}" if all_ != successes else "")
                good += successes
                total += all_
        return f"{parts} commands={good}" + (f"/{total}" if total != good or not total else "")

    async def _converse(self) -> None:
        ahead = b""
        if self.options.proxy_protocol and not self.service.stand_alone:
            introduced = await proxy.introduce(self)
            if introduced is None:
                return
            ahead = introduced
        if ahead and not self.options.tls_wrapper:
            self.channel.framer.give_back(ahead)
        await self._meet()
        if self.hangup:
            return
        if self.options.tls_wrapper and not self.service.stand_alone:
            if self.service.tls is None:
                what = f"from {self.session.client} for service {self.service.name}"
                self.warning(f"Wrapper-mode request dropped {what}. TLS context initialization failed.")
                return
            await self.begin_tls(ahead)
        await self._greet()
        while not self.hangup:
            if self._errors >= self.options.hard_errors and not self.service.stand_alone:
                await self.reply(f"421 4.7.0 {self.options.hostname} Error: too many errors")
                return
            self.line = await self.channel.read_line()
            await self._take(self.line)

    # --- the beginning -------------------------------------------------------------------------------------------

    async def _meet(self) -> None:
        """Find out who it is, and whether he may come in at all."""
        service, peer, session = self.service, self.peer, self.session
        if service.stand_alone:
            peer.name, peer.name_status = "localhost", NAME_OK
        elif self.options.peername_lookup:
            await look_up(peer, service.with_.resolver, service.log, service.program)
        self.know(peer)
        if service.stand_alone:
            self.lenient = self.channel.framer.lenient = self.options.bare_newline == "no"
            return
        self._begun = True
        self.info(f"connect from {session.client}")
        await self._recognise()
        if not self.xclient_allowed and not await _listed(service.unlimited_clients, peer):
            await self._count_connection()
        if len(self.channel.framer):
            self._improper("CONNECT")

    def know(self, peer: Peer) -> None:
        """Take over what is known of the client."""
        session = self.session
        self.peer = peer
        session.client_name, session.client_address, session.client_port = peer.name, peer.address, peer.port
        session.reverse_name = peer.reverse_name
        session.name_status, session.reverse_status = peer.name_status, peer.reverse_status
        session.client = peer.label(self.options.port_logging)

    async def meet_again(self) -> None:
        """XCLIENT has told of another client: greet that one, who may say XCLIENT again only if he is listed, too."""
        self.xclient_allowed = await _listed(self.service.xclient_clients, self.peer)
        self._denied = None
        await self._greet()

    async def _recognise(self) -> None:
        service, peer = self.service, self.peer
        self.xclient_allowed = bool(service.xclient_clients) and await _listed(service.xclient_clients, peer)
        self.xforward_allowed = bool(service.xforward_clients) and await _listed(service.xforward_clients, peer)
        self.verp_allowed = bool(service.verp_clients) and await _listed(service.verp_clients, peer)
        if self.options.bare_newline == "no" or await _listed(service.lenient_clients, peer):
            self.lenient = self.channel.framer.lenient = True
        if service.discard_maps:
            await self._discard_keywords()

    async def _discard_keywords(self) -> None:
        """smtpd_discard_ehlo_keyword_address_maps."""
        try:
            found = await self.service.discard_maps.find(self.peer.address)
        except TableError as error:
            self.warning(f"don't know if EHLO features should be announced to {self.session.client}: {error}")
            return
        if found is not None:
            self.discarded = frozenset(found.value.lower().replace(",", " ").split())

    async def _count_connection(self) -> None:
        service, host = self.service, self.options.hostname
        self.network = service.with_.limits.network(self.peer.address)
        open_now, rate = service.with_.limits.connect(service.name, self.network)
        self.connections = open_now
        most, most_rate = service.rate_limits["open"], service.rate_limits[limits.CONNECTIONS]
        what = ""
        if most > 0:
            open_now = await service.with_.limits.in_all(service.name, self.network, limits.OPEN, open_now, most)
        if most_rate > 0:
            kind = limits.CONNECTIONS
            rate = await service.with_.limits.in_all(service.name, self.network, kind, rate, most_rate)
        if 0 < most < open_now:
            what, count = "concurrency", open_now
        elif 0 < most_rate < rate:
            what, count = "rate", rate
        if what:
            self.warning(
                f"Connection {what} limit exceeded: {count} from {self.session.client} for service {service.name}"
            )
            await self.reply(f"421 4.7.0 {host} Error: too many connections from {self.peer.address}")

    async def _greet(self) -> None:
        if not self.service.stand_alone:
            self._denied = await self.service.evaluator.connect(self.session)
            if self._denied is not None:
                await self.reply(self._denied)
                self._errors += 1
                return
            unwelcome = await milters.connect(self)
            if unwelcome is not None:
                await self.reply(unwelcome)
                self._errors += unwelcome[0] == "5"
                return
        await self.reply(f"220 {self.options.banner}")

    async def begin_tls(self, ahead: bytes = b"") -> None:
        """Do the handshake, and forget what was said in clear (RFC 3207 4.2).  ``ahead``: what has come of it already.
        Raises Gone."""
        before, service_tls = self.session.where, self.service.tls
        assert service_tls is not None
        service_tls.announce(self.session.client)
        try:
            await self.channel.start_tls(service_tls, self.options.starttls_timeout, ahead)
        except Gone as gone:
            self.session.where = "STARTTLS"
            self.info(f"SSL_accept error from {self.session.client}: {gone.reason}")
            raise
        self.session.where = before
        self.forget()
        self.session.helo, self.session.protocol = None, "SMTP"
        self.session.sasl_method = self.session.sasl_username = self.session.sasl_sender = ""
        self.session.tls = service_tls.facts(self.channel.transport)
        for line in tls.log_lines(self.session.tls, self.session.client, service_tls.rules.log_level):
            self.info(line)

    # --- one command ---------------------------------------------------------------------------------------------

    async def _take(self, raw: bytes) -> None:
        options = self.options
        if self.channel.framer.bare_lf and options.bare_newline == "reject" and not self.lenient:
            self.info(self.session.fact_line("reject", "bare <LF> received"))
            await self.reply(f"{options.bare_newline_code} 5.5.2 {options.hostname} Error: bare <LF> received")
            self.hangup = True
            return
        if len(raw) >= options.line_length_limit:
            shown = UNSAFE_ASCII.sub("?", raw[:30].decode("ascii", "replace"))
            self.warning(f"{self.session.client}: request longer than {options.line_length_limit}: {shown}...")
        raw = raw.partition(b"\0")[0]
        try:
            line = raw.decode("utf-8", "strict" if options.smtputf8 else "surrogateescape")
        except UnicodeDecodeError:
            await self._error("500 5.5.2 Error: bad UTF-8 syntax")
            return
        if self._transcript is not None:
            self._transcript.heard(line)
        if self.service.command_filter is not None:
            line = await self._filtered(line)
        tokens = tokenize(line)
        if not tokens:
            await self._error("500 5.5.2 Error: bad syntax")
            return
        verb = tokens[0].text.upper()
        if options.noop_commands and verb in options.noop_commands:
            await self.reply("250 2.0.0 Ok")
            self._count_junk()
            return
        command = self._commands.get(verb)
        counts = self.counts.setdefault(verb if command else "unknown", [0, 0])
        counts[1] += 1
        if command is None:
            self.session.where = "UNKNOWN"
            if await self._is_foreign(tokens[0].text):
                self.warning(f"non-SMTP command from {self.session.client}: {line[:100]}")
                await self.reply("221 2.7.0 Error: I can break rules, too. Goodbye.")
                self.hangup = True
                return
        if self._denied is not None and verb != "QUIT":
            denied = f"503 5.7.0 Error: access denied for {self.session.client}"
            await self._error(self._denied if self._denied[1:3] == "21" else denied)
            return
        if command is None:
            await self._error(await milters.unknown(self, line) or "500 5.5.2 Error: command not recognized")
            return
        if self._must_encrypt and self.session.tls is None and not command.flags & BEFORE_TLS:
            await self._error("530 5.7.0 Must issue a STARTTLS command first")
            return
        self.session.where = verb
        if len(self.channel.framer) and await self._talks_ahead(verb, command):
            return
        await self._carry_out(command, tokens, counts)

    async def _carry_out(self, command: Command, tokens: list[Token], counts: list[int]) -> None:
        self.forgiven = False
        try:
            text = await command.handler(self, tokens)
        except Gone:
            raise
        except TableError as error:
            self.warning(str(error))
            text = "451 4.3.0 Temporary lookup error"
        except Exception as error:
            where = self.session.where
            self.service.log.error(
                self.service.program, f"internal: {where} from {self.session.client}: {type(error).__name__}: {error}"
            )
            self.forget()
            text = "451 4.3.0 Error: internal error"
        if text is not None:
            await self.reply(text)
            if text[0] in "45" and not self.forgiven:
                self._errors += 1
            else:
                counts[0] += 1
        else:
            counts[0] += 1
        if command.flags & LIMITED:
            self._count_junk()

    async def _error(self, text: str) -> None:
        await self.reply(text)
        self._errors += 1

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk > self.options.junk_commands + 1:
            self._errors += 1

    async def _is_foreign(self, word: str) -> bool:
        """HTTP and the like, and header lines: not SMTP at all."""
        if _HEADER.match(word):
            return True
        try:
            return await self.service.forbidden.match(word)
        except TableError:
            return False

    async def _filtered(self, line: str) -> str:
        """smtpd_command_filter."""
        table: Any = self.service.command_filter
        line = line.lstrip(" \t")
        try:
            other = await table.lookup(line)
        except TableError as error:
            self.warning(f'{table.name} lookup error for "{line[:100]}": {error}')
            return line
        if other is None:
            return line
        self.info(f'{self.session.client}: replacing command "{line[:100]}" with "{other[:100]}"')
        return str(other)

    async def _talks_ahead(self, verb: str, command: Command) -> bool:
        """The client has sent more.  True: it must not, and that was the end."""
        if self.service.stand_alone:
            return False
        if self.session.protocol == "ESMTP" and not command.flags & LAST:
            return False
        self._improper(verb)
        if not self.options.forbid_pipelining and verb != "STARTTLS":
            return False
        await self.reply("554 5.5.0 Error: SMTP protocol synchronization")
        self.hangup = True
        return True

    def _improper(self, where: str) -> None:
        if not self.session.improper_pipelining:
            self.session.improper_pipelining = True
            ahead = escape(self.channel.framer.peek(100))
            self.info(f"improper command pipelining after {where} from {self.session.client}: {ahead}")


async def _listed(clients: Any, peer: Peer) -> bool:
    """Whether a client is in an AddressList.  A table that does not answer lets nobody in."""
    try:
        found = clients.match_now(peer.address, peer.name)
        return bool(await clients.match(peer.address, peer.name) if found is None else found)
    except TableError:
        return False
