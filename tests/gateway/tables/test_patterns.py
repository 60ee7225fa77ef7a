"""regexp: and pcre: tables.  The answers are those of Postfix 3.7's postmap -q."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.tables.bracket import PatternError
from gateway.tables.perl import PerlFlags, compile_perl
from gateway.tables.posix import compile_posix
from tests.gateway.tables.support import Bench

BOTH = pytest.mark.parametrize("type", ["regexp", "pcre"])


def table(tmp_path: Path, text: str, type: str = "regexp", **values: str) -> tuple[Bench, str]:
    (tmp_path / "rules").write_text(text)
    return Bench(tmp_path, **values), f"{type}:rules"


@BOTH
@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("joe@old.tld", "joe@new.tld"),
        ("joe@sub.example", "joe at sub"),
        ("other", "no example in it"),
        ("an ExAmPlE", "upper and lower are one"),
        ("Nothing of example", "exact case"),
        ("nothing of example", "upper and lower are one"),
    ],
)
def test_first_match_wins(tmp_path: Path, type: str, key: str, answer: str) -> None:
    text = (
        "/^(.*)@old\\.tld$/  ${1}@new.tld\n/Nothing/i  exact case\n!/example/ no example in it\nif /@/\n"
        "/^([^@]+)@(.*)\\.example$/  $1 at $(2)\nendif\n/EXAMPLE/  upper and lower are one\n"
    )
    bench, spec = table(tmp_path, text, type)
    assert bench.ask(spec, key) == answer
    assert bench.findings == []


@BOTH
def test_blocks_nest_and_can_be_negated(tmp_path: Path, type: str) -> None:
    text = "if /a/\nIF !/b/\n/./ a without b\nENDIF\n/c/ a b c\nendif\n/c/ c\n"
    bench, spec = table(tmp_path, text, type)
    assert [bench.ask(spec, key) for key in ("a", "ab", "abc", "c", "x")] == [
        "a without b", None, "a b c", "c", None,
    ]  # fmt: skip


@BOTH
def test_bad_rules_are_left_out_and_reported(tmp_path: Path, type: str) -> None:
    text = (
        "/a(/ x\n/ok/ fine\n/bad\n/x/q val\nnot pattern\n/z/ $1\n!/foo/ $1\n/(q)/ $2\n/y/ $name\n/y/ $\n"
        "endif\nif /p/ text\n/nov/i\nif /x/\n!\n"
    )
    bench, spec = table(tmp_path, text, type)
    assert bench.ask(spec, "ok") == "fine"
    assert bench.ask(spec, "nothing") is None
    place = f"{tmp_path}/rules, line "
    unmatched = "Unmatched ( or \\(" if type == "regexp" else "error in regex at offset 2: missing closing parenthesis"
    assert [finding.removeprefix(place) for finding in bench.findings] == [
        f"{line}: {type} map: {what}"
        for line, what in [
            (1, unmatched),
            (3, 'no closing regexp delimiter "/": skipping this rule'),
            (4, 'unknown regexp option "q": skipping this rule'),
            (5, "ignoring unrecognized request"),
            (6, 'out of range replacement index "1": skipping this rule'),
            (7, "$number found in negative match replacement text: skipping this rule"),
            (8, 'out of range replacement index "2": skipping this rule'),
            (9, 'non-numeric replacement index "name": skipping this rule'),
            (10, "bad replacement syntax: skipping this rule"),
            (11, "ignoring ENDIF without matching IF"),
            (12, 'ignoring extra text after IF statement: "text"'),
            (13, "no replacement text: using empty string"),
            (15, "no regexp: skipping this rule"),
            (12, "IF has no matching ENDIF"),
            (14, "IF has no matching ENDIF"),
        ]
    ]


@BOTH
def test_substitution(tmp_path: Path, type: str) -> None:
    bench, spec = table(tmp_path, "/^(a)(x)?(b)/ <$1$2${3}c $$1 $(1)>\n", type)
    assert bench.ask(spec, "aB") == "<aBc $1 a>"


@BOTH
def test_substitution_can_be_forbidden(tmp_path: Path, type: str) -> None:
    bench, spec = table(tmp_path, "/(a)/ $1\n/a/ $$1\n", type)
    opened = bench.tables.open(spec, bench.settings, substitution=False)
    maps = bench.tables.maps([spec], bench.settings, substitution=False)
    assert maps.tables == [opened]
    assert [finding.what for finding in opened.findings()] == [
        f"{type} map: regular expression substitution is not allowed: skipping this rule"
    ]


@BOTH
def test_other_delimiters(tmp_path: Path, type: str) -> None:
    bench, spec = table(tmp_path, "~^[[:alnum:]+/]{5,}$~\tOK\n|a\\|b| bar\n", type)
    assert bench.ask(spec, "ab+/9") == "OK"
    assert bench.ask(spec, "ab +/9") is None


@BOTH
def test_rules_in_the_name(type: str) -> None:
    bench = Bench()
    assert bench.ask(f"{type}:{{ {{ /a{{2}}/ two }}, {{/a/ one}} }}", "xaa") == "two"
    assert bench.ask(f"{type}:{{ {{ /a{{2}}/ two }}, {{/a/ one}} }}", "xa") == "one"


@BOTH
def test_line_feeds_in_keys(tmp_path: Path, type: str) -> None:
    bench, spec = table(tmp_path, "/^X: a.*c$/ whole\n/^b/m line\n", type)
    assert bench.ask(spec, "X: a\n b\n c") == "whole"
    assert bench.ask(spec, "X: d\nb") == "line"


@BOTH
def test_source_and_renewal(tmp_path: Path, type: str) -> None:
    bench, spec = table(tmp_path, "# c\n/a/ 1\n/b/ 2\n", type)
    opened = bench.tables.open(spec, bench.settings)
    assert opened.source("b") == f"{tmp_path}/rules:3"
    assert opened.source("c") is None
    (tmp_path / "rules").write_text("/b/ new\n/(/ bad\n")
    os.utime(tmp_path / "rules", (1, 1))
    bench.clock.advance(1)
    assert bench.ask(spec, "b") == "new"
    assert f"postmap: warning: {type} map {tmp_path}/rules, line 2: " in bench.log.text


def test_keys_are_bounded(tmp_path: Path) -> None:
    bench, spec = table(tmp_path, "/end$/ seen\n", header_size_limit="100")
    assert bench.ask(spec, "x" * 97 + "end") == "seen"
    assert bench.ask(spec, "x" * 98 + "end") is None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a{2}b", ["aab"], ["ab"]),
        ("a{,2}$", ["aa", "b"], []),
        ("^a+?b", ["aab", "b"], ["cb"]),
        ("^a**$", ["", "aaa"], ["b"]),
        ("\\<foo\\>", ["a foo b"], ["afoo"]),
        ("[]a]b", ["]b", "ab"], ["cb"]),
        ("[^]a]b", ["cb"], ["]b", "ab"]),
        ("[a\\]b]", ["\\b]", "ab]"], ["ab", "b"]),
        ("\\d", ["d"], ["5"]),
        ("\\w\\S", ["a-"], ["- "]),
        ("(a)\\1", ["aa"], ["ab"]),
        ("()", [""], []),
        ("[[:alpha:][:digit:]_]+-", ["a1_-"], [" -"]),
        ("[[.a.]][[=b=]]", ["ab"], ["ba"]),
        ("[a-c-]x", ["-x", "bx"], ["dx"]),
        ("a$", ["a"], ["a\n"]),
        ("x{", ["x{"], ["x"]),
        ("a|b|", ["c"], []),
        ("[[:upper:]]", ["a"], ["1"]),
    ],
)
def test_posix_extended(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_posix(pattern)
    assert [key for key in matching if not compiled.search(key)] == []
    assert [key for key in others if compiled.search(key)] == []


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a\\{2\\}b", ["aab"], ["a{2}b"]),
        ("^\\(a\\)\\1$", ["aa"], ["a"]),
        ("*a+(", ["*a+("], ["aa"]),
        ("\\+x", ["+x"], ["x"]),
        ("a\\|^b", ["b", "a"], ["cb"]),
        ("a^b$c", ["a^b$c"], ["abc"]),
        ("a\\+$", ["aa"], ["a+b"]),
    ],
)
def test_posix_basic(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_posix(pattern, extended=False)
    assert [key for key in matching if not compiled.search(key)] == []
    assert [key for key in others if compiled.search(key)] == []


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a(", "Unmatched ( or \\("),
        ("a)", "Unmatched ) or \\)"),
        ("a|*b", "Invalid preceding regular expression"),
        ("[a", "Unmatched [, [^, [:, [., or [="),
        ("[[:nosuch:]]", "Invalid character class name"),
        ("[b-a]", "Invalid range end"),
        ("a{2,1}", "Invalid content of \\{\\}"),
        ("a\\", "Trailing backslash"),
    ],
)
def test_bad_posix(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError) as raised:
        compile_posix(pattern)
    assert str(raised.value) == problem


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("^(?<name>\\w+)-\\k<name>$", ["ab-ab"], ["ab-a"]),
        ("a(?-i)B|c", ["aB", "AB", "c"], ["ab", "C"]),
        ("(?-i:A)b", ["AB", "Ab"], ["ab"]),
        ("(x(?-i)Y|z)w", ["XYW", "zw"], ["xyw", "Zw"]),
        ("\\Qa.b\\E$", ["a.b"], ["axb"]),
        ("\\x41\\x{42}\\103", ["abc"], ["bc"]),
        ("a\\hb\\R?$", ["a\tb", "a b\r\n"], ["a\nb"]),
        ("a\\z", ["a"], ["a\n"]),
        ("a\\Z", ["a", "a\n"], ["a\nb"]),
        ("a$", ["a", "a\n"], ["a\nb"]),
        ("[[:^digit:]]x", ["ax"], ["1x"]),
        ("[\\w-]x", ["-x", "ax"], [" x"]),
        ("[[a]x", ["[x", "ax"], ["bx"]),
        ("(?#comment)ab", ["ab"], ["a"]),
        ("(?x) a b # comment\n c", ["abc"], ["a b c"]),
        ("a++a", [], ["aaa"]),
        ("(?>a+)b", ["aab"], ["aaa"]),
        ("(a)?(?(1)b|c)", ["ab", "c"], ["d"]),
        ("(?<!x)a(?!y)", ["a"], ["xa", "ay"]),
        ("(a)(b)\\g{-1}", ["abb"], ["aba"]),
        ("\\d\\D", ["1a"], ["11"]),
    ],
)
def test_perl(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_perl(pattern, PerlFlags())
    assert [key for key in matching if not compiled.search(key)] == []
    assert [key for key in others if compiled.search(key)] == []


@pytest.mark.parametrize(
    "pattern",
    ["a(", "a)", "[a", "a\\", "(?R)", "(?|a)", "(*SKIP)a", "a\\Kb", "\\p{L}", "\\i", "*a", "(?<n>a)(?<n>b)", "[b-a]",
     "{2}"],
)
def test_bad_perl(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"\S"):
        compile_perl(pattern, PerlFlags())


def test_perl_flags(tmp_path: Path) -> None:
    text = "/a b/x extended\n/b/A anchored\n/c$/E end\n/(d.*)d/U <$1>\n/e.f/s dot\n/X/iX exact\n"
    bench, spec = table(tmp_path, text, "pcre")
    keys = ("-ab", "b-", "-b", "c", "c\n", "dxdd", "e\nf", "e-f", "x", "X")
    assert [bench.ask(spec, key) for key in keys] == [
        "extended", "anchored", None, "end", None, "<dx>", None, "dot", None, "exact",
    ]  # fmt: skip


@given(st.text("ab.[]()*+?{}|^$\\-:1,<=!#iQE ", max_size=14), st.booleans())
@hypothesis_settings(max_examples=300, deadline=None)
def test_every_pattern_is_compiled_or_refused(pattern: str, perl: bool) -> None:
    try:
        compiled = compile_perl(pattern, PerlFlags()) if perl else compile_posix(pattern)
    except PatternError as error:
        assert str(error)
    else:
        compiled.search("ab")
