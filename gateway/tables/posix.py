"""POSIX regular expressions as Python writes them; regexp_table(5), regex(7), and the GNU additions of glibc.

Whether a string matches is the same; which of several alternatives a group takes may differ, as POSIX takes the
longest and Python the first.  Raises PatternError in glibc's words.
"""

from __future__ import annotations

import re

from gateway.tables.bracket import PatternError, close, escape, named_class

_INTERVAL = re.compile(r"(\d*)(,?)(\d*)")
_GNU = {
    "w": "[a-zA-Z0-9_]", "W": "[^a-zA-Z0-9_]", "s": "\\s", "S": "\\S", "b": "\\b", "B": "\\B",
    "<": "\\b(?=\\w)", ">": "\\b(?<=\\w)", "`": "\\A", "'": "\\Z",
}  # fmt: skip


def compile_posix(pattern: str, *, fold: bool = True, extended: bool = True, newline: bool = False) -> re.Pattern[str]:
    """``newline``: flag m, REG_NEWLINE."""
    flags = re.ASCII if pattern.isascii() else re.NOFLAG
    flags |= (re.IGNORECASE if fold else 0) | (re.MULTILINE if newline else re.DOTALL)
    try:
        return re.compile(_Translator(pattern, extended, newline).translate(), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(str(error)) from None


class _Translator:
    """One pattern on its way.  ``_atom``: where in the output the last thing begins that can be repeated."""

    def __init__(self, pattern: str, extended: bool, newline: bool) -> None:
        self._text, self._extended, self._newline = pattern, extended, newline
        self._at = 0
        self._output: list[str] = []
        self._open: list[int] = []
        self._atom: int | None = None
        self._repeated = False

    def translate(self) -> str:
        while self._at < len(self._text):
            self._next()
        if self._open:
            raise PatternError("Unmatched ( or \\(")
        return "".join(self._output)

    def _next(self) -> None:
        character = self._text[self._at]
        self._at += 1
        operator = character
        escaped = False
        if character == "\\":
            if self._at == len(self._text):
                raise PatternError("Trailing backslash")
            operator = self._text[self._at]
            escaped = True
            self._at += 1
        if operator in "(){}|+?" and escaped != self._extended:
            self._special(operator)
        elif escaped:
            self._escaped(operator)
        elif operator == "[":
            self._put(self._bracket())
        elif operator == "*":
            self._star()
        elif operator == ".":
            self._put(".")
        elif operator == "^" and (self._extended or self._begins()):
            self._anchor("^")
        elif operator == "$" and (self._extended or self._ends()):
            self._anchor("$" if self._newline else "\\Z")
        else:
            self._put(escape(operator))

    def _special(self, operator: str) -> None:
        if operator == "(":
            self._open.append(len(self._output))
            self._output.append("(")
            self._atom = None
        elif operator == ")":
            if not self._open:
                raise PatternError("Unmatched ) or \\)")
            start = self._open.pop()
            self._output.append(")")
            self._atom, self._repeated = start, False
        elif operator == "|":
            self._anchor("|")
        elif operator == "{":
            self._interval()
        elif operator == "}":
            self._put("\\}")
        elif self._atom is None and not self._extended:
            self._put(escape(operator))
        else:
            self._repeat(operator)

    def _escaped(self, character: str) -> None:
        if character in "123456789":
            self._put(f"(?:\\{character})")
        elif character in "<>bB`'":
            self._anchor(_GNU[character])
        else:
            self._put(_GNU.get(character) or escape(character))

    def _star(self) -> None:
        if not self._extended and self._atom is None:
            self._put("\\*")
        else:
            self._repeat("*")

    def _interval(self) -> None:
        match = _INTERVAL.match(self._text, self._at)
        assert match is not None
        end = "}" if self._extended else "\\}"
        low, comma, high = match.groups()
        if not self._text.startswith(end, match.end()) or not (low or comma):
            if not self._extended:
                raise PatternError("Invalid content of \\{\\}")
            self._put("\\{")
            return
        self._at = match.end() + len(end)
        if high and int(high) < int(low or 0) or max(int(low or 0), int(high or 0)) > 32767:
            raise PatternError("Invalid content of \\{\\}")
        self._repeat(f"{{{low or 0}{comma}{high}}}")

    def _repeat(self, operator: str) -> None:
        if self._atom is None:
            raise PatternError("Invalid preceding regular expression")
        if self._repeated:
            # "a+?" is no lazy quantifier here, but a quantified "a+".
            self._output.insert(self._atom, "(?:")
            self._output.append(")")
        self._output.append(operator)
        self._repeated = True

    def _put(self, text: str) -> None:
        self._atom, self._repeated = len(self._output), False
        self._output.append(text)

    def _anchor(self, text: str) -> None:
        self._atom = None
        self._output.append(text)

    def _begins(self) -> bool:
        before = self._text[: self._at - 1]
        return not before or before.endswith(("\\(", "\\|"))

    def _ends(self) -> bool:
        return self._at == len(self._text) or self._text.startswith(("\\)", "\\|"), self._at)

    def _bracket(self) -> str:
        text, at = self._text, self._at
        negated = text.startswith("^", at)
        at += negated
        items: list[str] = []
        first = True
        while first or not text.startswith("]", at):
            if at >= len(text):
                raise PatternError("Unmatched [, [^, [:, [., or [=")
            first = False
            named = named_class(text, at, perl=False)
            if named is not None:
                items.append(named[0])
                at = named[1]
            elif text[at + 1 : at + 2] == "-" and text[at + 2 : at + 3] not in ("]", ""):
                if text[at + 2] < text[at]:
                    raise PatternError("Invalid range end")
                items.append(f"{escape(text[at])}-{escape(text[at + 2])}")
                at += 3
            else:
                items.append(escape(text[at]))
                at += 1
        self._at = at + 1
        return close(items, negated, self._newline)
