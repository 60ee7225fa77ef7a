"""MAIL, RCPT and XFORWARD with the parameters that a server takes (RFC 5321, 1870, 6152, 3461, 6531; XFORWARD_README).

Every command is one line, whatever an address holds: an address with control characters, or with brackets and blanks
outside quotes, raises BadAddress.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.addresses.syntax import xtext_encode
from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_NEVER,
    NOTIFY_SUCCESS,
    Envelope,
    Recipient,
)
from transports.smtp.features import Features

UNAVAILABLE = "[UNAVAILABLE]"

_PLAIN = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@:,-]*\Z")
# Atomic groups, as a possessive group "(…)*+" lets a half-matched member through in Python 3.11.
_PATH = re.compile(r'(?>(?:"(?>(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)"|[^"\\<>\x00-\x20\x7f])*)\Z')
_UNITEXT = re.compile(r"[^!-*,-<>-\[\]-~]")
_NOTIFY = ((NOTIFY_SUCCESS, b"SUCCESS"), (NOTIFY_FAILURE, b"FAILURE"), (NOTIFY_DELAY, b"DELAY"))


class BadAddress(ValueError):
    """An address that must not be put on a command line."""


def path(address: str) -> bytes:
    if _PLAIN.match(address):
        return address.encode("ascii")
    if not _PATH.match(address):
        raise BadAddress(address)
    try:
        return address.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character that no byte stands behind
        raise BadAddress(address) from None


def mail(
    envelope: Envelope, features: Features, size: int | None, *, sender: str, eight_bit: bool, utf8: bool,
    dummy_auth: bool = False,
) -> bytes:
    """``size``: of the message on the wire; None = not known.  ``sender``: as the server is told.  ``dummy_auth``: who
    submitted the message is not told (RFC 4954 5)."""
    parts = [b"MAIL FROM:<", path(sender), b">"]
    if size is not None and features.size is not None:
        parts.append(b" SIZE=%d" % size)
    if features.eight_bit:
        if eight_bit:
            parts.append(b" BODY=8BITMIME")
        elif envelope.encoding == "7bit":
            parts.append(b" BODY=7BIT")
    if dummy_auth and "AUTH" in features.keywords:
        parts.append(b" AUTH=<>")
    if utf8 and features.utf8:
        parts.append(b" SMTPUTF8")
    if features.dsn:
        if envelope.ret:
            parts.append(b" RET=" + (b"FULL" if envelope.ret == "FULL" else b"HDRS"))
        if envelope.envid:
            parts.append(b" ENVID=" + xtext_encode(envelope.envid).encode("ascii"))
    parts.append(b"\r\n")
    return b"".join(parts)


def rcpt(recipient: Recipient, address: str, features: Features) -> bytes:
    """``address``: as resolved; ``recipient``: for the rest."""
    if not features.dsn:
        return b"RCPT TO:<%b>\r\n" % path(address)
    return b"RCPT TO:<%b>%b%b\r\n" % (path(address), _notify(recipient.notify), _original(recipient))


def _notify(bits: int) -> bytes:
    if not bits:
        return b""
    if bits & NOTIFY_NEVER:
        return b" NOTIFY=NEVER"
    return b" NOTIFY=" + b",".join(word for bit, word in _NOTIFY if bits & bit)


def _original(recipient: Recipient) -> bytes:
    whole = recipient.orcpt
    if not whole:
        address = recipient.original or recipient.address
        if _SAFE_ORIGINAL.match(address):
            return b" ORCPT=rfc822;" + address.encode("ascii")
        whole = ("rfc822;" if address.isascii() else "utf-8;") + address
    if whole.isascii():
        return b" ORCPT=" + xtext_encode(whole).encode("ascii")
    kind, _, address = whole.partition(";")
    if kind.lower() != "utf-8" or not _is_text(address):
        return b""
    # RFC 6533 3: "utf-8-addr-xtext", which any server takes.
    encoded = _UNITEXT.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)
    return b" ORCPT=utf-8;" + encoded.encode("ascii")


_SAFE_ORIGINAL = re.compile(r"[A-Za-z0-9.!#$%&'*/?^_`{|}~@:,-]+\Z")


def _is_text(address: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in address)


def xforward(envelope: Envelope, queue_id: str, offered: frozenset[str]) -> Iterator[bytes]:
    """The one or two XFORWARD commands for what the server wants to know."""
    client = envelope.client
    values = {
        "NAME": client.name if client.name != "unknown" else "",
        "ADDR": f"IPV6:{client.address}" if ":" in client.address else client.address,
        "PORT": client.port,
        "PROTO": client.protocol,
        "HELO": client.helo,
        "IDENT": queue_id,
        "SOURCE": "REMOTE" if client.rewrite_context == "remote" else "LOCAL",
    }
    for names in (("NAME", "ADDR", "PORT"), ("PROTO", "HELO", "IDENT", "SOURCE")):
        words = [f"{name}={xtext_encode(values[name]) or UNAVAILABLE}" for name in names if name in offered]
        if words:
            yield f"XFORWARD {' '.join(words)}\r\n".encode("ascii")
