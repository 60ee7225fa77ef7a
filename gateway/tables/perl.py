"""Perl-compatible patterns as Python's re writes them; pcre_table(5), pcrepattern(3).

What re has no counterpart for (recursion, \\K, branch reset, backtracking verbs, callouts, \\p{…}) is refused by
PatternError, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.tables.bracket import PatternError, close, escape, named_class


@dataclass(slots=True)
class PerlFlags:
    """The flags of pcre_table(5), in their default state."""

    caseless: bool = True
    multiline: bool = False
    dotall: bool = True
    extended: bool = False
    anchored: bool = False
    dollar_endonly: bool = False
    ungreedy: bool = False


_ESCAPES = {
    "A": "\\A", "Z": "(?=\\n?\\Z)", "z": "\\Z", "b": "\\b", "B": "\\B",
    "d": "\\d", "D": "\\D", "w": "\\w", "W": "\\W", "s": "\\s", "S": "\\S",
    "h": "[ \\t\\xa0]", "H": "[^ \\t\\xa0]", "N": "[^\\n]", "R": "(?:\\r\\n|[\\n-\\r\\x85\\u2028\\u2029])",
    "v": "[\\n-\\r\\x85\\u2028\\u2029]", "V": "[^\\n-\\r\\x85\\u2028\\u2029]",
    "a": "\\x07", "e": "\\x1b", "f": "\\f", "n": "\\n", "r": "\\r", "t": "\\t",
}  # fmt: skip
_IN_BRACKETS = {
    "b": "\\x08", "d": "\\d", "D": "\\D", "w": "\\w", "W": "\\W", "s": "\\s", "S": "\\S", "h": " \\t\\xa0",
    "v": "\\n-\\r\\x85\\u2028\\u2029", "a": "\\x07", "e": "\\x1b", "f": "\\f", "n": "\\n", "r": "\\r", "t": "\\t",
}  # fmt: skip
_SETS = frozenset("dDwWsShv")

_HEX = re.compile(r"x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{0,2}))")
_OCTAL = re.compile(r"o\{([0-7]{1,7})\}|(0[0-7]{0,2})")
_REFERENCE = re.compile(r"g\{?(-?\d+)\}?|([1-9]\d*)")
_NAMED_REFERENCE = re.compile(r"[kg](?:\{(\w+)\}|<(\w+)>|'(\w+)')|\(\?P=(\w+)\)")
_NAMED_GROUP = re.compile(r"\(\?P?(?:<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')")
_OPTIONS = re.compile(r"\(\?([imsx]*)(?:-([imsx]+))?([:)])")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_GROUP = re.compile(r"\(\?(?::|=|!|<=|<!|>)")
_CONDITION = re.compile(r"\(\?\((?:(\d+)|<(\w+)>|'(\w+)'|(\w+))\)")
_QUANTIFIER = re.compile(r"([*+?]|\{\d+(?:,\d*)?\})([+?]?)")


_AS_PCRE_SAYS: tuple[tuple[str, str, int], ...] = (
    ("multiple repeat", "quantifier does not follow a repeatable item", 0),
    ("nothing to repeat", "quantifier does not follow a repeatable item", 0),
    ("bad character range", "range out of order in character class", 2),
)
"""What re says, what PCRE does, and how much farther its offset is."""


def compile_perl(pattern: str, flags: PerlFlags) -> re.Pattern[str]:
    """Raises PatternError."""
    options = re.ASCII if pattern.isascii() else re.NOFLAG
    for on, option in (
        (flags.caseless, re.IGNORECASE), (flags.multiline, re.MULTILINE), (flags.dotall, re.DOTALL),
    ):  # fmt: skip
        options |= option if on else 0
    try:
        translated = _Translator(pattern, flags).translate()
        return re.compile(f"\\A(?:{translated})" if flags.anchored else translated, options)
    except re.error as error:
        known = ((said, more) for start, said, more in _AS_PCRE_SAYS if error.msg.startswith(start))
        what, further = next(known, (error.msg, 0))
        raise PatternError(f"error in regex at offset {(error.pos or 0) + further}: {what}") from None
    except (OverflowError, RecursionError) as error:
        raise PatternError(f"error in regex: {error}") from None


class _Translator:
    """One pattern on its way.  White space and comments of extended patterns are taken out here, as (?x) may
    begin anywhere."""

    def __init__(self, pattern: str, flags: PerlFlags) -> None:
        self._text, self._flags = pattern, flags
        self._at = 0
        self._groups = 0
        self._extended = flags.extended
        self._dollar = "\\Z" if flags.dollar_endonly and not flags.multiline else "$"
        self._output: list[str] = []
        self._open: list[bool] = []
        """Of each open group: the extended flag outside of it."""
        self._options: list[list[str]] = [[]]
        """Of each level, the outermost first: groups that stand for options such as (?i) in the middle of it."""

    def translate(self) -> str:
        while self._at < len(self._text):
            self._next(self._text[self._at])
        if self._open:
            raise PatternError(f"error in regex at offset {len(self._text)}: missing closing parenthesis")
        return "".join(self._output) + ")" * len(self._options[0])

    def _next(self, character: str) -> None:
        text = self._text
        if character == "\\":
            self._escape()
        elif character == "[":
            self._output.append(self._bracket())
        elif character == "(":
            self._group()
        elif character == ")":
            if not self._open:
                raise PatternError(f"error in regex at offset {self._at}: unmatched closing parenthesis")
            self._extended = self._open.pop()
            self._output.append(")" * (1 + len(self._options.pop())))
            self._at += 1
        elif self._extended and (character.isspace() or character == "#"):
            end = text.find("\n", self._at) if character == "#" else self._at
            self._at = len(text) if end < 0 else end + 1
        elif match := _QUANTIFIER.match(text, self._at):
            self._quantifier(match.group(1), match.group(2))
            self._at = match.end()
        elif character == "|":
            self._alternative()
        else:
            special = {"$": self._dollar, ".": ".", "^": "^"}
            self._output.append(special.get(character) or escape(character))
            self._at += 1

    def _alternative(self) -> None:
        # "(?i)a|b": the option goes on after the bar, but the group that stands for it must not hold the bar.
        options = self._options[-1]
        self._output.append(")" * len(options) + "|" + "".join(options))
        self._at += 1

    def _quantifier(self, operator: str, suffix: str) -> None:
        if self._flags.ungreedy and suffix != "+":
            suffix = "" if suffix == "?" else "?"
        self._output.append(operator + suffix)

    def _group(self) -> None:
        text, at = self._text, self._at
        if match := _COMMENT.match(text, at):
            pass
        elif match := _NAMED_REFERENCE.match(text, at):
            self._output.append(f"(?P={match.group(4)})")
        elif match := _OPTIONS.match(text, at):
            self._option(*match.groups())
        elif match := _NAMED_GROUP.match(text, at):
            self._enter(f"(?P<{match.group(1) or match.group(2)}>")
            self._groups += 1
        elif match := _CONDITION.match(text, at):
            self._enter(f"(?({next(filter(None, match.groups()))})")
        elif match := _GROUP.match(text, at):
            self._enter(match.group())
        elif text.startswith(("(?", "(*"), at):
            raise PatternError(f'error in regex at offset {at}: "{text[at : at + 4]}" is not supported')
        else:
            self._groups += 1
            self._enter("(")
            self._at += 1
            return
        self._at = match.end()

    def _enter(self, opening: str) -> None:
        self._open.append(self._extended)
        self._options.append([])
        self._output.append(opening)

    def _option(self, on: str, off: str | None, end: str) -> None:
        off = off or ""
        plain_on, plain_off = on.replace("x", ""), off.replace("x", "")
        group = f"(?{plain_on}{'-' + plain_off if plain_off else ''}:"
        if end == ":":
            self._enter(group)
        elif plain_on or plain_off:
            self._output.append(group)
            self._options[-1].append(group)
        if "x" in on:
            self._extended = True
        elif "x" in off:
            self._extended = False

    def _escape(self) -> None:
        text, at = self._text, self._at + 1
        if at >= len(text):
            raise PatternError(f"error in regex at offset {at}: \\ at end of pattern")
        character = text[at]
        self._at = at + 1
        if character == "Q":
            end = text.find("\\E", at + 1)
            literal = text[at + 1 :] if end < 0 else text[at + 1 : end]
            self._at = len(text) if end < 0 else end + 2
            self._output.append("".join(map(escape, literal)))
        elif character == "E":
            pass
        elif match := _NAMED_REFERENCE.match(text, at):
            name = next(filter(None, match.groups()))
            if name.isdigit():
                self._refer(int(name))
            else:
                self._output.append(f"(?P={name})")
            self._at = match.end()
        elif match := _REFERENCE.match(text, at):
            number = int(match.group(1) or match.group(2))
            self._refer(number if number > 0 else self._groups + 1 + number)
            self._at = match.end()
        elif character in _ESCAPES:
            self._output.append(_ESCAPES[character])
        else:
            self._output.append(escape(self._character(at)))

    def _refer(self, number: int) -> None:
        self._output.append(f"(?:\\{number})")

    def _character(self, at: int) -> str:
        """The single character that the escape at that place stands for; ``_at`` moves behind it."""
        text = self._text
        character = text[at]
        if match := _HEX.match(text, at):
            self._at = match.end()
            return self._chr(int(match.group(1) or match.group(2) or "0", 16))
        if match := _OCTAL.match(text, at):
            self._at = match.end()
            return self._chr(int(match.group(1) or match.group(2), 8))
        if character == "c" and at + 1 < len(text):
            self._at = at + 2
            return self._chr(ord(text[at + 1].upper()) ^ 0x40)
        if character.isascii() and character.isalnum():
            raise PatternError(f"error in regex at offset {at + 1}: unrecognized character follows \\")
        return character

    def _chr(self, code: int) -> str:
        if code > 0x10FFFF:
            raise PatternError("error in regex: character code point value in \\x{} or \\o{} is too large")
        return chr(code)

    def _bracket(self) -> str:
        text = self._text
        self._at += 1
        negated = text.startswith("^", self._at)
        self._at += negated
        items: list[str] = []
        first = True
        while first or not text.startswith("]", self._at):
            first = False
            low, is_set = self._member()
            ends = text[self._at + 1 : self._at + 2]
            if not is_set and text[self._at : self._at + 1] == "-" and ends not in ("]", ""):
                self._at += 1
                high, is_set = self._member()
                items.append(f"{low}\\-{high}" if is_set else f"{low}-{high}")
            else:
                items.append(low)
        self._at += 1
        return close(items, negated, newline=False)

    def _member(self) -> tuple[str, bool]:
        """The next member of a bracket expression, and whether it is a set of characters."""
        text, at = self._text, self._at
        if at >= len(text):
            raise PatternError(f"error in regex at offset {at}: missing terminating ] for character class")
        named = named_class(text, at, perl=True)
        if named is not None:
            self._at = named[1]
            return named[0], True
        if text[at] != "\\" or at + 1 >= len(text):
            self._at = at + 1
            return escape(text[at]), False
        character = text[at + 1]
        self._at = at + 2
        if character in _IN_BRACKETS:
            return _IN_BRACKETS[character], character in _SETS
        if character in "1234567":
            raise PatternError(f"error in regex at offset {at}: write \\0 or \\x{{}} for a character's code")
        return escape(self._character(at + 1)), False
