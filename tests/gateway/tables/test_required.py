from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tables.required import required
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
