"""The parameters of MAIL and RCPT as typed values; RFC 1870, 3461, 6152, 6531.

``mail_parameters`` and ``rcpt_parameters`` take the tokens behind the address and give a value object, or raise
BadParameter with the reply.  An unknown parameter is refused at once (RFC 5321 4.1.1.11), a repeated DSN one too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.addresses.syntax import AddressError, xtext_decode
from gateway.addresses.verp import Delimiters
from spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS

_DSN_OFF = "501 5.7.1 DSN support is disabled"
_NOTIFY = {"NEVER": NOTIFY_NEVER, "SUCCESS": NOTIFY_SUCCESS, "FAILURE": NOTIFY_FAILURE, "DELAY": NOTIFY_DELAY}
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_UTF8_ESCAPE = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
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
    if found.ret or value.upper() not in ("FULL", "HDRS"):
        raise BadParameter("501 5.5.4 Bad RET parameter syntax")
    found.ret = value.upper()


def _envid(found: MailParameters, value: str, dsn: bool) -> None:
    if not dsn:
        raise BadParameter(_DSN_OFF)
    try:
        envid = _decoded(value)
    except AddressError:
        envid = ""
    if found.envid or not envid or _UNSAFE.search(envid):
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
            notify = _notify(value)
            if found.notify or not notify:
                raise BadParameter("501 5.5.4 Error: Bad NOTIFY parameter syntax")
            found.notify = notify
        else:
            orcpt = _orcpt(value)
            if found.orcpt or not orcpt:
                raise BadParameter("501 5.5.4 Error: Bad ORCPT parameter syntax")
            found.orcpt = orcpt
    return found


def _notify(value: str) -> int:
    """The bits; 0 for what is no such list."""
    bits = 0
    for word in value.upper().split(","):
        bit = _NOTIFY.get(word, 0)
        if not bit or bits & bit:
            return 0
        bits |= bit
    return 0 if bits & NOTIFY_NEVER and bits != NOTIFY_NEVER else bits


def _orcpt(value: str) -> str:
    kind, separator, coded = value.partition(";")
    if not separator or not kind or not coded or not kind.isascii() or not kind.replace("-", "").isalnum():
        return ""
    try:
        if kind.lower() == "utf-8":  # RFC 6533 3
            address = _UTF8_ESCAPE.sub(lambda match: chr(int(match[1], 16)), coded)
        else:
            address = _decoded(coded)
    except (AddressError, ValueError, OverflowError):
        return ""
    return f"{kind};{address}" if address and address.isprintable() else ""


def _decoded(text: str) -> str:
    """xtext, in which a bare "=" is let pass, as many clients send it.  Raises AddressError."""
    return xtext_decode(text.replace("=", "+3D"))


def safe(text: str) -> str:
    """Text of the client's for a reply: printable ASCII, of bounded length."""
    return _UNSAFE.sub("?", text)[:200]
