"""regexp: and pcre: tables; regexp_table(5), pcre_table(5).

``/pattern/flags result``, ``!/pattern/flags result``, ``if /pattern/ … endif``; the first rule that matches counts;
``$1 ${1} $(1)`` take in what a group matched and ``$$`` is a dollar sign.  A rule that cannot be used is left out and
reported with its line, in Postfix's words.  Keys are cut at header_size_limit, the longest that Postfix asks for.

A pattern of nothing but ASCII sees the key's bytes, as Postfix's do: "[\\x80-\\xff]" is a part of any other letter.

A key for which the patterns might take too long (gateway.tables.effort) is tried in another process, with a time limit
(gateway.tables.matcher); where no reactor runs, in commands, it is tried here.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.interfaces import TableError
from gateway.tables.base import Environment, Spec
from gateway.tables.bracket import PatternError
from gateway.tables.effort import effort
from gateway.tables.match_process import as_bytes, from_bytes
from gateway.tables.perl import PerlFlags, compile_perl
from gateway.tables.posix import compile_posix
from gateway.tables.required import HEAD, heads, required
from gateway.tables.rules import Rule, RuleList, Rules, RuleTable, first_match
from gateway.tables.text import Line, Problem

if TYPE_CHECKING:
    from gateway.tables.matcher import Matcher

Replacement = str | list[str | int]
Part = tuple[list[Rule[re.Pattern[str]]], list[tuple[str, bool]]]
"""Rules, and for each the text that it needs."""

_LONG = 10_000
_MOST_PARTS = 1000
_SPACE = " \t\r\n\v\f"
_MACRO = re.compile(r"\$(?:(\$)|([A-Za-z0-9_]+)|\{([^{}]*)\}|\(([^()]*)\))")


BUDGET = 5e6
"""Steps that a look-up may take here: about a tenth of a second, for a hostile key."""


class _Skip(ValueError):
    """A rule that is to be left out; the message says why."""


class PatternRules(Rules[re.Pattern[str]]):
    """``safe_length``: keys up to this length are tried here, without a closer look."""

    __slots__ = ("__weakref__", "_heads", "_parts", "efforts", "needles", "safe_length", "slow")

    def __init__(self, rules: list[Rule[re.Pattern[str]]], problems: list[Problem]) -> None:
        super().__init__(rules, problems)
        self.efforts = [effort(rule.test) for rule in rules]
        share = BUDGET / max(len(rules), 1)
        self.safe_length = min((one.safe_length(share) for one in self.efforts), default=math.inf)
        self.needles = _needles(rules)
        self._heads = [heads(rule.test) for rule in rules]
        self._parts: dict[str, Part] = {}
        self.slow = {at for at, one in enumerate(self.efforts) if one.safe_length(share) < _LONG}

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def part(self, key: str) -> Part:
        """The rules that count for keys of ASCII which begin as this one does."""
        head = key[:HEAD].lower()
        part = self._parts.get(head)
        if part is None:
            if len(self._parts) >= _MOST_PARTS:
                self._parts.clear()
            part = self._parts[head] = self._make_part(head)
        return part

    def _make_part(self, head: str) -> Part:
        kept: list[int] = []
        at = 0
        while at < len(self.rules):
            rule, possible = self.rules[at], self._heads[at]
            if possible is None or rule.negated or any(map(head.startswith, possible)):
                kept.append(at)
                at += 1
            else:
                at = at + 1 if rule.end < 0 else rule.end
        rules = [
            rule if (rule := self.rules[at]).end < 0 else replace(rule, end=bisect_left(kept, rule.end)) for at in kept
        ]
        return rules, [self.needles[at] for at in kept]

    def is_safe(self, key: str) -> bool:
        if len(key) <= self.safe_length:
            return True
        left, lower, odd = BUDGET, key.lower(), not key.isascii()
        for one, (needle, folds) in zip(self.efforts, self.needles, strict=True):
            if odd or needle in (lower if folds else key):
                left -= one.steps(key)
                if left < 0:
                    return False
        return True


class PatternTable(RuleTable[re.Pattern[str]]):
    """Either of the two; subclasses compile."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        self._substitution = spec.substitution
        self._limit = spec.settings.number("header_size_limit")
        self._matcher = environment.matcher
        super().__init__(spec, environment)

    async def lookup(self, key: str) -> str | None:
        key = key[: self._limit]
        rules = self.rules
        assert isinstance(rules, PatternRules)
        if self._matcher is not None and not rules.is_safe(key):
            return await self._lookup_elsewhere(self._matcher(), rules, key)
        found = _find(rules, key)
        if found is None:
            return None
        rule, match = found
        if isinstance(rule.result, str):
            return rule.result
        return "".join(part if isinstance(part, str) else _group(match, part) for part in rule.result)

    async def _lookup_elsewhere(self, matcher: Matcher, rules: PatternRules, key: str) -> str | None:
        try:
            found = await matcher.find(rules, rules.rules, key, rules.slow)
        except TableError as problem:
            at = getattr(problem, "rule", -1)
            line = f", line {rules.rules[at].line}" if at >= 0 else ""
            raise TableError(f"{self._type} map {self._place}{line}: {problem}") from None
        if found is None:
            return None
        index, groups = found
        result = rules.rules[index].result
        if isinstance(result, str):
            return result
        return "".join(part if isinstance(part, str) else groups[part] or "" for part in result)

    def source(self, key: str) -> str | None:
        rules = self.rules
        assert isinstance(rules, PatternRules)
        if not rules.is_safe(key):
            return self._place
        found = _find(rules, key[: self._limit])
        return f"{self._place}:{found[0].line}" if found else None

    def compile(self, pattern: str, flags: str) -> re.Pattern[str]:
        raise NotImplementedError

    def parse_lines(self, lines: Sequence[Line], problems: list[Problem]) -> PatternRules:
        rules: RuleList[re.Pattern[str]] = RuleList(problems)
        for number, text in lines:
            try:
                self._parse_line(number, text.rstrip(_SPACE), rules, problems)
            except (_Skip, PatternError) as problem:
                problems.append(Problem(number, str(problem)))
        return PatternRules(rules.finish(), problems)

    def _parse_line(
        self, number: int, text: str, rules: RuleList[re.Pattern[str]], problems: list[Problem]
    ) -> None:
        if _is_word(text, "endif"):
            if not rules.end():
                raise _Skip("ignoring ENDIF without matching IF")
            if text[5:].strip():
                raise _Skip(f'ignoring extra text after ENDIF: "{text[5:].strip()}"')
        elif _is_word(text, "if"):
            negated, pattern, flags, rest = _split(text[2:])
            if rest:
                problems.append(Problem(number, f'ignoring extra text after IF statement: "{rest}"'))
            rules.begin(Rule(number, self.compile(pattern, flags), negated))
        else:
            negated, pattern, flags, rest = _split(text)
            test = self.compile(pattern, flags)
            result = _replacement(rest, negated, test.groups, self._substitution)
            if not rest:
                problems.append(Problem(number, "no replacement text: using empty string"))
            rules.add(Rule(number, test, negated, result))


class RegexpTable(PatternTable):
    """``regexp:FILE``: POSIX patterns."""

    def compile(self, pattern: str, flags: str) -> re.Pattern[str]:
        fold, extended, newline = True, True, False
        for flag in flags:
            if flag == "i":
                fold = not fold
            elif flag == "x":
                extended = not extended
            elif flag == "m":
                newline = not newline
            else:
                raise _Skip(f'unknown regexp option "{flag}": skipping this rule')
        return compile_posix(pattern, fold=fold, extended=extended, newline=newline)


class PerlTable(PatternTable):
    """``pcre:FILE``: Perl-compatible patterns."""

    _FLAGS = {
        "i": "caseless", "m": "multiline", "s": "dotall", "x": "extended",
        "A": "anchored", "E": "dollar_endonly", "U": "ungreedy",
    }  # fmt: skip

    def compile(self, pattern: str, flags: str) -> re.Pattern[str]:
        chosen = PerlFlags()
        for flag in flags:
            name = self._FLAGS.get(flag)
            if name:
                setattr(chosen, name, not getattr(chosen, name))
            elif flag != "X":
                raise _Skip(f'unknown regexp option "{flag}": skipping this rule')
        return compile_perl(pattern, chosen)


def _needles(rules: Sequence[Rule[re.Pattern[str]]]) -> list[tuple[str, bool]]:
    """For each rule a text without which its pattern cannot match, and whether it ignores case.  What few rules want
    is the best: all that look at a certain header have its name in common."""
    texts = [required(rule.test) for rule in rules]
    wanted = Counter(text for found in texts for text in found)
    chosen = [min(found, key=lambda text: (wanted[text], -len(text)), default="") for found in texts]
    return [(text, bool(rule.test.flags & re.IGNORECASE)) for text, rule in zip(chosen, rules, strict=True)]


def _find(rules: PatternRules, key: str) -> tuple[Rule[re.Pattern[str]], Any] | None:
    """The first rule that counts, and its match, if it is one that wants to match."""
    if not key.isascii():
        return _find_odd(rules, key)
    lower = key.lower()
    known, needles = rules.part(key)
    at, count = 0, len(known)
    while at < count:
        needle, folds = needles[at]
        rule = known[at]
        match = rule.test.search(key) if needle in (lower if folds else key) else None
        if (match is None) is rule.negated:
            if rule.end < 0:
                return rule, match
            at += 1
        else:
            at = at + 1 if rule.end < 0 else rule.end
    return None


def _find_odd(rules: PatternRules, key: str) -> tuple[Rule[re.Pattern[str]], Any] | None:
    by_bytes = as_bytes(key)

    def matches(rule: Rule[re.Pattern[str]]) -> re.Match[str] | bool | None:
        match = rule.test.search(by_bytes if rule.test.flags & re.ASCII else key)
        return match is None if rule.negated else match

    return first_match(rules.rules, matches)


def _group(match: re.Match[str], number: int) -> str:
    text = match.group(number) or ""
    return text if text.isascii() or not match.re.flags & re.ASCII else from_bytes(text)


def _is_word(text: str, word: str) -> bool:
    return text[: len(word)].lower() == word and not text[len(word) : len(word) + 1].isalnum()


def _split(text: str) -> tuple[bool, str, str, str]:
    """(negated, pattern, flags, rest) of "!/pattern/flags rest".  Raises _Skip."""
    text = text.lstrip(_SPACE)
    negated = False
    while text.startswith("!"):
        negated = not negated
        text = text[1:].lstrip(_SPACE)
    if not text:
        raise _Skip("no regexp: skipping this rule")
    delimiter = text[0]
    if delimiter.isalnum():
        raise _Skip("ignoring unrecognized request")
    at = 1
    while at < len(text) and text[at] != delimiter:
        at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        raise _Skip(f'no closing regexp delimiter "{delimiter}": skipping this rule')
    flags, _, rest = text[at + 1 :].replace("\t", " ").partition(" ")
    start = len(text) - len(rest)
    return negated, text[1:at], flags, text[start:].strip(_SPACE) if rest else ""


def _replacement(text: str, negated: bool, groups: int, allowed: bool) -> Replacement:
    """The result, ready for use: a plain text, or its parts, numbers standing for groups."""
    if "$" not in text:
        return text
    parts: list[str | int] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        parts.append(text[at:dollar])
        match = _MACRO.match(text, dollar)
        if match is None:
            raise _Skip("bad replacement syntax: skipping this rule")
        at = match.end()
        if match.group(1):
            parts.append("$")
        else:
            parts.append(_group_number(match.group(2) or match.group(3) or match.group(4) or "", negated, groups))
            if not allowed:
                raise _Skip("regular expression substitution is not allowed: skipping this rule")
    parts.append(text[at:])
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return [part for part in parts if part != ""]


def _group_number(name: str, negated: bool, groups: int) -> int:
    if not (name.isascii() and name.isdigit()):
        raise _Skip(f'non-numeric replacement index "{name}": skipping this rule')
    if negated:
        raise _Skip("$number found in negative match replacement text: skipping this rule")
    number = int(name[:6])
    if not 1 <= number <= groups:
        raise _Skip(f'out of range replacement index "{name}": skipping this rule')
    return number
