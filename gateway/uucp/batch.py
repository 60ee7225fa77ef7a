"""Batched SMTP: the commands of a client whom nobody answers (rsmtp, crsmtp …).

``transactions(stream)`` gives each message of a batch: who it is from and for, and its content, which has to be taken
in before the next one is asked for.  HELO, EHLO, NOOP, RSET, QUIT, VRFY, HELP and lines that begin with "#" are passed
over; there is nobody to be told of errors, so a command that is none is passed over, too, and noted.  An address that
cannot be used stands in ``turned_away``.  Data without its final dot raises BadBatch, and so do more recipients than
fit into memory.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.addresses.syntax import AddressError, parse_path
from gateway.smtpd.parameters import (
    BadParameter,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from gateway.smtpd.tokens import tokenize

LONGEST_COMMAND = 8192
BLOCK = 65536

_PASSED_OVER = frozenset(("HELO", "EHLO", "NOOP", "QUIT", "VRFY", "HELP", "EXPN"))
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MOST_RECIPIENTS = 50_000
LONGEST_SHOWN = 1000
"""Characters of what is no address."""
BAD_ADDRESS = "5.1.3 bad address syntax"


class BadBatch(Exception):
    """Nothing more can be made of it."""


@dataclass(slots=True)
class Transaction:
    sender: str
    """"" also for one that cannot be used: there is nobody to be told."""
    parameters: MailParameters
    recipients: list[tuple[str, RcptParameters]] = field(default_factory=list)
    turned_away: list[tuple[str, str]] = field(default_factory=list)
    """Recipient, made printable, and why."""
    content: Iterator[bytes] = iter(())
    """LF line ends, dots undone.  Raises BadBatch."""


def transactions(stream: io.BufferedReader, note: Callable[[str], None]) -> Iterator[Transaction]:
    """``note`` takes a line about what was passed over."""
    current: Transaction | None = None
    while raw := stream.readline(LONGEST_COMMAND):
        line = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
        verb = line[:4].upper()
        if not line.strip() or line.startswith("#") or verb in _PASSED_OVER:
            continue
        if verb == "RSET":
            current = None
        elif verb == "MAIL" and (sender := _path(line, "from:")) is not None:
            current = _mail(sender, line)
        elif verb == "RCPT" and current is not None:
            _rcpt(current, line)
        elif verb == "DATA":
            found, current = current or Transaction("", MailParameters()), None
            found.content = _content(stream)
            if found.recipients or found.turned_away:
                yield found
            else:
                note("a message without a recipient")
            for _ in found.content:  # whoever did not want it
                pass
        else:
            note(f"not understood: {printable(line)[:100]}")


def printable(text: str) -> str:
    return _UNSAFE.sub("?", text)


def _path(line: str, keyword: str) -> str | None:
    words = tokenize(line)
    return words[2].text if len(words) > 2 and words[1].text.lower() == keyword else None


def _mail(path: str, line: str) -> Transaction:
    try:
        sender = parse_path(path, strict=False, allow_empty=True)
    except AddressError:
        sender = ""
    parameters = MailParameters()
    for word in tokenize(line)[3:]:
        try:
            one = mail_parameters([word.text])
        except BadParameter:
            continue
        parameters.encoding = one.encoding or parameters.encoding
        parameters.ret, parameters.envid = one.ret or parameters.ret, one.envid or parameters.envid
        parameters.smtputf8 = one.smtputf8 or parameters.smtputf8
    return Transaction(sender, parameters)


def _rcpt(current: Transaction, line: str) -> None:
    if len(current.recipients) + len(current.turned_away) >= MOST_RECIPIENTS:
        raise BadBatch(f"a message with more than {MOST_RECIPIENTS} recipients")
    path = _path(line, "to:")
    try:
        address = parse_path(path or "", strict=False, allow_empty=False)
    except AddressError:
        address = ""
    if not address or address.startswith("-") or printable(address) != address:
        current.turned_away.append((printable(path if path is not None else line)[:LONGEST_SHOWN], BAD_ADDRESS))
        return
    parameters = RcptParameters()
    for word in tokenize(line)[3:]:
        try:
            one = rcpt_parameters([word.text])
        except BadParameter:
            continue
        parameters.notify, parameters.orcpt = one.notify or parameters.notify, one.orcpt or parameters.orcpt
    current.recipients.append((address, parameters))


def _content(stream: io.BufferedReader) -> Iterator[bytes]:
    """Up to the final dot, in blocks; of lines longer than a block, parts."""
    gathered = bytearray()
    at_start = True
    while line := stream.readline(BLOCK):
        whole = line.endswith(b"\n")
        if at_start and line.startswith(b"."):
            if line in (b".\n", b".\r\n"):
                if gathered:
                    yield bytes(gathered)
                return
            line = line[1:]
        gathered += line[:-2] + b"\n" if line.endswith(b"\r\n") else line
        at_start = whole
        if len(gathered) >= BLOCK:
            yield bytes(gathered)
            gathered.clear()
    raise BadBatch("the batch ends within a message")
