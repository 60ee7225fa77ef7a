"""MAIL and RCPT; RFC 5321 4.1.1.2 and 4.1.1.3, with the parameters of RFC 1870, 3461, 6152, 6531."""

from __future__ import annotations

from gateway.addresses.forms import quote, unquote
from gateway.clock import time_of_day
from gateway.smtpd import limits, login, milters
from gateway.smtpd.addresses import BadAddress, extract
from gateway.smtpd.content_commands import announce
from gateway.smtpd.conversation import Conversation
from gateway.smtpd.parameters import BadParameter, mail_parameters, rcpt_parameters, safe
from gateway.smtpd.proxy_filter import Filtered
from gateway.smtpd.tokens import Token
from gateway.smtpd.transaction import Transaction
from spool.envelope import Recipient

_SPACE_FACTOR = 1.5


async def mail(self: Conversation, tokens: list[Token]) -> str:
    options, session = self.options, self.session
    if options.helo_required and session.helo is None:
        return "503 5.5.1 Error: send HELO/EHLO first"
    if self.transaction is not None:
        if self.transaction.chunks is not None:
            return "503 5.5.1 Error: MAIL after BDAT"
        return "503 5.5.1 Error: nested MAIL command"
    if len(tokens) < 3 or tokens[1].text.lower() != "from:":
        return "501 5.5.4 Syntax: MAIL FROM:<address>"
    count = await self.over_limit(limits.MESSAGES) if self.is_limited(limits.MESSAGES) else 0
    if count:
        what = f"{count} from {session.client} for service {self.service.name}"
        self.warning(f"Message delivery request rate limit exceeded: {what}")
        return f"450 4.7.1 Error: too much mail from {self.peer.address}"
    try:
        utf8 = any(token.text.upper() == "SMTPUTF8" for token in tokens[3:])
        sender = await extract(self, tokens[2], strict=options.strict_envelopes, allow_empty=True, utf8=utf8)
        parameters = mail_parameters(
            [token.text for token in tokens[3:]],
            dsn=self.offers("dsn"),
            smtputf8=options.smtputf8 and self.offers("smtputf8"),
            auth=self.service.login is not None,
            verp=options.verp if self.verp_allowed else None,
        )
    except BadAddress:
        return "501 5.1.7 Bad sender address syntax"
    except BadParameter as bad:
        return str(bad)
    if parameters.auth:
        if not login.is_active(self):
            return "503 5.5.4 Error: authentication disabled"
        if parameters.auth != "<>":
            session.sasl_sender = safe(parameters.auth)
    if parameters.verp and not sender:
        return "503 5.5.4 Error: XVERP requires non-null sender"
    if options.strict_smtputf8 and not parameters.smtputf8 and not sender.isascii():
        return "553 5.6.7 Must declare SMTPUTF8 to send unicode address"
    session.size = parameters.size
    refusal = None if self.service.stand_alone else await self.service.evaluator.mail(session, sender)
    refusal = refusal or _too_large(self, sender, parameters.size) or _no_room(self)
    if refusal is not None:
        session.size = 0
        return refusal
    session.sender = sender
    if self.chain is not None:
        refusal = await milters.mail(self, tokens)
        if refusal is not None:
            self.forget()
            return refusal
    if not options.delay_open and self.service.proxy_filter is None:
        announce(self, queued=True)
    self.transaction = Transaction(sender, parameters, time_of_day(self.service.with_.clock))
    if self.service.proxy_filter is not None:
        self.transaction.command = " ".join([f"MAIL FROM:<{sender}>", *(token.text for token in tokens[3:])])
    return "250 2.1.0 Ok"


def _too_large(self: Conversation, sender: str, size: int) -> str | None:
    if not 0 < self.options.message_size_limit < size:
        return None
    reply = "552 5.3.4 Message size exceeds fixed limit"
    self.session.sender = sender
    self.info(self.session.fact_line("reject", reply))
    self.session.sender = None
    return reply


def _no_room(self: Conversation) -> str | None:
    """queue_minfree, and room for this message and half another one."""
    free, limit = self.service.with_.free_bytes(), self.options.message_size_limit
    if self.service.stand_alone or (free > self.options.queue_minfree and free >= _SPACE_FACTOR * limit):
        return None
    reply = "452 4.3.1 Insufficient system storage"
    self.info(self.session.fact_line("reject", reply))
    self.warning(f"not enough free space in mail queue: {free} bytes < {_SPACE_FACTOR:g}*message size limit")
    return reply


async def rcpt(self: Conversation, tokens: list[Token]) -> str:
    options, session, transaction = self.options, self.session, self.transaction
    if transaction is None:
        return "503 5.5.1 Error: need MAIL command"
    if transaction.chunks is not None:
        return "503 5.5.1 Error: RCPT after BDAT"
    if len(tokens) < 3 or tokens[1].text.lower() != "to:":
        return "501 5.5.4 Syntax: RCPT TO:<address>"
    count = await self.over_limit(limits.RECIPIENTS) if self.is_limited(limits.RECIPIENTS) else 0
    if count:
        what = f"{count} from {session.client} for service {self.service.name}"
        self.warning(f"Recipient address rate limit exceeded: {what}")
        return f"450 4.7.1 Error: too many recipients from {self.peer.address}"
    utf8 = transaction.parameters.smtputf8
    try:
        address = await extract(self, tokens[2], strict=options.strict_envelopes, allow_empty=False, utf8=utf8)
        parameters = rcpt_parameters([token.text for token in tokens[3:]], dsn=self.offers("dsn"))
    except BadAddress:
        return "501 5.1.3 Bad recipient address syntax"
    except BadParameter as bad:
        return str(bad)
    if options.strict_smtputf8 and not utf8 and not address.isascii():
        return "553 5.6.7 Must declare SMTPUTF8 to send unicode address"
    if 0 < options.recipient_limit <= session.recipient_count:
        # A client that does not know the limit is not punished, as long as it keeps within reason.
        self.forgiven = self.overshoot < options.recipient_overshoot
        self.overshoot += 1
        return "452 4.5.3 Error: too many recipients"
    if not self.service.stand_alone:
        probe = self.service.probe_sender.known(unquote(address), time_of_day(self.service.with_.clock))
        if probe is None:
            refusal = await self.service.evaluator.rcpt(session, address)
        else:
            # Who verifies the sender of our probes is not refused, lest both sides remember that the other is bad.
            address, refusal = quote(probe), None
        if self.chain is not None:
            refusal = await milters.rcpt(self, address, tokens, refusal)
        if refusal is not None:
            return refusal
    proxy = self.service.proxy_filter
    if proxy is not None:
        filtered = transaction.filtered = transaction.filtered or Filtered(self, proxy)
        command = " ".join([f"RCPT TO:<{address}>", *(token.text for token in tokens[3:])])
        refusal = await filtered.rcpt(transaction.command, command)
        if refusal is not None:
            return str(refusal)
    if not transaction.recipients and not session.queue_id:
        announce(self, queued=proxy is None)
    orcpt = parameters.orcpt or _as_received(tokens[2].text)
    transaction.recipients.append(Recipient(address, "", orcpt, parameters.notify))
    session.recipient_count += 1
    return "250 2.1.5 Ok"


def _as_received(path: str) -> str:
    """The DSN original recipient of one for whom the client told none: just as it came (RFC 3461 4.2, RFC 6533 3)."""
    address = (path[1:-1] if path[:1] == "<" and path[-1:] == ">" else path).rstrip(" ")
    if not address.isprintable():
        return ""
    return f"rfc822;{address}" if address.isascii() else f"utf-8;{address}"
