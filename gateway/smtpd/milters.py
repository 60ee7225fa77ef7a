"""Milters on the server's side: what they are told of a session, and what their word means for it; MILTER_README.

As in Postfix a connection or HELO that a milter refuses is answered all the same (554 for the former, no extensions
with the latter), and the mail is refused.  smtpd_milter_maps names milters by the client's address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.addresses.syntax import unquote
from gateway.config import Settings
from gateway.content.milter import config
from gateway.content.milter.chain import Chain
from gateway.content.milter.client import DISCARD, HOLD, Verdict
from gateway.content.milter.config import MacroValues, MilterConfig
from gateway.interfaces import Log, TableError
from gateway.policy.session import NAME_OK, NAME_TEMPORARY
from gateway.smtpd.peer import UNKNOWN
from gateway.tables import Maps, Tables
from gateway.tables.requests import Reach

if TYPE_CHECKING:
    from gateway.smtpd.conversation import Conversation
    from gateway.smtpd.tokens import Token

_MAPS = "smtpd_milter_maps"
_ESCAPED = str.maketrans(dict.fromkeys(map(chr, (*range(32), 127)), "?"))


@dataclass(slots=True)
class Milters:
    """The milters of one smtpd service."""

    settings: Settings
    configured: list[MilterConfig]
    maps: Maps
    values: MacroValues
    reach: Reach
    log: Log
    program: str
    _parsed: dict[str, list[MilterConfig]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, tables: Tables, reach: Reach, log: Log, program: str) -> Milters | None:
        """None: there are none.  Raises ConfigError."""
        configured = config.milters(settings, "smtpd_milters")
        words = settings.words(_MAPS)
        if not configured and not words:
            return None
        maps = tables.maps(words, settings, title=_MAPS, program=program)
        return cls(settings, configured, maps, config.MacroValues.of(settings), reach, log, program)

    async def of_client(self, address: str) -> list[MilterConfig]:
        if self.maps:
            found = await self.maps.find(address)
            if found is not None:
                return self._of_value(found.value.strip())
        return self.configured

    def _of_value(self, value: str) -> list[MilterConfig]:
        if value.upper() == config.DISABLE:
            return []
        if value not in self._parsed:
            words = self.settings.with_overrides({"smtpd_milters": value}).words("smtpd_milters")
            self._parsed[value] = config.parse(self.settings, _MAPS, words)
        return self._parsed[value]


# --- events ----------------------------------------------------------------------------------------------------


async def connect(self: Conversation) -> str | None:
    """Begin; the reply in the place of the greeting, None = there is nothing against it."""
    milters = self.service.milters
    if milters is None or self.service.stand_alone:
        return None
    end(self)
    try:
        configured = await milters.of_client(self.peer.address)
    except (TableError, ValueError) as problem:
        self.warning(f"{_MAPS}: {problem}")
        return f"421 4.3.0 {self.options.hostname} Server local error"
    if not configured:
        return None
    chain = self.chain = Chain(configured, milters.values, _facts(self), milters.reach, milters.log, milters.program)
    session = self.session
    name = session.client_name if session.client_name != UNKNOWN else f"[{session.client_address}]"
    port = int(session.client_port) if session.client_port.isdigit() else 0
    reply = _said(self, await chain.connect(name, session.client_address, port))
    if reply is None or reply[0] == "4" and not reply.startswith("421"):
        return None
    if reply[0] == "5":
        return f"554 {self.options.hostname} ESMTP not accepting connections"
    return f"421 {self.options.hostname} Service unavailable - try again later"


async def helo(self: Conversation, name: str) -> str | None:
    return None if self.chain is None else _said(self, await self.chain.helo(name))


async def mail(self: Conversation, tokens: list[Token]) -> str | None:
    """When MAIL has been found good otherwise, and ``session.sender`` is set."""
    if self.chain is None:
        return None
    self.chain.abort()
    self.routes.update(await _route(self, "mail", self.session.sender or ""))
    return _said(self, await self.chain.mail([token.text for token in tokens[2:]]))


async def rcpt(self: Conversation, address: str, tokens: list[Token], refusal: str | None) -> str | None:
    """``refusal``: what the recipient is refused with already."""
    if self.chain is None:
        return refusal
    words = [token.text for token in tokens[2:]]
    if refusal is not None:
        _, dsn, _, text = (*refusal.translate(_ESCAPED).split(" ", 3), "", "", "")[:4]
        self.routes.update({"{rcpt_mailer}": "error", "{rcpt_host}": dsn, "{rcpt_addr}": text})
        await self.chain.rejected_rcpt(words)
        return refusal
    self.routes.update(await _route(self, "rcpt", address))
    self.session.recipient = address
    try:
        return _said(self, await self.chain.rcpt(words))
    finally:
        self.session.recipient = None


async def data(self: Conversation) -> str | None:
    """The log shows the first recipient."""
    transaction = self.transaction
    if self.chain is None or transaction is None:
        return None
    verdict = await self.chain.data()
    self.session.recipient = transaction.recipients[0].address
    try:
        return _said(self, verdict)
    finally:
        self.session.recipient = None


async def unknown(self: Conversation, line: str) -> str | None:
    return None if self.chain is None else _said(self, await self.chain.unknown(line))


def end(self: Conversation) -> None:
    if self.chain is not None:
        self.chain.close()
        self.chain = None


# --- what is meant ---------------------------------------------------------------------------------------------


def _said(self: Conversation, verdict: Verdict | None) -> str | None:
    """Carry a verdict out; the reply if it is a refusal."""
    if verdict is None:
        return None
    session, decisions = self.session, self.session.decisions
    if verdict is HOLD or verdict is DISCARD:
        word = "hold" if verdict is HOLD else "discard"
        setattr(decisions, word, True)
        self.info(session.fact_line(f"milter-{word}", f"milter triggers {word.upper()} action"))
        return None
    self.info(session.fact_line("milter-reject", verdict.text.replace("\n", "\r\n").translate(_ESCAPED)))
    return verdict.text


async def _route(self: Conversation, what: str, address: str) -> dict[str, str]:
    destination = await self.service.with_.addresses.destination(address)
    return {
        f"{{{what}_addr}}": address and destination.address, f"{{{what}_host}}": destination.nexthop,
        f"{{{what}_mailer}}": destination.transport,
    }


def _facts(self: Conversation) -> Callable[[str], str]:
    """The values of macros, as things stand when one is sent."""

    def value(name: str) -> str:
        if name in self.routes:
            return self.routes[name]
        maker = _VALUES.get(name)
        return maker(self) if maker is not None else ""

    return value


def _client(self: Conversation) -> str:
    session = self.session
    forged = "" if session.client_name == session.reverse_name else " (may be forged)"
    return f"{session.reverse_name} [{session.client_address}]{forged}"


def _resolved(self: Conversation) -> str:
    session = self.session
    if session.name_status == NAME_OK:
        return "OK"
    if NAME_TEMPORARY in (session.name_status, session.reverse_status):
        return "TEMP"
    return "FORGED" if session.reverse_status == NAME_OK else "FAIL"


def _server(self: Conversation, which: int) -> str:
    find = self.session.find_server
    return find()[which] if find is not None else ""


_VALUES: dict[str, Callable[[Conversation], str]] = {
    "_": _client,
    "i": lambda self: self.session.queue_id,
    "{auth_authen}": lambda self: unquote(self.session.sasl_username),
    "{auth_author}": lambda self: self.session.sasl_sender,
    "{auth_type}": lambda self: self.session.sasl_method,
    "{cert_issuer}": lambda self: self.session.tls.issuer if self.session.tls else "",
    "{cert_subject}": lambda self: self.session.tls.subject if self.session.tls else "",
    "{cipher}": lambda self: self.session.tls.cipher if self.session.tls else "",
    "{cipher_bits}": lambda self: str(self.session.tls.cipher_bits) if self.session.tls else "",
    "{client_addr}": lambda self: self.session.client_address,
    "{client_connections}": lambda self: str(self.connections or ""),
    "{client_name}": lambda self: self.session.client_name,
    "{client_port}": lambda self: self.session.client_port,
    "{client_ptr}": lambda self: self.session.reverse_name,
    "{client_resolve}": _resolved,
    "{daemon_addr}": lambda self: _server(self, 0),
    "{daemon_port}": lambda self: _server(self, 1),
    "{tls_version}": lambda self: self.session.tls.protocol if self.session.tls else "",
}
