"""Header fields that cleanup(8) adds when they are missing: Message-Id, Date, From, To; RFC 5322 3.6, 3.6.6.

Fields of a message that was sent again (it has a Resent- field) get the prefix "Resent-".
"""

from __future__ import annotations

import base64
import re
import time

from gateway.content.dates import mail_date
from spool.envelope import Envelope

MAILER_DAEMON = "MAILER-DAEMON"

_PHRASE_NEEDS_QUOTES = re.compile(r'[%!()<>@,;:\\".\[\]]')
_TO_ESCAPE = re.compile(r'(["\\])')
_COMMENT_TO_ESCAPE = re.compile(r"([()\\])")
_WORD_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def message_id(queue_id: str, moment: float, host: str) -> str:
    """<YYYYMMDDhhmmss.QUEUEID@HOST>, the time in UTC."""
    return f"<{time.strftime('%Y%m%d%H%M%S', time.gmtime(moment))}.{queue_id}@{host}>"


def from_value(envelope: Envelope, style: str, charset: str) -> str:
    """The value of a From field for the envelope sender; ``style`` is header_from_format, ``charset``
    full_name_encoding_charset: a name that is not ASCII is encoded as being in that; "" = it is left as it is.

    An envelope address may hold a quoted local part, which is valid in a header as it is (RFC 5322 3.4.1).
    """
    if not envelope.sender:
        return MAILER_DAEMON
    address = envelope.sender
    name = _CONTROLS.sub(" ", envelope.full_name).strip()
    if not name:
        return address
    if charset and not name.isascii():
        name = encoded_words(name, charset)
    elif style != "obsolete" and _PHRASE_NEEDS_QUOTES.search(name):
        name = f'"{_TO_ESCAPE.sub(_backslash, name)}"'
    if style == "obsolete":
        return f"{address} ({name if _is_comment(name) else _COMMENT_TO_ESCAPE.sub(_backslash, name)})"
    return f"{name} <{address}>"


def encoded_words(text: str, charset: str) -> str:
    """RFC 2047: quoted-printable if the text is mostly ASCII, else base64; no word longer than 75 characters."""
    mostly_ascii = sum(map(str.isascii, text)) * 2 >= len(text)
    kind, encode = ("Q", _quoted_word) if mostly_ascii else ("B", _base64_word)
    room = 75 - len(f"=?{charset}?Q??=")
    words: list[str] = []
    waiting = ""
    for character in text:
        if waiting and len(encode(waiting + character)) > room:
            words.append(waiting)
            waiting = ""
        waiting += character
    return " ".join(f"=?{charset}?{kind}?{encode(word)}?=" for word in [*words, waiting])


def _quoted_word(text: str) -> str:
    return "".join(
        "_" if byte == 0x20 else chr(byte) if chr(byte) in _WORD_LETTERS else f"={byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def _base64_word(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _is_comment(text: str) -> bool:
    """Whether it can stand between parentheses as it is (RFC 5322 3.2.2)."""
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0 or character == "\\":
            return False
    return depth == 0


def _backslash(match: re.Match[str]) -> str:
    return "\\" + match[1]


def is_resent(seen: set[bytes]) -> bool:
    """Whether the message was sent again: it has a Resent- field."""
    return b"\nresent-" in b"\n" + b"\n".join(seen)


def missing_fields(
    seen: set[bytes], envelope: Envelope, queue_id: str, *, host: str, style: str, charset: str, no_recipient: str
) -> tuple[list[bytes], str]:
    """The fields to put behind a header that has the fields ``seen`` (lower case), and the message ID made, or "".

    ``style``, ``charset``: see from_value; ``no_recipient`` is undisclosed_recipients_header.
    """
    resent = is_resent(seen)
    prefix, lower = ("Resent-", b"resent-") if resent else ("", b"")
    lines: list[str] = []
    made = ""
    if lower + b"message-id" not in seen:
        made = message_id(queue_id, envelope.arrival, host)
        lines.append(f"{prefix}Message-Id: {made}")
    if lower + b"date" not in seen:
        lines.append(f"{prefix}Date: {mail_date(envelope.arrival)}")
    if lower + b"from" not in seen:
        lines.append(f"{prefix}From: {from_value(envelope, style, charset)}")
    if no_recipient and seen.isdisjoint((b"to", b"cc", b"resent-to", b"resent-cc")):
        lines.append(no_recipient)
    return [line.encode("utf-8", "surrogateescape") + b"\n" for line in lines], made
