"""XCLIENT, XFORWARD: a proxy or filter in front of us says who the client really is; XCLIENT_README, XFORWARD_README.

Only clients of smtpd_authorized_xclient_hosts and smtpd_authorized_xforward_hosts may.  XCLIENT changes the session as
if that client had connected (its restrictions apply), XFORWARD only what is logged and stored of the message's origin.
Values are xtext (RFC 1891); "[UNAVAILABLE]" and "[TEMPUNAVAIL]" stand for what is not known.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gateway.addresses.syntax import AddressError, valid_hostname, xtext_decode
from gateway.policy.session import NAME_OK, NAME_PERMANENT, NAME_TEMPORARY, Session
from gateway.smtpd.conversation import Conversation
from gateway.smtpd.peer import UNKNOWN, Peer, plain_address
from gateway.smtpd.tokens import Token

_UNAVAILABLE, _TEMPORARY = "[UNAVAILABLE]", "[TEMPUNAVAIL]"
_XCLIENT = frozenset(("NAME", "REVERSE_NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"))
_XFORWARD = frozenset(("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"))
_LONGEST = 255
_PORT = re.compile(r"[0-9]{1,5}\Z")
_NEUTERED = re.compile(r'[^\x21-\x7e]|[<>()\\";@]')


class _Bad(Exception):
    """The reply."""


def _attributes(tokens: list[Token], command: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for token in tokens[1:]:
        name, equals, value = token.text.partition("=")
        name = name.upper()
        if not equals:
            raise _Bad("501 5.5.4 Error: attribute=value expected")
        if len(value) > _LONGEST:
            raise _Bad("501 5.5.4 Error: attribute value too long")
        if name not in known:
            raise _Bad(f"501 5.5.4 Bad {command} attribute name: {_NEUTERED.sub('?', name)[:100]}")
        try:
            found[name] = value.upper() if value.upper() in (_UNAVAILABLE, _TEMPORARY) else xtext_decode(value)
        except AddressError:
            raise _bad_value(name, value) from None
    return found


def _bad_value(name: str, value: str) -> _Bad:
    return _Bad(f"501 5.5.4 Bad {name} syntax: {_NEUTERED.sub('?', value)[:100]}")


def _address(name: str, value: str) -> str:
    if value in (_UNAVAILABLE, _TEMPORARY):
        return UNKNOWN
    text = value[5:] if value[:5].upper() == "IPV6:" else value
    address = plain_address(text)
    if address == UNKNOWN:
        raise _bad_value(name, value)
    return address


def _host(name: str, value: str) -> str:
    if value in (_UNAVAILABLE, _TEMPORARY):
        return UNKNOWN
    if not value.isascii() or not valid_hostname(value):
        raise _bad_value(name, value)
    return value


def _port(name: str, value: str) -> str:
    if value in (_UNAVAILABLE, _TEMPORARY):
        return UNKNOWN
    if not _PORT.match(value) or int(value) > 65535:
        raise _bad_value(name, value)
    return value


def _protocol(value: str) -> str:
    if value.upper() not in ("SMTP", "ESMTP"):
        raise _bad_value("PROTO", value)
    return value.upper()


async def xclient(self: Conversation, tokens: list[Token]) -> str | None:
    if self.transaction is not None:
        return "503 5.5.1 Error: MAIL transaction in progress"
    if len(tokens) < 2:
        return "501 5.5.4 Syntax: XCLIENT attribute=value..."
    if not self.xclient_allowed:
        return "550 5.7.0 Error: insufficient authorization"
    try:
        values = _attributes(tokens, "XCLIENT", _XCLIENT)
        peer = _impersonated(self.peer, values)
        server = _destination(self.session, values)
        protocol = _protocol(values["PROTO"]) if "PROTO" in values else None
    except _Bad as bad:
        return str(bad)
    session = self.session
    self.forget()
    self.know(peer)
    session.find_server = lambda: server
    session.helo, session.protocol = None, protocol or "SMTP"
    helo = values.get("HELO", _UNAVAILABLE)
    if helo not in (_UNAVAILABLE, _TEMPORARY):
        session.helo = _NEUTERED.sub("?", helo)
    login = values.get("LOGIN", _UNAVAILABLE)
    session.sasl_username = session.sasl_method = session.sasl_sender = ""
    if login not in (_UNAVAILABLE, _TEMPORARY):
        session.sasl_username, session.sasl_method = _NEUTERED.sub("?", login), "XCLIENT"
    await self.meet_again()
    return None


def _impersonated(before: Peer, values: dict[str, str]) -> Peer:
    peer = replace(before)
    if "ADDR" in values:
        peer.address = _address("ADDR", values["ADDR"])
    if "PORT" in values:
        peer.port = _port("PORT", values["PORT"])
    if "NAME" in values:
        peer.name = peer.reverse_name = _host("NAME", values["NAME"])
        peer.name_status = peer.reverse_status = _status(values["NAME"])
    if "REVERSE_NAME" in values:
        peer.reverse_name = _host("REVERSE_NAME", values["REVERSE_NAME"])
        peer.reverse_status = _status(values["REVERSE_NAME"])
    return peer


def _destination(session: Session, values: dict[str, str]) -> tuple[str, str]:
    """Where the client has come to, as the proxy says."""
    address, port = session.find_server() if session.find_server is not None else ("", "")
    if "DESTADDR" in values:
        address = _address("DESTADDR", values["DESTADDR"])
    if "DESTPORT" in values:
        port = _port("DESTPORT", values["DESTPORT"])
    return address, port


def _status(value: str) -> str:
    return {_UNAVAILABLE: NAME_PERMANENT, _TEMPORARY: NAME_TEMPORARY}.get(value, NAME_OK)


async def xforward(self: Conversation, tokens: list[Token]) -> str | None:
    if self.transaction is not None:
        return "503 5.5.1 Error: MAIL transaction in progress"
    if len(tokens) < 2:
        return "501 5.5.4 Syntax: XFORWARD attribute=value..."
    if not self.xforward_allowed:
        return "550 5.7.0 Error: insufficient authorization"
    try:
        values = _attributes(tokens, "XFORWARD", _XFORWARD)
        for name, value in values.items():
            self.forwarded[name] = _forwarded(name, value)
    except _Bad as bad:
        return str(bad)
    return "250 2.0.0 Ok"


def _forwarded(name: str, value: str) -> str:
    if name == "NAME":
        return _host(name, value)
    if name == "ADDR":
        return _address(name, value)
    if name == "PORT":
        return _port(name, value)
    if value in (_UNAVAILABLE, _TEMPORARY):
        return UNKNOWN if name != "IDENT" else ""
    if name == "PROTO":
        return _protocol(value)
    if name == "SOURCE":
        if value.upper() not in ("LOCAL", "REMOTE"):
            raise _bad_value(name, value)
        return value.upper()
    return _NEUTERED.sub("?", value)
