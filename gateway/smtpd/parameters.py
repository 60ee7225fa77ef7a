"""The parameters of MAIL and RCPT as typed values; RFC 1870, 3461, 6152, 6531.

``mail_parameters`` and ``rcpt_parameters`` take the tokens behind the address and give a value object, or raise
BadParameter with the reply.  An unknown parameter is refused at once (RFC 5321 4.1.1.11), a repeated DSN one too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.addresses.dsn import envelope_id, notify_bits, original_recipient, ret_word
from gateway.addresses.verp import Delimiters

_DSN_OFF = "501 5.7.1 DSN support is disabled"
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_TOO_LARGE = 1 << 63


class BadParameter(Exception):
    """The reply to give, with its codes."""


@dataclass(slots=True)
class MailParameters:
    size: int = 0
    encoding: str = ""
    """"7bit", "8bit" or ""."""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""
    verp: str = ""


@dataclass(slots=True)
class RcptParameters:
    notify: int = 0
    orcpt: str = ""


def parse_size(text: str) -> int:
    """A SIZE or BDAT count; -1 for what is no number or beyond all bounds."""
    if not _DIGITS.match(text):
        return -1
    number = int(text)
    return number if number < _TOO_LARGE else -1


def mail_parameters(
    words: Sequence[str],
    *,
    dsn: bool = True,
    smtputf8: bool = True,
    auth: bool = False,
    verp: Delimiters | None = None,
) -> MailParameters:
    """``dsn``, ``smtputf8``, ``auth``: on offer.  ``verp``: if this client may use XVERP."""
    found = MailParameters()
    for word in words:
        name, equals, value = word.partition("=")
        name = name.upper()
        if name == "BODY" and value.upper() in ("8BITMIME", "7BIT"):
            found.encoding = f"{value[0]}bit"
        elif name == "SIZE" and equals:
            found.size = parse_size(value)
            if found.size < 0:
                raise BadParameter("501 5.5.4 Bad message size syntax")
        elif name == "SMTPUTF8" and not equals and smtputf8:
            found.smtputf8 = True
        elif name == "AUTH" and equals and auth:
            if found.auth:
                raise BadParameter("503 5.5.4 Error: multiple AUTH= options")
            found.auth = value
        elif name == "XVERP" and verp is not None:
            found.verp = value if equals else verp.default
            if not verp.acceptable(found.verp):
                raise BadParameter(f"501 5.5.4 Error: XVERP needs {verp.wanted}")
        elif name == "RET" and equals:
            _ret(found, value, dsn)
        elif name == "ENVID" and equals:
            _envid(found, value, dsn)
        else:
            raise BadParameter(f"555 5.5.4 Unsupported option: {safe(word)}")
    return found


def _ret(found: MailParameters, value: str, dsn: bool) -> None:
    if not dsn:
        raise BadParameter(_DSN_OFF)
    ret = ret_word(value)
    if found.ret or not ret:
        raise BadParameter("501 5.5.4 Bad RET parameter syntax")
    found.ret = ret


def _envid(found: MailParameters, value: str, dsn: bool) -> None:
    if not dsn:
        raise BadParameter(_DSN_OFF)
    envid = envelope_id(value)
    if found.envid or not envid:
        raise BadParameter("501 5.5.4 Bad ENVID parameter syntax")
    found.envid = envid


def rcpt_parameters(words: Sequence[str], *, dsn: bool = True) -> RcptParameters:
    found = RcptParameters()
    for word in words:
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in ("NOTIFY", "ORCPT"):
            raise BadParameter(f"555 5.5.4 Unsupported option: {safe(word)}")
        if not dsn:
            raise BadParameter(_DSN_OFF)
        if name == "NOTIFY":
            notify = notify_bits(value)
            if found.notify or not notify:
                raise BadParameter("501 5.5.4 Error: Bad NOTIFY parameter syntax")
            found.notify = notify
        else:
            orcpt = original_recipient(value)
            if found.orcpt or not orcpt:
                raise BadParameter("501 5.5.4 Error: Bad ORCPT parameter syntax")
            found.orcpt = orcpt
    return found


def safe(text: str) -> str:
    """Text of the client's for a reply: printable ASCII, of bounded length."""
    return _UNSAFE.sub("?", text)[:200]
