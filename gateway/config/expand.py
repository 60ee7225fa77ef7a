"""The little language of parameter values: $name, ${name?text}, ${{a} == {b} ? {c} : {d}}; postconf(5).

``expand`` takes a text and a function that knows values (None = no such name) and gives the text with everything
replaced.  It raises ExpandError, whose text says where the trouble is.  Values that ``lookup`` returns are taken as
they are: whoever provides it expands them first (and watches for loops).
"""

from __future__ import annotations

import re
from collections.abc import Callable

Lookup = Callable[[str], "str | None"]

_NAME = re.compile(r"[A-Za-z0-9_]*")
_OPERATOR = re.compile(r"(?:==|!=|<=|>=|<|>)(?:level)?(?![<>!=?+\-*/~&|%])")
_SPACE = " \t\r\n"
_DEPTH = 100


class ExpandError(ValueError):
    """The text does not follow the rules."""


def expand(text: str, lookup: Lookup, depth: int = 0) -> str:
    """``text`` with all its expressions replaced; "$$" becomes "$"."""
    if "$" not in text:
        return text
    if depth > _DEPTH:
        raise ExpandError("expressions are nested too deeply")
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        parts.append(text[at:dollar])
        at = dollar + 1
        opening = text[at : at + 1]
        if opening == "$":
            parts.append("$")
            at += 1
        elif opening and opening in "{(":
            end = _closing(text, at)
            if end < 0:
                raise ExpandError(f'truncated macro reference: "{text}"')
            if end == at + 1:
                raise ExpandError(f'empty macro name: "{text}"')
            parts.append(_expression(text[at + 1 : end], lookup, depth))
            at = end + 1
        else:
            match = _NAME.match(text, at)
            if match is None or not match.group():
                raise ExpandError(f'empty macro name: "{text}"')
            parts.append(lookup(match.group()) or "")
            at = match.end()
    parts.append(text[at:])
    return "".join(parts)


def names_in(text: str) -> set[str]:
    """Every name that ``text`` refers to, in both branches of its conditions."""
    found: set[str] = set()
    for match in re.finditer(r"\$\$|\$([A-Za-z0-9_]+)|\$[{(]\s*([A-Za-z0-9_]+)", text):
        name = match.group(1) or match.group(2)
        if name:
            found.add(name)
    return found


def _closing(text: str, at: int) -> int:
    """Where the bracket that opens at ``at`` closes; -1 = nowhere."""
    opening = text[at]
    closing = "}" if opening == "{" else ")"
    level = 0
    for match in re.compile("[" + re.escape(opening + closing) + "]").finditer(text, at):
        level += 1 if match.group() == opening else -1
        if level == 0:
            return match.start()
    return -1


def _expression(text: str, lookup: Lookup, depth: int) -> str:
    """What stands within ${}: a name or a comparison, alone or with "?" and ":" behind it."""
    rest = text.lstrip(_SPACE)
    if rest.startswith("{"):
        truth, rest = _comparison(rest, lookup, depth)
        value: str | None = "true" if truth else ""
        if rest and rest[0] not in "?:":
            raise ExpandError(f'"?" or ":" expected at: "...}}>>>{rest[:20]}"')
    else:
        match = _NAME.match(text)
        assert match is not None
        rest = text[match.end() :]
        if rest and rest[0] not in "?:":
            raise ExpandError(f'attribute name syntax error at: "...{match.group()}>>>{rest[:20]}"')
        value = lookup(match.group())
    if not rest:
        return value or ""
    chosen = None
    if rest[0] == "?":
        yes, rest = _operand(rest[1:])
        if value:
            chosen = yes
        if not rest:
            return expand(chosen, lookup, depth + 1) if chosen is not None else ""
        if rest[0] != ":":
            raise ExpandError(f'":" expected at: "...{yes}}}>>>{rest[:20]}"')
    no, rest = _operand(rest[1:])
    if rest:
        raise ExpandError(f'unexpected input at: "...{no}}}>>>{rest[:20]}"')
    if chosen is None and not value:
        chosen = no
    return expand(chosen, lookup, depth + 1) if chosen is not None else ""


def _operand(text: str) -> tuple[str, str]:
    """The text behind "?" or ":" and what follows it: {…} to its brace, anything else to the end."""
    stripped = text.lstrip(_SPACE)
    return _braced(stripped) if stripped.startswith("{") else (text, "")


def _braced(text: str) -> tuple[str, str]:
    end = _closing(text, 0)
    if end < 0:
        raise ExpandError(f'unbalanced {{}} in attribute expression: "{text}"')
    return text[1:end], text[end + 1 :].lstrip(_SPACE)


def _comparison(text: str, lookup: Lookup, depth: int) -> tuple[bool, str]:
    left, rest = _braced(text)
    match = _OPERATOR.match(rest)
    if match is None:
        raise ExpandError(
            f'"==" or "!=" or "<" or "<=" or ">=" or ">" expected at: "...{left}}}>>>{rest[:20]}"'
        )
    operator = match.group()
    rest = rest[match.end() :].lstrip(_SPACE)
    if not rest.startswith("{"):
        raise ExpandError(f'"{{expression}}" expected at: "...{{{left}}} {operator}>>>{rest[:20]}"')
    right, rest = _braced(rest)
    return _compare(expand(left, lookup, depth + 1), operator, expand(right, lookup, depth + 1)), rest


def _compare(left: str, operator: str, right: str) -> bool:
    """Numbers as numbers, compatibility levels as such (behind "<level" and its like), the rest by letters."""
    order: tuple[object, object]
    if operator.endswith("level"):
        operator = operator[: -len("level")]
        order = (level(left), level(right))
    elif _digits(left) and _digits(right):
        order = (int(left), int(right))
    else:
        order = (left, right)
    a, b = order
    if operator == "==":
        return a == b
    if operator == "!=":
        return a != b
    below: bool = a < b  # type: ignore[operator]
    if operator == "<":
        return below
    if operator == ">=":
        return not below
    return below or a == b if operator == "<=" else not (below or a == b)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def level(text: str) -> tuple[int, int, int]:
    """A compatibility level, "3.6" or "2" or "3.5.9", as numbers that compare."""
    parts = text.split(".")
    if not 1 <= len(parts) <= 3 or not all(_digits(part) for part in parts):
        raise ExpandError(f'malformed compatibility level syntax: "{text}"')
    numbers = [int(part) for part in parts] + [0, 0]
    return numbers[0], numbers[1], numbers[2]
