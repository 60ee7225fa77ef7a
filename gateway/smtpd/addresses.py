"""The address of a MAIL, RCPT or VRFY command, checked as smtpd checks it."""

from __future__ import annotations

from gateway.addresses.syntax import AddressError, parse_path
from gateway.smtpd.conversation import Conversation
from gateway.smtpd.tokens import Token


class BadAddress(Exception):
    """It is none; the log knows."""


async def extract(
    self: Conversation, token: Token, *, strict: bool, allow_empty: bool, utf8: bool = True
) -> str:
    """In external form, without angle brackets and source route.  ``utf8``: the client has said SMTPUTF8.  Raises
    BadAddress, TableError."""
    if token.broken:
        raise BadAddress
    try:
        address = parse_path(token.text, strict=strict, allow_empty=allow_empty)
    except AddressError:
        good = False
    else:
        good = self.service.stand_alone or await self.service.with_.addresses.acceptable(address, utf8)
    if not good:
        where = self.session.where
        self.warning(f"Illegal address syntax from {self.session.client} in {where} command: {token.text}")
        raise BadAddress
    return address
