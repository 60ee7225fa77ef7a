from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tables.required import heads, required
from gateway.tables.rules import first_match
from tests.gateway.tables.support import Bench

PIECES = ["a", "b", "Ab", "K", "ba", ".", "[ab]", "[^a]", "\\w", "\\b", "^", "$", "é", "ſ"]
PATTERNS = st.recursive(
    st.sampled_from(PIECES),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join).map("({})".format),
        inner.map("(?:{})?".format), inner.map("({})+".format), inner.map("(?:{}){{0,2}}".format),
        inner.map("(?:{})*?".format), inner.map("(?={})".format), inner.map("(?!{})".format),
        inner.map("(?>{})".format), inner.map("(?i:{})".format), inner.map("(?:{}){{2}}".format),
    ),
    max_leaves=8,
)  # fmt: skip
KEYS = st.text("abABkK. ", max_size=10)


@given(PATTERNS, KEYS, st.sampled_from([0, re.IGNORECASE, re.IGNORECASE | re.ASCII, re.VERBOSE]))
@settings(max_examples=400, deadline=None)
def test_what_matches_has_what_is_required(text: str, key: str, flags: int) -> None:
    pattern = re.compile(text, flags)
    if pattern.search(key):
        looked_at = key.lower() if flags & re.IGNORECASE else key
        assert all(needle in looked_at for needle in required(pattern))


@given(PATTERNS, KEYS, st.sampled_from([0, re.IGNORECASE, re.IGNORECASE | re.ASCII, re.MULTILINE]))
@settings(max_examples=400, deadline=None)
def test_what_matches_begins_as_it_has_to(text: str, key: str, flags: int) -> None:
    pattern = re.compile(f"^{text}", flags)
    possible = heads(pattern)
    if possible is not None and pattern.search(key):
        assert any(map(key[:3].lower().startswith, possible))


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("^Subject: x", 0, {"sub"}), ("\\ASubject", 0, {"sub"}), ("^(From|To): x", 0, {"fro", "to:"}),
        ("^X-?", 0, {"x"}), ("^(?:a|b)(?:c|d)x", 0, {"acx", "adx", "bcx", "bdx"}), ("^To", 0, {"to"}),
        ("Subject", 0, None), ("^.*x", 0, None), ("^(a|b)*c", 0, None), ("^a|b", 0, None), ("^(a|)b", 0, {"ab", "b"}),
        ("^Subject", re.MULTILINE, None), ("^é", 0, None), ("", 0, None),
    ],
)  # fmt: skip
def test_beginnings(text: str, flags: int, expected: set[str] | None) -> None:
    assert heads(re.compile(text, flags)) == expected


RULES = st.lists(st.tuples(
    st.sampled_from(["", "!"]), st.sampled_from(["^a", "^ab", "^(a|b)b", "^b.*a", "a", "^", "^K", "b$"]),
    st.sampled_from(["rule", "rule", "if", "endif"]),
), max_size=12)  # fmt: skip


@given(RULES, KEYS)
@settings(max_examples=300, deadline=None)
def test_leaving_out_rules_makes_no_difference(chosen: list[tuple[str, str, str]], key: str) -> None:
    depth, lines = 0, []
    for number, (negated, text, what) in enumerate(chosen):
        if what == "endif" and depth:
            depth -= 1
            lines.append("endif")
        elif what != "endif":
            depth += what == "if"
            lines.append(f"if {negated}/{text}/" if what == "if" else f"{negated}/{text}/ {number}")
    lines += ["endif"] * depth
    bench = Bench()
    table = bench.tables.open("regexp:{ " + " ".join(f"{{ {line} }}" for line in lines) + " }", bench.settings)
    rules = table.rules  # type: ignore[attr-defined]
    found = first_match(rules.rules, lambda rule: bool(rule.test.search(key)) is not rule.negated)
    assert bench.ask(table.name, key) == (found[0].result if found else None)


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("^Subject:.*Word5x$", 0, ("Subject:", "Word5x")),
        ("^Subject:.*Word5x$", re.IGNORECASE, ("subject:", "word5x")),
        ("a(?:bc|xd)e", 0, ("a", "e")), ("a(?:bc|bd)e", 0, ("ab", "e")),
        ("(user)@(.+)\\.example", 0, ("user", "@", ".example")),
        ("(?:ab){2,}c", 0, ("ab", "c")), ("x*y?", 0, ()), ("[aA]b", 0, ("b",)), ("a|b", 0, ()),
        ("caf\u00e9s", 0, ("caf", "s")),
        ("(?i:A)b", 0, ("b",)),
    ],
)  # fmt: skip
def test_texts(text: str, flags: int, expected: tuple[str, ...]) -> None:
    assert required(re.compile(text, flags)) == expected


def test_the_text_that_few_rules_want_is_looked_for() -> None:
    bench = Bench()
    rules = "".join(f"{{ /^Subject:.*word{number}/ REJECT {number} }} " for number in range(20))
    for kind in ("regexp", "pcre"):
        table = bench.tables.open(f"{kind}:{{ {rules} }}", bench.settings)
        assert [needle for needle, _ in table.rules.needles[:3]] == ["word0", "word1", "word2"]  # type: ignore[attr-defined]
        assert bench.ask(f"{kind}:{{ {rules} }}", "SUBJECT: a WORD7!") == "REJECT 7"


def test_rules_that_want_no_match_and_blocks() -> None:
    table = "pcre:{ {if /one/} {!/two/ no two} {endif} {!/three/ no three} {/four/ four} }"
    bench = Bench()
    found = {key: bench.ask(table, key) for key in ("one", "one two", "one two three", "three four", "three", "x")}
    assert found == {
        "one": "no two", "one two": "no three", "one two three": None,
        "three four": "four", "three": None, "x": "no three",
    }  # fmt: skip
