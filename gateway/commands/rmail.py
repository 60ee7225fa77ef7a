"""rmail: mail that comes in by UUCP; `rmail user…`, the message on standard input, run by uuxqt.

The message begins with lines that tell its way, the last site first:

    From alice Thu Jan  1 12:00:00 2026 remote from alpha
    >From alice Thu Jan  1 11:00:00 2026 remote from gamma

which makes the sender alpha!gamma!alice.  If the innermost address has a domain it is the sender by itself.  A line
without "remote from" is from the neighbour that called, which uuxqt names in $UU_MACHINE.  MAILER-DAEMON and <> are
the empty sender, or a bounce of a bounce would go round.

Exit status, whatever standard input is: 0 queued, 64 bad arguments, 65 no "From " line or a bad one, 69 too large,
and 75 for all trouble on this side, which makes uuxqt try again later.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.commands.sendmail import Fatal, addresses, read_content, submit
from gateway.config.builtin import load_configuration
from gateway.content.submission import Submission

SUMMARY = "take mail from a UUCP neighbour (run by uuxqt)"

EX_USAGE, EX_DATAERR, EX_TEMPFAIL = 64, 65, 75

USAGE = "usage: rmail [-T] [-D domain] user ..."

_FROM_LINE = re.compile(rb">?From[ \t]+(\S+)([^\n]*)\n")
_REMOTE = re.compile(rb"[ \t]remote from[ \t]+(\S+)[ \t\r]*\Z")
_SITE = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*\Z")
_LONGEST_WAY = 1000
_NO_ONE = ("<>", "mailer-daemon", "<mailer-daemon>")


class BadInput(Exception):
    """The message says nothing usable of where it is from."""


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        recipients = _recipients(arguments)
    except ValueError as error:
        print(f"rmail: {error}", file=sys.stderr)
        return EX_USAGE
    try:
        content = read_content(sys.stdin.buffer, dot_ends=False, keep_mailbox_lines=True)
        way, rest = split_way(content)
        sender = sender_of(way, os.environ.get("UU_MACHINE", ""))
        settings = load_configuration(directory).settings
        submit(settings, Submission(sender, recipients, remote=True), rest)
        return 0
    except BadInput as error:
        print(f"rmail: {error}", file=sys.stderr)
        return EX_DATAERR
    except Fatal as error:
        print(f"rmail: {error}", file=sys.stderr)
        return error.status
    except Exception as error:
        # Another status would put the mail aside for ever, where its sender does not hear of it.
        print(f"rmail: will be tried again: {type(error).__name__}: {error}", file=sys.stderr)
        return EX_TEMPFAIL


def _recipients(arguments: list[str]) -> list[str]:
    rest = list(arguments)
    while rest and rest[0] in ("-T", "-D"):
        if rest.pop(0) == "-D" and rest:
            rest.pop(0)
    if rest[:1] == ["--"]:
        rest.pop(0)
    for word in rest:
        if word.startswith("-"):
            raise ValueError(f"dash precedes argument: {word}")
    found = [address for word in rest for address in addresses(word)]
    if not found or any(address.startswith("-") for address in found):
        raise ValueError(USAGE)
    return found


def split_way(content: Iterator[bytes]) -> tuple[list[tuple[str, str]], Iterator[bytes]]:
    """The (address, site) of each line on top, site "" if it names none, and the message behind them."""
    way: list[tuple[str, str]] = []
    for block in content:
        start = 0
        while match := _FROM_LINE.match(block, start):
            site = _REMOTE.search(match[2])
            way.append((_text(match[1]), _text(site[1]) if site else ""))
            start = match.end()
            if len(way) > _LONGEST_WAY:
                raise BadInput("too many From lines")
        if start < len(block):
            return way, itertools.chain([block[start:]], content)
    return way, iter([])


def sender_of(way: list[tuple[str, str]], neighbour: str) -> str:
    """The envelope sender.  Raises BadInput."""
    if not way:
        raise BadInput("missing or empty From line")
    innermost = way[-1][0]
    if innermost.lower() in _NO_ONE:
        return ""
    sites = [site for _, site in way if site] or ([neighbour] if neighbour else [])
    for site in sites:
        if not _SITE.match(site):
            raise BadInput(f"bad site name in From line: {site!r}")
    found = addresses(innermost.rpartition("!")[2] if "@" in innermost else innermost)
    if len(found) != 1 or found[0].startswith("-"):
        raise BadInput(f"bad address in From line: {innermost!r}")
    if "@" in found[0]:
        return found[0]
    return "!".join([*sites, found[0]])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
