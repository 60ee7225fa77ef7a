"""Patterns that take long are told from those that do not, and hold nobody up."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults

from gateway.config import Settings
from gateway.interfaces import TableError
from gateway.log import MemoryLog
from gateway.tables import Tables, matcher
from gateway.tables.effort import effort
from gateway.tables.match_process import search
from gateway.tables.patterns import BUDGET
from gateway.tables.rules import Rule, RuleList, first_match

reactor: Any = global_reactor

EXPONENTIAL = [
    r"(a+)+$", r"(a|a)*$", r"(a*)*$", r"(\w+\s?)*x", r"([a-zA-Z]+)*$", r"(a|ab|b)*$", r"(x+x+)+y", r"(?:a?){30}a{30}",
    r"a?" * 30 + "a" * 30, r"(.)\1", r"(a*b*)*c", r"^(([a-z])+.)+[A-Z]$", r"(.*a){12}", r"^(a|[^b])+$",
    r"(?:(a)|b)(?(1)c)",
]  # fmt: skip
LINEAR = [
    r"^postmaster@", r"^Subject: make money", r"^[^@]+@example\.(com|org)$", r"\.(exe|com|bat)$", r"^[a-z]+\d+$",
    r"^.*$", r"^(?:ab|cd)+$", r"^\d{1,3}\.\d{1,3}\.\d{1,3}$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", EXPONENTIAL)
def test_exponential(pattern: str) -> None:
    assert effort(re.compile(pattern)).safe_length(BUDGET) < 30


@pytest.mark.parametrize("pattern", LINEAR)
def test_harmless(pattern: str) -> None:
    assert effort(re.compile(pattern)).safe_length(BUDGET) > 1000


@pytest.mark.parametrize(
    ("pattern", "degree"),
    [
        (r"foo.*bar", 3), (r"^foo.*bar", 2), (r"^.*a.*b.*c", 4), (r"^[^:]*:.*x", 2), (r"([a-z]+\.)*com$", 3),
        (r"^(a.*b|c)$", 2), (r"^(?!.*x).*$", 2), (r"^a.*", 1), (r"^\d+-\d+$", 1),
    ],
)  # fmt: skip
def test_powers(pattern: str, degree: int) -> None:
    found = effort(re.compile(pattern))
    assert 1 + len(found.choices) == degree and found.factor < math.inf
    assert effort(re.compile(pattern)).steps("z" * 99) <= found.factor * 100**degree


def test_what_must_follow_limits_the_choices() -> None:
    found = effort(re.compile(r"^From:.*<.*@.*", re.IGNORECASE))
    assert found.steps("From: " + "x" * 1000 + "<a@b>") < 20_000
    assert found.steps("From: " + "<" * 1000 + "@" * 1000) > BUDGET


PIECES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\w", "ab"]),
    lambda inner: st.one_of(
        st.builds("({})".format, inner), st.builds("(?:{}|{})".format, inner, inner),
        st.builds("(?:{})*".format, inner), st.builds("(?:{})+?".format, inner),
        st.builds("(?:{}){{1,3}}".format, inner),
        st.builds("{}{}".format, inner, inner), st.builds("(?:{})?".format, inner),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(PIECES, st.text("ab", min_size=1, max_size=4), st.sampled_from("ab!"))
def test_what_counts_as_safe_is_fast(pattern: str, repeated: str, end: str) -> None:
    compiled = re.compile(pattern + "$")
    length = int(min(effort(compiled).safe_length(BUDGET), 3000))
    key = (repeated * length)[: max(length - 1, 0)] + end
    begun = time.process_time()
    compiled.search(key)
    assert time.process_time() - begun < 1.0


ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "(c)?", "^d"]), st.booleans(), st.booleans()), max_size=6)


@settings(max_examples=100)
@given(ROWS, st.text("abcd"))
def test_the_process_walks_through_rules_as_the_table_does(rows: list[tuple[str, bool, bool]], key: str) -> None:
    rules: RuleList[re.Pattern[str]] = RuleList([])
    for number, (pattern, negated, block) in enumerate(rows):
        (rules.begin if block else rules.add)(Rule(number, re.compile(pattern), negated))
    found = first_match(rules.finish(), lambda rule: (rule.test.search(key) is None) is rule.negated)
    index, _ = search([(rule.test, rule.negated, rule.end, False) for rule in rules.rules], key, None)
    assert index == (found[0].line if found else -1)


# --- in the reactor ----------------------------------------------------------------------------------------------


@pytest.fixture
def tables() -> Iterator[Tables]:
    made = Tables(clock=reactor, log=MemoryLog(), reactor=reactor)
    yield made
    made.close()


HOSTILE = "a" * 5000 + "!"


@ensureDeferred
async def test_a_hostile_key_defers_and_the_reactor_goes_on(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "SECONDS", 0.3)
    (tmp_path / "checks").write_text("/^ok(.*)$/ OK $1\n/(a+)+$/ REJECT\n/!/ WARN\n")
    table = tables.open(f"pcre:{tmp_path}/checks", Settings({}, directory=tmp_path))
    turns: list[float] = []

    def turn() -> None:
        turns.append(reactor.seconds())
        if asked.called is False:
            reactor.callLater(0.01, turn)

    asked: Deferred[Any] = Deferred.fromCoroutine(table.lookup(HOSTILE))
    turn()
    with pytest.raises(TableError, match=rf"pcre map {tmp_path}/checks, line 2: no answer within 0.3 s"):
        await asked
    assert max(later - sooner for sooner, later in zip(turns, turns[1:], strict=False)) < 0.25
    assert len(turns) > 10
    assert await table.lookup("ok" + HOSTILE[:40]) == "OK " + HOSTILE[:40]
    assert await table.lookup("x" * 50 + "!") == "WARN"
    assert await table.lookup("x" * 50) is None


@ensureDeferred
async def test_one_at_a_time_and_none_waits_for_ever(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "SECONDS", 0.3)
    monkeypatch.setattr(matcher, "PATIENCE", 0.45)
    table = tables.open("regexp:{{/(a+)+$/ x}}", Settings({}))
    problems: list[str] = []
    asked = [
        Deferred.fromCoroutine(table.lookup(HOSTILE)).addErrback(lambda failure: problems.append(str(failure.value)))
        for _ in range(4)
    ]
    await gatherResults(asked)
    assert any("line 1: no answer within 0.3 s" in problem for problem in problems)
    assert any("other keys take too long" in problem for problem in problems)
    assert await table.lookup("aaa") == "x"


@ensureDeferred
async def test_a_process_that_cannot_be_started_defers(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    table = tables.open("regexp:{{/(a+)+$/ x}}", Settings({}))
    with pytest.raises(TableError, match="cannot be started: No such file or directory"):
        await table.lookup(HOSTILE)
