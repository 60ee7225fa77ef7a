"""DATA and BDAT: the message itself, and what is said at its end; RFC 5321 4.1.1.4, RFC 3030.

The message goes to cleanup while it arrives.  250 is said when it is durable.  A refusal by cleanup is passed on; a
full disk is 452, anything unexpected 451 4.3.0: the message stays the client's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import deferLater

from gateway.interfaces import Rejected, TableError
from gateway.smtpd import milters
from gateway.smtpd.channel import Gone
from gateway.smtpd.conversation import Conversation
from gateway.smtpd.framer import Chunks, Data
from gateway.smtpd.parameters import parse_size
from gateway.smtpd.received import received
from gateway.smtpd.tokens import Token
from gateway.smtpd.transaction import Transaction
from spool.envelope import Client, Envelope
from spool.interfaces import SpoolError

TOO_MANY = "451 4.3.2 Error: too many messages at a time, try again later"
WRITE_ERROR = "451 4.3.0 Error: queue file write error"


async def data(self: Conversation, tokens: list[Token]) -> str | None:
    transaction = self.transaction
    if transaction is not None and transaction.chunks is not None:
        return "503 5.5.1 Error: DATA after BDAT"
    if transaction is None:
        return "503 5.5.1 Error: need RCPT command"
    if not transaction.recipients:
        return "554 5.5.1 Error: no valid recipients"
    if len(tokens) != 1:
        return "501 5.5.4 Syntax: DATA"
    refusal = await _checks(self, transaction) or await _no_place(self)
    if refusal is not None:
        return refusal
    try:
        intake = transaction.intake = await _begin(self, transaction)
    except (SpoolError, OSError) as error:
        return _write_error(self, error)
    refusal = await _may_begin(self, transaction)
    if refusal is not None:
        return refusal
    await self.reply("354 End data with <CR><LF>.<CR><LF>")
    self.session.where = "DATA content"
    decoder = Data(self.lenient, self.options.replace_stray_cr, self.options.bare_newline == "reject")
    channel = self.channel
    if self.options.per_request_deadline:
        channel.limit_request(self.options.timeout, self.options.min_data_rate)
    while not decoder.done:
        content = decoder.decode(await channel.read_some())
        transaction.received = decoder.raw
        if content:
            intake.write(content)
            if intake.full:
                await intake.drained()
    channel.end_request()
    if decoder.rest:
        channel.framer.give_back(decoder.rest)
    return await _finish(self, transaction, decoder.bare_lf, "")


async def bdat(self: Conversation, tokens: list[Token]) -> str | None:
    if not self.offers("chunking"):
        return "521 5.5.1 Error: command not implemented"
    last = len(tokens) == 3 and tokens[2].text.upper() == "LAST"
    size = parse_size(tokens[1].text) if len(tokens) == 2 or last else -1
    if size < 0:
        line = self.line.decode("utf-8", "replace")[:100]
        queue_id = self.session.queue_id or "NOQUEUE"
        self.warning(f"{queue_id}: malformed BDAT command syntax from {self.session.client}: {line}")
        return "521 5.5.4 Syntax: BDAT count [LAST]"
    refusal = await _may_send(self, size, last)
    if refusal is not None:
        return await _skip(self, size, last, refusal)
    transaction = self.transaction
    assert transaction is not None and transaction.chunks is not None
    self.session.where = "BDAT content"
    left = size
    while left:
        block = await self.channel.read_some(left)
        left -= len(block)
        transaction.received += len(block)
        content = transaction.chunks.decode(block)
        if content:
            transaction.intake.write(content)
            if transaction.intake.full:
                await transaction.intake.drained()
    if not last:
        self.session.where = "BDAT"
        return f"250 2.0.0 Ok: {size} bytes"
    content = transaction.chunks.finish()
    if content:
        transaction.intake.write(content)
    return await _finish(self, transaction, transaction.chunks.bare_lf, f"{transaction.received} bytes ")


async def _may_send(self: Conversation, size: int, last: bool) -> str | None:
    """The reply with which a chunk is refused, or None: then the message has been begun."""
    transaction, limit = self.transaction, self.options.message_size_limit
    queue_id = self.session.queue_id or "NOQUEUE"
    if size == 0 and not last:
        self.warning(f"{queue_id}: null BDAT request from {self.session.client}")
        return "551 5.7.1 Null BDAT request"
    if transaction is None:
        return "503 5.5.1 Error: need RCPT command"
    if transaction.failed:
        return f"551 5.0.0 Discarded {size} bytes after earlier error"
    if not transaction.recipients:
        return "554 5.5.1 Error: no valid recipients"
    if 0 < limit < transaction.received + size:
        self.warning(f"{queue_id}: BDAT request from {self.session.client} exceeds message size limit")
        return "552 5.3.4 Chunk exceeds message size limit"
    if transaction.chunks is not None:
        return None
    refusal = await _checks(self, transaction) or await _no_place(self)
    if refusal is not None:
        return refusal
    try:
        transaction.intake = await _begin(self, transaction)
    except (SpoolError, OSError) as error:
        return _write_error(self, error)
    refusal = await _may_begin(self, transaction)
    if refusal is not None:
        return refusal
    watch = self.options.bare_newline == "reject"
    transaction.chunks = Chunks(self.lenient, self.options.replace_stray_cr, watch)
    return None


async def _skip(self: Conversation, size: int, last: bool, refusal: str) -> str:
    """A refused chunk is read all the same: the client has sent it, or is about to."""
    transaction = self.transaction
    if transaction is not None:
        transaction.abort()
        transaction.failed = True
        transaction.chunks = transaction.chunks or Chunks()
    left = size
    while left:
        left -= len(await self.channel.read_some(min(left, 65536)))
    if last:
        self.forget()
    return refusal


async def _checks(self: Conversation, transaction: Transaction) -> str | None:
    """smtpd_data_restrictions.  They learn of a recipient only if there is just one."""
    if self.service.stand_alone:
        return None
    return await _about_all(self, transaction, self.service.evaluator.data)


async def _no_place(self: Conversation) -> str | None:
    """The reply when as many messages are being received as can be; where more comes in than goes out, a pause."""
    collaborators = self.service.with_
    room = collaborators.room
    if 0 < room.most_messages <= room.messages:
        if room.complains("messages", collaborators.clock.seconds()):
            self.warning(f"{room.messages} messages are being received: new ones are refused for now")
        return TOO_MANY
    if room.pause and not self.service.stand_alone:
        self.channel.flush()
        await deferLater(collaborators.clock, room.pause)
    return None


async def _about_all(self: Conversation, transaction: Transaction, check: Any) -> str | None:
    session = self.session
    if len(transaction.recipients) == 1:
        session.recipient = transaction.recipients[0].address
    try:
        refusal: str | None = await check(session)
        return refusal
    finally:
        session.recipient = None


# --- to cleanup ------------------------------------------------------------------------------------------------


async def _may_begin(self: Conversation, transaction: Transaction) -> str | None:
    """What milters, and the filter in front of the queue, say now that the content is to come: a refusal, or None."""
    refusal = await milters.data(self)
    if refusal is not None:
        transaction.intake.abort()
        transaction.intake = None
    elif transaction.filtered is not None:
        refusal = await transaction.filtered.data(_trace(self, transaction))
    return refusal


def _trace(self: Conversation, transaction: Transaction) -> list[bytes]:
    """The lines in front of the message: ours, and those that restrictions have added."""
    only = transaction.recipients[0].address if len(transaction.recipients) == 1 else ""
    trace = received(self.options, self.session, only, transaction.arrival, transaction.parameters.smtputf8)
    return [line.encode("utf-8", "replace") for line in self.session.decisions.prepend] + trace


async def _begin(self: Conversation, transaction: Transaction) -> Any:
    session, options, decisions = self.session, self.options, self.session.decisions
    if transaction.filtered is not None:
        transaction.take_room(self.service.with_.room)
        return transaction.filtered
    parameters = transaction.parameters
    envelope = Envelope(
        transaction.sender,
        transaction.recipients,
        transaction.arrival,
        await _client(self),
        smtputf8=parameters.smtputf8,
        envid=parameters.envid,
        ret=parameters.ret,
        verp=parameters.verp,
        content_filter=decisions.filter or options.content_filter,
        redirect=decisions.redirect,
        encoding=parameters.encoding,
    )
    trace = _trace(self, transaction)
    intake_options = self.service.intake_options
    if self.chain is not None and intake_options.milters:
        intake_options = replace(intake_options, chain=self.chain)
    if decisions.any():
        intake_options = replace(
            intake_options, hold=decisions.hold, discard=decisions.discard, copies=tuple(decisions.copies)
        )
    intake = await self.service.with_.cleanup.begin("smtpd", envelope, trace, intake_options, session.queue_id)
    transaction.take_room(self.service.with_.room)
    return intake


def announce(self: Conversation, *, queued: bool) -> None:
    """There is going to be a message: it gets its queue ID, if it is ``queued``, and the log hears of it."""
    session = self.session
    if queued:
        session.queue_id = self.service.with_.cleanup.new_id()
    self.info(f"{session.queue_id or 'NOQUEUE'}: client={session.client}{_login(self)}{_origin(self)}")


def _login(self: Conversation) -> str:
    session = self.session
    parts = ""
    if session.sasl_username:
        parts = f", sasl_method={session.sasl_method}, sasl_username={session.sasl_username}"
        if session.sasl_sender:
            parts += f", sasl_sender={session.sasl_sender}"
    return parts


def _origin(self: Conversation) -> str:
    """What XFORWARD said: where a content filter's mail came from at first."""
    forwarded = self.forwarded
    if not forwarded:
        return ""
    ident, name, address = (forwarded.get(key, "") for key in ("IDENT", "NAME", "ADDR"))
    parts = f", orig_queue_id={ident}" if ident else ""
    return parts + (f", orig_client={name or 'unknown'}[{address or 'unknown'}]" if name or address else "")


async def _client(self: Conversation) -> Client:
    session, forwarded = self.session, self.forwarded
    client = Client(
        session.client_name,
        session.client_address,
        session.client_port,
        session.reverse_name,
        session.helo or "",
        session.protocol,
        "",
        session.sasl_method,
        session.sasl_username,
        session.sasl_sender,
        "local" if await _is_local(self) else "remote",
    )
    if forwarded:
        client.name = forwarded.get("NAME", client.name)
        client.address = forwarded.get("ADDR", client.address)
        client.port = forwarded.get("PORT", client.port)
        client.helo = forwarded.get("HELO", client.helo)
        client.protocol = forwarded.get("PROTO", client.protocol)
        client.ident = forwarded.get("IDENT", "")
        if forwarded.get("SOURCE"):
            client.rewrite_context = forwarded["SOURCE"].lower()
    return client


async def _is_local(self: Conversation) -> bool:
    """local_header_rewrite_clients: whose headers may be completed with our own names."""
    service, session = self.service, self.session
    if service.stand_alone:
        return True
    for word in service.rewrite_words:
        if word == "permit_inet_interfaces" and session.client_address in service.with_.own_addresses:
            return True
        if word == "permit_mynetworks":
            known = service.networks.match_now(session.client_address, session.client_name)
            if known is None:
                known = await service.networks.match(session.client_address, session.client_name)
            if known:
                return True
        if word == "permit_sasl_authenticated" and session.sasl_username:
            return True
    for table in service.rewrite_tables:
        if await table.lookup(session.client_address) is not None:
            return True
    return False


async def _finish(self: Conversation, transaction: Transaction, bare_lf: bool, amount: str) -> str:
    """The end of the message: the reply.  The transaction is over in any case."""
    session, options, intake = self.session, self.options, transaction.intake
    session.where = "END-OF-MESSAGE"
    try:
        if bare_lf and options.bare_newline == "reject":
            self.info(session.fact_line("reject", "bare <LF> received"))
            return f"{options.bare_newline_code} 5.5.2 {options.hostname} Error: bare <LF> received"
        if not self.service.stand_alone and self.service.evaluator.lists.end_of_data:
            session.size = transaction.received
            refusal = await _about_all(self, transaction, self.service.evaluator.end_of_data)
            if refusal is not None:
                return refusal
            if intake is not transaction.filtered:
                _late_decisions(self, intake)
        if intake is transaction.filtered:
            return await _end_filtered(self, transaction)
        queue_id = await intake.finish()
        transaction.intake = None
        self.accepted()
        return f"250 2.0.0 Ok: {amount}queued as {queue_id}"
    except Rejected as rejected:
        return _lines(rejected)
    except SpoolError as error:
        return _write_error(self, error)
    except (Gone, TableError):
        raise
    except Exception as error:
        self.service.log.error(self.service.program, f"{session.queue_id}: internal: {type(error).__name__}: {error}")
        return WRITE_ERROR
    finally:
        self.forget()
        self.fresh_start()


async def _end_filtered(self: Conversation, transaction: Transaction) -> str:
    """The filter's word is ours."""
    reply = str(await transaction.filtered.finish())
    good = reply[0] == "2"
    if good:
        self.accepted()
    session = self.session
    facts = f"from=<{session.sender}> to=<{transaction.recipients[0].address}> proto={session.protocol}"
    what = f"proxy-{'accept' if good else 'reject'}: END-OF-MESSAGE: {reply}"
    self.info(f"{what}; {facts}" + (f" helo=<{session.helo}>" if session.helo is not None else ""))
    return reply


def _lines(rejected: Rejected) -> str:
    """The reply, which may have several lines."""
    first, *others = rejected.text.split("\n")
    lines = [f"{rejected.dsn} {first}", *others]
    return "\n".join([f"{rejected.code}-{line}" for line in lines[:-1]] + [f"{rejected.code} {lines[-1]}"])


def _late_decisions(self: Conversation, intake: Any) -> None:
    """What smtpd_end_of_data_restrictions have decided, now that the message has begun already."""
    decisions = self.session.decisions
    if decisions.any():
        intake.hold, intake.discard, intake.copies = decisions.hold, decisions.discard, list(decisions.copies)
        intake.envelope.redirect = decisions.redirect
        intake.envelope.content_filter = decisions.filter or intake.envelope.content_filter


def _write_error(self: Conversation, error: Exception) -> str:
    self.warning(f"{self.session.queue_id or 'NOQUEUE'}: cannot be stored: {error}")
    if getattr(error, "no_room", False):
        return "452 4.3.1 Insufficient system storage"
    return WRITE_ERROR
