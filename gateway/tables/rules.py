"""Tables of rules in an order, with if … endif: what regexp:, pcre: and cidr: have in common.

A rule file is flattened into one list of Rules; an "if" knows where its block ends.  first_match() walks it.
The text is that of a file, or stands in the table's name: "pcre:{ { rule } { rule } }".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gateway.config.findings import WARNING, Finding
from gateway.config.settings import split_words
from gateway.interfaces import TableError
from gateway.tables.base import PROGRAM, Environment, Spec, Table, braced, owner_of
from gateway.tables.text import Line, Problem, logical_lines, open_text
from gateway.tables.watch import Watched

Test = TypeVar("Test")


@dataclass(slots=True)
class Rule(Generic[Test]):
    """One rule.  ``end``: for an "if", the index of the rule behind its "endif"; -1 = it is no "if"."""

    line: int
    test: Test
    negated: bool
    result: Any = None
    end: int = -1


@dataclass(slots=True)
class Rules(Generic[Test]):
    """A whole table."""

    rules: list[Rule[Test]]
    problems: list[Problem]


class RuleList(Generic[Test]):
    """Gathers rules while a file is parsed, and closes blocks."""

    def __init__(self, problems: list[Problem]) -> None:
        self.rules: list[Rule[Test]] = []
        self._open: list[Rule[Test]] = []
        self._problems = problems

    @property
    def nested(self) -> bool:
        return bool(self._open)

    def add(self, rule: Rule[Test]) -> None:
        self.rules.append(rule)

    def begin(self, rule: Rule[Test]) -> None:
        self.rules.append(rule)
        self._open.append(rule)

    def end(self) -> bool:
        """False: there is no block to end."""
        if not self._open:
            return False
        self._open.pop().end = len(self.rules)
        return True

    def finish(self) -> list[Rule[Test]]:
        for rule in self._open:
            rule.end = len(self.rules)
            self._problems.append(Problem(rule.line, "IF has no matching ENDIF"))
        return self.rules


def first_match(rules: Sequence[Rule[Test]], matches: Callable[[Rule[Test]], Any]) -> tuple[Rule[Test], Any] | None:
    """The first rule for which ``matches`` gives something true, and what it gave."""
    at, count = 0, len(rules)
    while at < count:
        rule = rules[at]
        found = matches(rule)
        if rule.end >= 0:
            at = at + 1 if found else rule.end
        elif found:
            return rule, found
        else:
            at += 1
    return None


class RuleTable(Table, Generic[Test]):
    """A table that is a list of rules.  Subclasses say how lines are parsed and keys answered."""

    folds_case = False
    whole_keys = True

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec.name)
        self._type = spec.type
        self._log = environment.log
        self._place = spec.argument
        self._file: Watched[Rules[Test]] | None = None
        if spec.argument.startswith("{"):
            self._inline = self.parse_lines([Line(number, text) for number, text in enumerate(_inline(spec), 1)], [])
        else:
            self._place = str(spec.path)
            self._file = Watched(spec.name, spec.path, self._parse, environment, self._loaded)

    def owner(self) -> int:
        return owner_of(self._file.path) if self._file else 0

    def parse_lines(self, lines: Sequence[Line], problems: list[Problem]) -> Rules[Test]:
        raise NotImplementedError

    @property
    def rules(self) -> Rules[Test]:
        """The rules of now.  Raises TableError."""
        return self._inline if self._file is None else self._file.get()

    def findings(self) -> list[Finding]:
        if self._file is not None and (found := self._file.findings()):
            return found
        file = str(self._place) if self._file is not None else ""
        return [Finding(WARNING, file, line, f"{self._type} map: {what}") for line, what in self.rules.problems]

    def _parse(self, path: Path) -> Rules[Test]:
        problems: list[Problem] = []
        return self.parse_lines(list(logical_lines(open_text(path), problems)), problems)

    def _loaded(self, rules: Rules[Test], renewed: bool) -> None:
        if renewed:
            for line, what in rules.problems:
                self._log.warning(PROGRAM, f"{self._type} map {self._place}, line {line}: {what}")


def _inline(spec: Spec) -> list[str]:
    """The rules that stand in the table's name."""
    inside = braced(spec.argument)
    if inside is None:
        raise TableError(f'bad syntax: "{spec.name}"; need "{spec.type}:{{ {{rule}} {{rule}} ... }}"')
    found: list[str] = []
    for word in split_words(inside):
        rule = braced(word)
        if rule is None:
            what = "syntax error after '}'" if word.startswith("{") else "no '{' at start of text"
            raise TableError(f'{spec.type} map: {what} in "{word}"')
        found += [rule] if rule else []
    return found
