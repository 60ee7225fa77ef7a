"""The formats of table files.  What Postfix 3.7 says to each line was taken from its postmap and postalias."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.tables.text import (
    MAX_PROBLEMS,
    BadLine,
    Line,
    Problem,
    logical_lines,
    parse_table,
    split_alias_line,
    split_map_line,
)


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def test_lines_are_continued_over_comments_and_empty_lines() -> None:
    problems: list[Problem] = []
    text = "first 1\n# comment\n\n  more\n   # indented comment\n\tand more\nsecond 2"
    assert list(logical_lines(lines_of(text), problems)) == [
        Line(1, "first 1  more\tand more"), Line(7, "second 2"),
    ]  # fmt: skip
    assert problems == []


def test_a_file_that_begins_with_a_blank_is_reported() -> None:
    problems: list[Problem] = []
    assert list(logical_lines(["# c\n", "  x y\n", "a b\n"], problems)) == [Line(3, "a b")]
    assert problems == [Problem(2, 'logical line must not start with whitespace: "  x y"')]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("key value", "key", "value"),
        ("key \t value with  spaces \r", "key", "value with  spaces"),
        ('"quoted key" v', '"quoted key"', "v"),
        (r'"q\" k\\x"  v2', r'"q\" k\\x"', "v2"),
        ('"" v', '""', "v"),
        ('"joe smith"@x.y z', '"joe smith"@x.y', "z"),
        ('a"b c"d e', 'a"b c"d', "e"),
        ("sp\\ ace v", "sp\\ ace", "v"),
        ("back\\\\ v", "back\\\\", "v"),
        ("k\xe9\tv", "k\xe9", "v"),
        ("k v # no comment", "k", "v # no comment"),
        ("a\xa0b c", "a\xa0b", "c"),
    ],
)
def test_map_line(line: str, key: str, value: str) -> None:
    assert split_map_line(line) == (key, value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("novalue", "expected format: key whitespace value"),
        ("novalue   ", "expected format: key whitespace value"),
        ('"k v" ', "expected format: key whitespace value"),
        ('"unterminated v', "unbalanced '\"' in '\"unterminated v' -- ignoring this line"),
    ],
)
def test_bad_map_line(line: str, problem: str) -> None:
    with pytest.raises(BadLine) as raised:
        split_map_line(line)
    assert str(raised.value) == problem


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("root: jane", "root", "jane"),
        ("root:jane,  ann,\t bob", "root", "jane, ann, bob"),
        ("key :value", "key", "value"),
        ("foo bar: y", "foo bar", "y"),
        ('"quoted name": x', "quoted name", "x"),
        ('"a:b": u', "a:b", "u"),
        ('a"b  c"d: q', "a b  c d", "q"),
        ('p: "|cmd  \\"a  b\\" c",   d', "p", '"|cmd  \\"a  b\\" c", d'),
        ("list: :include:/x/y", "list", ":include:/x/y"),
        ("(comment) c1: z", "(comment) c1", "z"),
        ("two\\ words: z", "two words", "z"),
        ("\\jo\\:e: \\z", "jo:e", "\\z"),
    ],
)
def test_alias_line(line: str, key: str, value: str) -> None:
    assert split_alias_line(line) == (key, value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nocolon z", "need name:value pair"),
        ("empty:", "need name:value pair"),
        (":include:/x: y", "need name:value pair"),
        ("user@dom: t", "name must be local"),
        ('"unterminated: t', "need name:value pair"),
    ],
)
def test_bad_alias_line(line: str, problem: str) -> None:
    with pytest.raises(BadLine) as raised:
        split_alias_line(line)
    assert str(raised.value) == problem


def test_a_bad_line_takes_nothing_else_with_it() -> None:
    text = "Key one\nkey  two\nnoval\nalias: x\nbad\udce9 y\nK\xc9Y z\n"
    content = parse_table(lines_of(text))
    assert content.entries == {"key": "one", "alias:": "x", "k\xe9y": "z"}
    assert content.problems == [
        Problem(2, 'duplicate entry: "key"'),
        Problem(3, "expected format: key whitespace value"),
        Problem(4, 'record is in "key: value" format; is this an alias file?'),
        Problem(5, 'non-UTF-8 input "bad? y" -- ignoring this line'),
    ]


def test_without_utf8_other_bytes_are_kept() -> None:
    assert parse_table(["B\udce9 \udce9\n"], utf8=False).entries == {"b\udce9": "\udce9"}


def test_duplicate_of_one_character_is_noticed() -> None:
    assert parse_table(["a x\n", "a x\n"]).problems == [Problem(2, 'duplicate entry: "a"')]


def test_problems_are_bounded() -> None:
    assert len(parse_table(["x\n"] * 3 * MAX_PROBLEMS).problems) == MAX_PROBLEMS


_words = st.text(st.characters(codec="utf-8", exclude_characters='\n\r\v\f\t \\"'), min_size=1, max_size=12)


@given(_words, _words, st.booleans())
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_again(key: str, value: str, quoted: bool) -> None:
    key = f'"{key} x"@{key}' if quoted else f"k{key}"
    content = parse_table([f"{key} {value}\n"], folding=False)
    assert content.entries == {key: value}


@given(st.text(max_size=80), st.booleans())
@hypothesis_settings(max_examples=150, deadline=None)
def test_nothing_makes_the_reader_fail(text: str, alias: bool) -> None:
    content = parse_table(text.split("\n"), alias=alias)
    assert all(value for value in content.entries.values())
