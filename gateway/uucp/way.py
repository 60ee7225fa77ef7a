"""The lines on top of a message that tell its way through UUCP; RFC 976.

The last site comes first:

    From alice Thu Jan  1 12:00:00 2026 remote from alpha
    >From alice Thu Jan  1 11:00:00 2026 remote from gamma

which makes the sender alpha!gamma!alice.  If the innermost address has a domain it is the sender by itself.  A line
without "remote from" is from the neighbour that called.  MAILER-DAEMON and <> are the empty sender, or a bounce of a
bounce would go round.
"""

from __future__ import annotations

import io
import re

from gateway.addresses import tokens

LONGEST_LINE = 16384

# The address may have a quoted part with blanks in it.
_FROM_LINE = re.compile(rb'>?From[ \t]++((?>(?:"(?:[^"\\\n]|\\[^\n]){0,500}"|\S)+))([^\n]*+)\n')
_REMOTE = re.compile(rb"[ \t]remote from[ \t]+(\S+)[ \t\r]*\Z")
_SITE = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*\Z")
_NO_ONE = ("<>", "mailer-daemon", "<mailer-daemon>")


class BadInput(Exception):
    """The message says nothing usable of where it is from."""


def addresses(text: str) -> list[str]:
    """The addresses of a list, in external form."""
    return [node.external() for node in tokens.parse(text) if isinstance(node, tokens.Address)]


def site_name(text: str) -> str:
    """The name of a UUCP site as it may stand in logs and addresses; "" if it is none."""
    return text if _SITE.match(text) and len(text) <= 255 else ""


def split_way(stream: io.BufferedReader, longest: int) -> tuple[list[tuple[str, str]], bytes]:
    """The (address, site) of each line on top, site "" if it names none, and what was read of the message behind them.
    Raises BadInput if there are more than ``longest``: it goes round."""
    way: list[tuple[str, str]] = []
    while match := _FROM_LINE.fullmatch(line := stream.readline(LONGEST_LINE)):
        site = _REMOTE.search(match[2])
        way.append((_text(match[1]), _text(site[1]) if site else ""))
        if len(way) > longest:
            raise BadInput(f"too many hops: more than {longest} From lines")
    return way, line


def sender_of(way: list[tuple[str, str]], neighbour: str) -> str:
    """The envelope sender.  Raises BadInput."""
    if not way:
        raise BadInput("missing or empty From line")
    innermost = way[-1][0]
    if innermost.lower() in _NO_ONE:
        return ""
    sites = [site for _, site in way if site] or ([neighbour] if neighbour else [])
    for site in sites:
        if not site_name(site):
            raise BadInput(f"bad site name in From line: {site!r}")
    found = addresses(innermost.rpartition("!")[2] if "@" in innermost else innermost)
    if len(found) != 1 or found[0].startswith("-") or not found[0].isprintable():
        raise BadInput(f"bad address in From line: {innermost!r}")
    if "@" in found[0]:
        return found[0]
    return "!".join([*sites, found[0]])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
