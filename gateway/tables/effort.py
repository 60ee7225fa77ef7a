"""How long a pattern may take, at worst, for a key of a given length: which patterns must not be tried in the reactor.

Python's re tries one way after the other, so that some patterns take steps by a power of the key's length, and some,
such as "(a+)+$", exponentially many.  effort() reads the pattern's parse tree:

* a loop through which the same text can go in two ways is exponential (EDA, the test for exponential ambiguity of
  Weber and Seidl, on the automaton of the loop's body with a state for each character position);
* else each loop in a sequence counts once: as many choices as the key has characters, or as it has of those that must
  follow the loop, and none if what follows cannot be within it; so does the search for the place where the pattern
  begins;
* references back to groups, and what else cannot be told, count as exponential.

The figures are upper bounds; they are used to decide where a pattern is tried, never whether.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

ENOUGH = 40
"""Positions: a loop that has more is not looked into."""
UNROLLED = 8
_OTHERS = 1 << 256
_ALL = (1 << 257) - 1
_SINGLE = (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN)
_LOOPS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)

Choice = str | None
"""What limits a loop's choices: the characters (both cases) one of which must follow, or None = the key's length."""


@dataclass(frozen=True, slots=True)
class Effort:
    """``factor``: of choices that do not depend on the key; infinite = exponential."""

    factor: float
    choices: tuple[Choice, ...]

    def steps(self, key: str) -> float:
        """At most so many for that key."""
        length = len(key) + 1
        steps = self.factor * length
        for choice in self.choices:
            steps *= length if choice is None else 1 + sum(map(key.count, choice))
        return steps

    def safe_length(self, budget: float) -> float:
        """Keys up to this length take no more steps than that, whatever is in them."""
        if self.factor > budget:
            return 0
        return (budget / self.factor) ** (1 / (1 + len(self.choices))) - 1


class _Hopeless(Exception):
    """Exponential, or not to be told."""


@lru_cache(maxsize=4096)
def effort(pattern: re.Pattern[str]) -> Effort:
    try:
        tree = list(_parser.parse(pattern.pattern, pattern.flags))
        chain = _chain(tree, [])
    except (_Hopeless, RecursionError):
        return Effort(math.inf, ())
    if not (_is_anchored(tree) and not pattern.flags & re.MULTILINE):
        chain.choices.append(_next_letter(tree))
    return Effort(chain.factor, tuple(chain.choices))


def _is_anchored(tree: Sequence[Any]) -> bool:
    if not tree:
        return False
    op, argument = tree[0]
    if op is ops.AT:
        return argument in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING)
    if op is ops.SUBPATTERN:
        return _is_anchored(argument[3])
    if op is ops.BRANCH:
        return all(map(_is_anchored, argument[1]))
    return False


# --- sequences ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chain:
    factor: float = 1.0
    choices: list[Choice] = field(default_factory=list)

    def extend(self, other: _Chain) -> None:
        self.factor *= other.factor
        self.choices += other.choices


def _chain(tree: Sequence[Any], rest: Sequence[Any]) -> _Chain:
    """``rest``: what follows."""
    chain = _Chain()
    for at, (op, argument) in enumerate(tree):
        if op in (ops.GROUPREF, ops.GROUPREF_EXISTS):
            raise _Hopeless
        if op in _SINGLE or op is ops.AT:
            continue
        behind = [*tree[at + 1 :], *rest]
        if op in _LOOPS:
            chain.extend(_loop(tree[at], behind))
        elif op is ops.SUBPATTERN:
            chain.extend(_chain(argument[3], behind))
        elif op is ops.ATOMIC_GROUP:
            chain.extend(_chain(argument, behind))
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            chain.extend(_chain(argument[1], []))
        elif op is ops.BRANCH:
            chain.extend(_branch(argument[1], behind))
    return chain


def _loop(node: Any, behind: Sequence[Any]) -> _Chain:
    low, high, body = node[1]
    if high <= 1 or low == high <= UNROLLED:
        inner = _chain(body, [None] if high > 1 else behind)
        return _Chain(inner.factor ** max(low, 1) * (2 if low < high else 1), inner.choices * max(low, 1))
    characters = _refuse_ambiguity([node])
    if high - low <= UNROLLED:
        choices: list[Choice] = []
        factor = float(high - low + 1)
    else:
        choices = [_next_letter(behind)]
        factor = 1.0
    if len(body) == 1 and characters == 1 and body[0][0] in _SINGLE and _is_apart(body[0], behind):
        choices, factor = [], 1.0
    for op, argument in _within(body):
        if op in (ops.ASSERT, ops.ASSERT_NOT):
            inner = _chain(argument[1], [])
            choices += [None, *inner.choices]
            factor *= inner.factor
    return _Chain(factor, choices)


def _is_apart(node: Any, behind: Sequence[Any]) -> bool:
    """Whether a loop over one character ends at one place only: where the next character cannot be of it, or the key
    ends, or nothing is left to match."""
    for at, following in enumerate(behind):
        if following is None:
            return False
        op, argument = following
        if op is ops.SUBPATTERN:
            return _is_apart(node, [*argument[3], *behind[at + 1 :]])
        if op is ops.AT and argument in (ops.AT_END, ops.AT_END_STRING):
            return True
        if op in _LOOPS and argument[0] > 0:
            return _is_apart(node, [*argument[2], None])
        if op in _SINGLE:
            return not _characters(*node) & _characters(op, argument)
        if op is not ops.AT:
            return False
    return True


def _branch(branches: Sequence[Any], behind: Sequence[Any]) -> _Chain:
    chains = [_chain(branch, behind) for branch in branches]
    longest = max(chains, key=lambda chain: len(chain.choices))
    factor = max(chain.factor for chain in chains)
    starts = [_next_letter(branch) for branch in branches]
    if None in starts or len(set(starts)) < len(starts):
        factor *= len(branches)
    several = sum(1 for chain in chains if chain.choices) > 1
    return _Chain(factor, [None] * len(longest.choices) if several else longest.choices)


def _next_letter(tree: Sequence[Any]) -> Choice:
    """The letter (both cases) that a sequence begins with, if it is one."""
    for node in tree:
        if node is None:
            return None
        op, argument = node
        if op is ops.SUBPATTERN and argument[3]:
            return _next_letter(argument[3])
        if op in _LOOPS and argument[0] > 0:
            return _next_letter(argument[2])
        if op is ops.LITERAL:
            character = chr(argument)
            return "".join({character, character.lower(), character.upper()}) if character.isascii() else None
        if op is not ops.AT:
            return None
    return None


def _within(tree: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """All nodes, to any depth; not those within assertions."""
    for op, argument in tree:
        yield op, argument
        if op in _LOOPS:
            yield from _within(argument[2])
        elif op is ops.SUBPATTERN:
            yield from _within(argument[3])
        elif op is ops.ATOMIC_GROUP:
            yield from _within(argument)
        elif op is ops.BRANCH:
            for branch in argument[1]:
                yield from _within(branch)


# --- loops -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """Of an automaton: where it begins and ends, and whether it can be empty."""

    first: list[int]
    last: list[int]
    empty: bool


class _Automaton:
    """States are the places of characters in the pattern; an edge that is there twice is two ways for one text."""

    def __init__(self) -> None:
        self.characters: list[int] = []
        self.edges: Counter[tuple[int, int]] = Counter()

    def add(self, tree: Iterable[Any]) -> _Part:
        whole = _Part([], [], True)
        for node in tree:
            self._append(whole, self._node(*node))
        return whole

    def _append(self, whole: _Part, part: _Part) -> None:
        self._connect(whole.last, part.first)
        if whole.empty:
            whole.first = whole.first + part.first
        whole.last = part.last + whole.last if part.empty else part.last
        whole.empty = whole.empty and part.empty

    def _connect(self, before: list[int], after: list[int]) -> None:
        for one in before:
            for other in after:
                self.edges[one, other] += 1

    def _node(self, op: Any, argument: Any) -> _Part:
        if op in _LOOPS:
            return self._loop(*argument)
        if op is ops.SUBPATTERN:
            return self.add(argument[3])
        if op is ops.ATOMIC_GROUP:
            return self.add(argument)
        if op is ops.BRANCH:
            parts = [self.add(branch) for branch in argument[1]]
            if sum(part.empty for part in parts) > 1:
                raise _Hopeless
            return _Part(
                [state for part in parts for state in part.first], [state for part in parts for state in part.last],
                any(part.empty for part in parts),
            )  # fmt: skip
        if op in (ops.AT, ops.ASSERT, ops.ASSERT_NOT):
            return _Part([], [], True)
        self.characters.append(_characters(op, argument))
        if len(self.characters) > ENOUGH:
            raise _Hopeless
        state = len(self.characters) - 1
        return _Part([state], [state], False)

    def _loop(self, low: int, high: int, body: Any) -> _Part:
        if low == high <= UNROLLED:
            return self.add(list(body) * low)
        part = self.add(body)
        if part.empty and 1 < high < ops.MAXREPEAT:
            raise _Hopeless
        if high > 1:
            self._connect(part.last, part.first)
        return _Part(part.first, part.last, part.empty or low == 0)


def _characters(op: Any, argument: Any) -> int:
    """The set of characters that a node stands for, as bits: those below 256, and one for all others."""
    if op is ops.LITERAL:
        return _both_cases(argument)
    if op is ops.NOT_LITERAL:
        return _ALL & ~_bit(argument)
    if op is ops.ANY:
        return _ALL
    if op is not ops.IN:
        raise _Hopeless
    found = 0
    negated = False
    for kind, value in argument:
        if kind is ops.NEGATE:
            negated = True
        elif kind is ops.LITERAL:
            found |= _bit(value) if negated else _both_cases(value)
        elif kind is ops.RANGE:
            low, high = value
            for code in range(low, min(high, 255) + 1):
                found |= _bit(code) if negated else _both_cases(code)
            found |= _OTHERS if high > 255 and not negated else 0
        else:
            found |= _category(value, negated)
    return _ALL & ~found if negated else found


def _bit(code: int) -> int:
    return 1 << min(code, 256)


def _both_cases(code: int) -> int:
    character = chr(code)
    found = _bit(code)
    for other in character.lower() + character.upper():
        found |= _bit(ord(other))
    return found


@cache
def _category(category: Any, least: bool) -> int:
    """The characters of \\d and the like; ``least``: only those that belong to it in any case."""
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(category).rsplit("_", 1)[1]]
    letter = letter.upper() if "_NOT_" in str(category) else letter
    found = 0
    plain, full = re.compile(f"\\{letter}", re.ASCII), re.compile(f"\\{letter}")
    for code in range(256):
        matches = [bool(one.match(chr(code))) for one in (plain, full)]
        found |= _bit(code) if (all(matches) if least else any(matches)) else 0
    return found if least else found | _OTHERS


def _refuse_ambiguity(tree: Sequence[Any]) -> int:
    """Raises _Hopeless if some text can go through the loop in two ways.  Gives the number of its characters."""
    for op, _ in _within(tree):
        if op in (ops.GROUPREF, ops.GROUPREF_EXISTS):
            raise _Hopeless
    automaton = _Automaton()
    automaton.add(tree)
    edges: dict[int, list[int]] = {}
    for one, other in automaton.edges:
        edges.setdefault(one, []).append(other)
    for component in _components({state: edges.get(state, []) for state in range(len(automaton.characters))}):
        inside = {state: [other for other in edges.get(state, []) if other in component] for state in component}
        if any(automaton.edges[one, other] > 1 for one, others in inside.items() for other in others):
            raise _Hopeless
        if len(component) > 1 and _is_ambiguous(inside, automaton.characters):
            raise _Hopeless
    return len(automaton.characters)


def _is_ambiguous(edges: dict[int, list[int]], characters: list[int]) -> bool:
    """Whether two different ways lead from a state back to it with the same text: in the graph of pairs of states that
    can be reached with the same text, a circle holds both (s, s) and some (p, q)."""
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    waiting = [(state, state) for state in edges]
    while waiting:
        pair = waiting.pop()
        if pair in pairs:
            continue
        one, other = pair
        pairs[pair] = [(p, q) for p in edges[one] for q in edges[other] if characters[p] & characters[q]]
        waiting += pairs[pair]
    return any(
        any(p == q for p, q in component) and any(p != q for p, q in component) for component in _components(pairs)
    )


def _components(graph: dict[Any, list[Any]]) -> Iterator[set[Any]]:
    """Strongly connected components (Tarjan, without recursion)."""
    order: dict[Any, int] = {}
    lowest: dict[Any, int] = {}
    stack: list[Any] = []
    on_stack: set[Any] = set()
    for root in graph:
        if root in order:
            continue
        work: list[tuple[Any, Iterator[Any]]] = [(root, iter(graph[root]))]
        order[root] = lowest[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, others = work[-1]
            for other in others:
                if other not in order:
                    order[other] = lowest[other] = len(order)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(graph[other])))
                    break
                if other in on_stack:
                    lowest[node] = min(lowest[node], order[other])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    component: set[Any] = set()
                    while node not in component:
                        last = stack.pop()
                        on_stack.discard(last)
                        component.add(last)
                    yield component
