"""Bracket expressions ("[^a-z[:digit:]]") of POSIX and PCRE patterns, as Python's re writes them.

Used by gateway.tables.posix and gateway.tables.perl; regex(7), pcrepattern(3) "SQUARE BRACKETS AND CHARACTER CLASSES".
"""

from __future__ import annotations

import re

CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "word": "a-zA-Z0-9_",
    "xdigit": "0-9A-Fa-f",
}

_NEGATED = {
    "alnum": "\\x00-/:-@\\[-`{-\\U0010ffff",
    "alpha": "\\x00-@\\[-`{-\\U0010ffff",
    "blank": "\\x00-\\x08\\n-\\x1f!-\\U0010ffff",
    "cntrl": " -~\\x80-\\U0010ffff",
    "digit": "\\x00-/:-\\U0010ffff",
    "graph": "\\x00- \\x7f-\\U0010ffff",
    "lower": "\\x00-`{-\\U0010ffff",
    "print": "\\x00-\\x1f\\x7f-\\U0010ffff",
    "punct": "\\x00- 0-9A-Za-z\\x7f-\\U0010ffff",
    "space": "\\x00-\\x08\\x0e-\\x1f!-\\U0010ffff",
    "upper": "\\x00-@\\[-\\U0010ffff",
    "word": "\\x00-/:-@\\[-^`{-\\U0010ffff",
    "xdigit": "\\x00-/:-@G-`g-\\U0010ffff",
}

_NAMED = re.compile(r"\[([:.=])(.*?)\1\]", re.DOTALL)


class PatternError(ValueError):
    """A pattern that cannot be used; the message says why."""


def escape(character: str) -> str:
    """One character, standing for itself inside or outside of brackets."""
    return character if character.isalnum() or character in " _@,;:<>=%'\"/!" else re.escape(character)


def named_class(text: str, at: int, perl: bool) -> tuple[str, int] | None:
    """"[:alpha:]", "[=a=]" or "[.a.]" at that place: what stands for it, and where it ends."""
    match = _NAMED.match(text, at)
    if match is None:
        return None
    kind, name = match.groups()
    if kind == ":":
        negated = perl and name.startswith("^")
        known = (_NEGATED if negated else CLASSES).get(name.removeprefix("^") if negated else name)
        if known is None or (name == "word" and not perl):
            raise PatternError("Invalid character class name")
        return known, match.end()
    if perl or len(name) != 1:
        raise PatternError("Invalid collation character")
    return escape(name), match.end()


def close(items: list[str], negated: bool, newline: bool) -> str:
    """The whole set.  ``newline``: a negated one does not match a line feed either (REG_NEWLINE)."""
    inside = "".join(items)
    if negated and newline:
        inside += "\\n"
    return f"[{'^' if negated else ''}{inside}]"
