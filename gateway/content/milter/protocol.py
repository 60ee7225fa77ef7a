"""The packets of the Sendmail milter protocol, versions 2 to 6: what is in them, and nothing else.

A packet is a 32-bit length, a command byte, and data.  Texts end with a zero byte, so that none may hold one.
Decoding raises ValueError for what is none.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

LONGEST = (1 << 30) - 1
"""Of a packet that a milter sends."""
CHUNK = 65535
"""Of the body, in one packet."""

# Commands to the milter.
ABORT, BODY, CONNECT, MACROS, END = b"A", b"B", b"C", b"D", b"E"
HELO, HEADER, MAIL, END_OF_HEADER, NEGOTIATE, QUIT, RCPT, DATA, UNKNOWN = (
    b"H", b"L", b"M", b"N", b"O", b"Q", b"R", b"T", b"U",
)  # fmt: skip

NAMES = {
    ABORT: "ABORT", BODY: "BODY", CONNECT: "CONNECT", MACROS: "MACRO", END: "BODYEOB", HELO: "HELO",
    HEADER: "HEADER", MAIL: "MAIL", END_OF_HEADER: "EOH", NEGOTIATE: "OPTNEG", QUIT: "QUIT", RCPT: "RCPT",
    DATA: "DATA", UNKNOWN: "UNKNOWN",
}  # fmt: skip
"""As log lines have them, behind "SMFIC_"."""

# Answers that end the wait for one.  Beside these there is "f", connection failure, which nothing is known to send.
CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, REPLY, SKIP, SHUTDOWN = (
    b"c", b"a", b"r", b"t", b"d", b"y", b"s", b"4",
)  # fmt: skip
# Answers before the last one.
PROGRESS = b"p"
ADD_HEADER, INSERT_HEADER, CHANGE_HEADER, REPLACE_BODY = b"h", b"i", b"m", b"b"
ADD_RECIPIENT, ADD_RECIPIENT_WITH, DELETE_RECIPIENT, CHANGE_SENDER, QUARANTINE = b"+", b"2", b"-", b"e", b"q"
MODIFICATIONS = frozenset((
    ADD_HEADER, INSERT_HEADER, CHANGE_HEADER, REPLACE_BODY, ADD_RECIPIENT, ADD_RECIPIENT_WITH, DELETE_RECIPIENT,
    CHANGE_SENDER, QUARANTINE,
))  # fmt: skip

ANSWER_NAMES = {
    CONTINUE: "CONTINUE", ACCEPT: "ACCEPT", REJECT: "REJECT", TEMPFAIL: "TEMPFAIL", DISCARD: "DISCARD",
    REPLY: "REPLYCODE", SKIP: "SKIP", b"f": "CONN_FAIL", SHUTDOWN: "SHUTDOWN", PROGRESS: "PROGRESS",
    ADD_HEADER: "ADDHEADER", INSERT_HEADER: "INSHEADER", CHANGE_HEADER: "CHGHEADER", REPLACE_BODY: "REPLBODY",
    ADD_RECIPIENT: "ADDRCPT", ADD_RECIPIENT_WITH: "ADDRCPT_PAR", DELETE_RECIPIENT: "DELRCPT",
    CHANGE_SENDER: "CHGFROM", QUARANTINE: "QUARANTINE", NEGOTIATE: "OPTNEG",
}  # fmt: skip
"""As log lines have them, behind "SMFIR_"."""

ACTIONS = 0x1FF
"""All that a milter may ask to do."""
# What a milter may ask to be spared.
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_END_OF_HEADER = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
NO_UNKNOWN, NO_DATA = 0x100, 0x200
MAY_SKIP, WANTS_REJECTED, LEADING_SPACE = 0x400, 0x800, 0x100000
SILENT = {
    HEADER: 0x80, CONNECT: 0x1000, HELO: 0x2000, MAIL: 0x4000, RCPT: 0x8000, DATA: 0x10000, UNKNOWN: 0x20000,
    END_OF_HEADER: 0x40000, BODY: 0x80000,
}  # fmt: skip
"""… to be told of, but not to be asked about."""
SPARED = {
    CONNECT: NO_CONNECT, HELO: NO_HELO, MAIL: NO_MAIL, RCPT: NO_RCPT, BODY: NO_BODY, HEADER: NO_HEADERS,
    END_OF_HEADER: NO_END_OF_HEADER, UNKNOWN: NO_UNKNOWN, DATA: NO_DATA,
}  # fmt: skip

OFFERED = {2: 0x7F, 3: 0x17F, 4: 0x37F, 6: 0x1FFFFF}
"""Protocol options by version."""

STAGES = (CONNECT, HELO, MAIL, RCPT, DATA, END, END_OF_HEADER)
"""In the order of the numbers by which a milter asks for macros."""


class Agreed(NamedTuple):
    """What negotiation came to."""

    version: int
    actions: int
    options: int
    macros: Mapping[bytes, tuple[str, ...]]
    """By command: the macros that this milter wants instead of the configured ones."""


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def text(value: str | bytes) -> bytes:
    """A text with its final zero byte."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return raw.replace(b"\0", b"") + b"\0"


def texts(data: bytes) -> list[bytes]:
    """The texts in a packet."""
    return data.removesuffix(b"\0").split(b"\0")


def macros(command: bytes, values: Mapping[str, str]) -> bytes:
    """The packet that goes before ``command``."""
    return packet(MACROS, command + b"".join([text(part) for pair in values.items() for part in pair]))


def offer(version: int) -> bytes:
    return packet(NEGOTIATE, struct.pack("!III", version, ACTIONS, OFFERED[version]))


def agreement(data: bytes, version: int) -> Agreed:
    """What the milter has made of our offer."""
    if len(data) < 12:
        raise ValueError("unexpected length of the reply to negotiation")
    theirs, actions, options = struct.unpack("!III", data[:12])
    if theirs > version:
        raise ValueError(f"protocol version {theirs} conflict with MTA protocol version {version}")
    if theirs < 4:  # It has not heard of DATA, and perhaps not of unknown commands.
        options |= NO_DATA | (NO_UNKNOWN if theirs < 3 else 0)
    wanted: dict[bytes, tuple[str, ...]] = {}
    at = 12
    while at + 4 < len(data):
        (stage,) = struct.unpack("!I", data[at : at + 4])
        names, end, _ = data[at + 4 :].partition(b"\0")
        if not end or stage >= len(STAGES):
            raise ValueError("malformed list of macros")
        wanted[STAGES[stage]] = tuple(names.decode("ascii", "replace").replace(",", " ").split())
        at += 5 + len(names)
    return Agreed(theirs, actions, options, wanted)


def connect(name: str, address: str, port: int) -> bytes:
    """The data of CONNECT; no ``address``: one of no network."""
    if not address:
        return text(name) + b"U"
    six = ":" in address
    return text(name) + struct.pack("!cH", b"6" if six else b"4", port) + text(f"IPv6:{address}" if six else address)


def number_and_texts(data: bytes) -> tuple[int, bytes, bytes]:
    """INSERT_HEADER, CHANGE_HEADER: index, name, value."""
    if len(data) < 4:
        raise ValueError("packet too short")
    name, value = two_texts(data[4:])
    return struct.unpack("!I", data[:4])[0], name, value


def two_texts(data: bytes) -> tuple[bytes, bytes]:
    parts = texts(data)
    if len(parts) < 2:
        raise ValueError("packet too short")
    return parts[0], parts[1]
