"""HELO, EHLO, RSET, NOOP, QUIT, VRFY, ETRN, STARTTLS: all but the mail itself and logins; RFC 5321, 1985, 3207."""

from __future__ import annotations

import re

from gateway.addresses.syntax import literal_address, valid_hostname
from gateway.smtpd import limits, login, milters
from gateway.smtpd.addresses import BadAddress, extract
from gateway.smtpd.conversation import Conversation
from gateway.smtpd.service import FLUSHED, NOT_ELIGIBLE
from gateway.smtpd.tokens import Token

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NEUTERED = re.compile(r'[ <>()\\";@]')
_LONGEST_HELO = 1024
_XCLIENT = "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"
_DISCARDED = (
    "8BITMIME", "AUTH", "ETRN", "PIPELINING", "SIZE", "VERP", "VRFY", "XCLIENT", "XFORWARD", "STARTTLS", "DSN",
    "EHLO_MASK_SMTPUTF8", "CHUNKING",
)  # fmt: skip
"""Keywords of EHLO as Postfix's log names those that are kept back."""
_SILENT = frozenset(("silent-discard", "enhancedstatuscodes"))


def _name(tokens: list[Token]) -> str:
    """The HELO name, made printable."""
    return _UNPRINTABLE.sub("?", " ".join(token.text for token in tokens[1:]))[:_LONGEST_HELO]


async def helo(self: Conversation, tokens: list[Token]) -> str:
    refusal, _ = await _hello(self, "HELO", "SMTP", tokens)
    return refusal or f"250 {self.options.hostname}"


async def ehlo(self: Conversation, tokens: list[Token]) -> str:
    refusal, unwelcome = await _hello(self, "EHLO", "ESMTP", tokens)
    if refusal:
        return refusal
    if unwelcome:
        return f"250-{self.options.hostname}\n250 ENHANCEDSTATUSCODES"
    if self.discarded and self.discarded.isdisjoint(_SILENT):
        words = " ".join(word for word in _DISCARDED if word.lower().removeprefix("ehlo_mask_") in self.discarded)
        self.info(f"discarding EHLO keywords: {words}")
    logins = await login.keywords(self) if self.service.login is not None else []
    lines = [self.options.hostname, *_keywords(self), *logins]
    return "\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])


async def _hello(self: Conversation, verb: str, protocol: str, tokens: list[Token]) -> tuple[str, bool]:
    """A client introduces itself: the reply that refuses it, or ""; and whether a milter wants none of its mail.  The
    name is looked at as it was given; for headers and the log it is made harmless."""
    if len(tokens) < 2:
        return f"501 Syntax: {verb} hostname", False
    name = _name(tokens)
    if not self.service.stand_alone:
        refusal = await self.service.evaluator.helo(self.session, name)
        if refusal is not None:
            return refusal, False
    self.forget()
    self.fresh_start()
    self.session.helo = _NEUTERED.sub("?", name)
    answer = await milters.helo(self, name) or ""
    if answer.startswith("421"):
        return answer, False
    self.session.protocol = protocol
    return "", answer.startswith("5")


def _keywords(self: Conversation) -> list[str]:
    options, session = self.options, self.session
    limit = options.message_size_limit
    listed = [
        ("pipelining", "PIPELINING", True),
        ("size", f"SIZE {limit}" if limit > 0 else "SIZE", True),
        ("vrfy", "VRFY", not options.disable_vrfy),
        ("etrn", "ETRN", True),
        ("starttls", "STARTTLS", options.tls_level != "none" and session.tls is None),
        ("verp", "XVERP", self.verp_allowed),
        ("xclient", _XCLIENT, self.xclient_allowed),
        ("xforward", "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT", self.xforward_allowed),
        ("enhancedstatuscodes", "ENHANCEDSTATUSCODES", True),
        ("8bitmime", "8BITMIME", True),
        ("dsn", "DSN", True),
        ("smtputf8", "SMTPUTF8", options.smtputf8),
        ("chunking", "CHUNKING", True),
    ]
    return [line for keyword, line, wanted in listed if wanted and self.offers(keyword)]


async def rset(self: Conversation, tokens: list[Token]) -> str:
    if len(tokens) != 1:
        return "501 5.5.4 Syntax: RSET"
    self.forget()
    self.fresh_start()
    return "250 2.0.0 Ok"


async def noop(self: Conversation, tokens: list[Token]) -> str:
    return "250 2.0.0 Ok"


async def quit(self: Conversation, tokens: list[Token]) -> str:
    self.hangup = True
    return "221 2.0.0 Bye"


async def vrfy(self: Conversation, tokens: list[Token]) -> str:
    if self.options.disable_vrfy:
        return "502 5.5.1 VRFY command is disabled"
    if len(tokens) < 2:
        return f"501 5.5.4 Syntax: VRFY address{' [SMTPUTF8]' if self.options.smtputf8 else ''}"
    count = await self.over_limit(limits.RECIPIENTS) if self.is_limited(limits.RECIPIENTS) else 0
    if count:
        what = f"{count} from {self.session.client} for service {self.service.name}"
        self.warning(f"Recipient address rate limit exceeded: {what}")
        return f"450 4.7.1 Error: too many recipients from {self.peer.address}"
    words = [token.text for token in tokens[1:]]
    if len(words) > 1 and words[-1].upper() == "SMTPUTF8":
        words.pop()
    text = " ".join(words)
    try:
        address = await extract(self, Token(text, tokens[1].broken), strict=False, allow_empty=False)
    except BadAddress:
        return "501 5.1.3 Bad recipient address syntax"
    if not self.service.stand_alone:
        refusal = await self.service.evaluator.rcpt(self.session, address)
        if refusal is not None:
            return refusal
    return f"252 2.0.0 {text}"


async def etrn(self: Conversation, tokens: list[Token]) -> str:
    if self.options.helo_required and self.session.helo is None:
        return "503 Error: send HELO/EHLO first"
    if self.transaction is not None:
        return "503 Error: MAIL transaction in progress"
    if len(tokens) != 2:
        return "500 Syntax: ETRN domain"
    domain = tokens[1].text
    if domain[0] in "@#":
        domain = domain[1:]
    if not valid_hostname(domain) and literal_address(domain) is None:
        return "501 Error: invalid parameter syntax"
    if not self.service.stand_alone:
        refusal = await self.service.evaluator.etrn(self.session, domain)
        if refusal is not None:
            return refusal
    answer = await self.service.with_.flush_site(domain)
    if answer == FLUSHED:
        return "250 Queuing started"
    if answer == NOT_ELIGIBLE:
        self.warning(f"reject: ETRN {domain[:100]}... from {self.session.client}")
        return f"459 <{domain}>: service unavailable"
    return "458 Unable to queue messages"


async def starttls(self: Conversation, tokens: list[Token]) -> str | None:
    if len(tokens) != 1:
        return "501 5.5.4 Syntax: STARTTLS"
    if self.session.tls is not None:
        return "554 5.5.1 Error: TLS already active"
    if self.options.tls_level == "none" or not self.offers("starttls") or self.service.stand_alone:
        return "502 5.5.1 Error: command not implemented"
    if self.service.tls is None:
        return "454 4.7.0 TLS not available due to local problem"
    count = await self.over_limit(limits.TLS_SESSIONS) if self.is_limited(limits.TLS_SESSIONS) else 0
    if count:
        what = f"{count} from {self.session.client} for service {self.service.name}"
        self.warning(f"New TLS session rate limit exceeded: {what}")
        return f"454 4.7.0 Error: too many new TLS sessions from {self.peer.address}"
    await self.reply("220 2.0.0 Ready to start TLS")
    await self.begin_tls()
    return None
