"""What must be in a key for a pattern to match, read from the pattern's parse tree: texts that each match contains, and
the letters that the key begins with.

To look for a text in a key takes a tenth of the time that it takes to begin a match, and most patterns of a table match
nothing.  Only ASCII counts, and only in keys of ASCII: there, upper and lower case are what they seem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any


@lru_cache(maxsize=4096)
def required(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """The texts; in lower case if the pattern ignores case."""
    try:
        found = [run for run in _runs(list(_parser.parse(pattern.pattern, pattern.flags))) if run]
    except RecursionError:
        return ()
    if pattern.flags & re.IGNORECASE:
        found = [run.lower() for run in found]
    return tuple(dict.fromkeys(found))


def _runs(tree: Sequence[Any]) -> Iterator[str]:
    """Letters that follow each other; nothing of what may be left out."""
    run = ""
    for op, argument in tree:
        if op is ops.LITERAL and argument < 128:
            run += chr(argument)
            continue
        yield run
        run = ""
        if op is ops.SUBPATTERN and not argument[1] and not argument[2]:
            yield from _runs(argument[3])
        elif op is ops.ATOMIC_GROUP:
            yield from _runs(argument)
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT) and argument[0] > 0:
            yield from _runs(argument[2])
    yield run


HEAD = 3
"""Letters of a key that are looked at."""
_MOST_HEADS = 64


@lru_cache(maxsize=4096)
def heads(pattern: re.Pattern[str]) -> frozenset[str] | None:
    """What a key begins with that the pattern matches, in lower case and up to HEAD letters; None: with anything."""
    tree = list(_parser.parse(pattern.pattern, pattern.flags))
    if pattern.flags & re.MULTILINE or tree[:1] not in (_AT_BEGINNING, _AT_BEGINNING_OF_TEXT):
        return None
    try:
        found = frozenset(text[:HEAD].lower() for text, _ in _heads(tree[1:]))
    except RecursionError:
        return None
    return None if "" in found else found


_AT_BEGINNING, _AT_BEGINNING_OF_TEXT = [(ops.AT, ops.AT_BEGINNING)], [(ops.AT, ops.AT_BEGINNING_STRING)]


def _heads(tree: Sequence[Any]) -> list[tuple[str, bool]]:
    """Texts that it may begin with, each with whether it is known how it goes on."""
    found = [("", True)]
    for op, argument in tree:
        if op is ops.LITERAL and argument < 128:
            more = [(chr(argument), True)]
        elif op is ops.IN and all(kind is ops.LITERAL and code < 128 for kind, code in argument):
            more = [(chr(code), True) for _, code in argument]
        elif op is ops.SUBPATTERN and not argument[1] and not argument[2]:
            more = _heads(argument[3])
        elif op is ops.BRANCH:
            more = [head for branch in argument[1] for head in _heads(branch)]
        else:
            more = [("", False)]
        found = [
            head for text, known in found
            for head in ([(text + then, on) for then, on in more] if known and len(text) < HEAD else [(text, known)])
        ]  # fmt: skip
        if len(found) > _MOST_HEADS:
            return [("", False)]
    return found
