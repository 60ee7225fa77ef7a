"""A command line as tokens, the way smtpd splits it.

Blanks part tokens, but not within ``<…>``, ``[…]`` and quotes, which may nest; ``FROM:`` and ``TO:`` end at the colon.
A token stands as it was sent: addresses keep their quotes for the address parser.  ``broken`` tells of a bracket or
quote that is never closed.  Linear; any text is some tokens.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANKS = " \t\r\n\x0b\x0c"
_PLAIN = re.compile(r'[^ \t\r\n\x0b\x0c<\["\\:]+')
_IN_QUOTES = re.compile(r'[^"\\]+')
_IN_BRACKETS = re.compile(r'[^"\\<>\[\]]+')
_CLOSING = {"<": ">", "[": "]", '"': '"'}


class Token(NamedTuple):
    text: str
    broken: bool = False


_SIMPLE_PATH = re.compile(r"(MAIL|RCPT) (FROM:|TO:) ?(<[^\s\"\\<>\[\]]*>)\Z", re.IGNORECASE)


def tokenize(line: str) -> list[Token]:
    """[] for a line of blanks."""
    simple = _SIMPLE_PATH.match(line)
    if simple:
        return [Token(text) for text in simple.groups()]
    tokens: list[Token] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _BLANKS:
            at += 1
        if at >= end:
            return tokens
        at, token = _token(line, at)
        tokens.append(token)


def _token(line: str, at: int) -> tuple[int, Token]:
    start, end, broken = at, len(line), False
    while at < end and line[at] not in _BLANKS:
        plain = _PLAIN.match(line, at)
        if plain:
            at = plain.end()
            continue
        character = line[at]
        at += 1
        if character in _CLOSING:
            at, closed = _closed(line, at, _CLOSING[character])
            broken = broken or not closed
        elif character == "\\":
            at = min(at + 1, end)
        elif at - start <= 5 and line[start:at].lower() in ("from:", "to:"):
            break
    return at, Token(line[start:at], broken)


def _closed(line: str, at: int, wanted: str) -> tuple[int, bool]:
    """Where the bracket or quote ends that was just opened, and whether it does."""
    stack: list[str] = []
    end = len(line)
    while at < end:
        plain = (_IN_QUOTES if wanted == '"' else _IN_BRACKETS).match(line, at)
        if plain:
            at = plain.end()
            continue
        character = line[at]
        at += 1
        if character == "\\":
            at = min(at + 1, end)
        elif character == wanted:
            if not stack:
                return at, True
            wanted = stack.pop()
        elif wanted != '"' and character in _CLOSING:
            stack.append(wanted)
            wanted = _CLOSING[character]
    return end, False
