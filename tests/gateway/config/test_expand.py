from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.expand import ExpandError, expand, level, names_in
from tests.gateway.config.postfix import needs_postfix, postconf

VALUES = {"a": "one", "empty": "", "n9": "9", "n10": "10", "level": "3.10"}

CASES = {
    "plain": "plain",
    "$a": "one",
    "${a}": "one",
    "$(a)": "one",
    "x$a.y": "xone.y",
    "$$a": "$a",
    "$nobody!": "!",
    "${a?yes}": "yes",
    "${empty?yes}": "",
    "${nobody?yes}": "",
    "${a:no}": "",
    "${empty:no}": "no",
    "${nobody:no}": "no",
    "${a?{yes}:{no}}": "yes",
    "${empty?{yes}:{no}}": "no",
    "${empty?{yes}:no}": "no",
    "${a ? {yes} : {no}}": None,
    "${a?{ yes } : { no }}": " yes ",
    "${a??foo:{b}ar}": "?foo:{b}ar",
    "${empty?x:y}": "",
    "${a?x:y}": "x:y",
    "${empty:{${a?{in}:{out}}}}": "in",
    "${{$a} == {one}}": "true",
    "${{$a} != {one}}": "",
    "${{$a} == {one} ? {y} : {n}}": "y",
    "${{$n10} < {$n9} ? {y} : {n}}": "n",
    "${{$n10} > {$n9} ? {y} : {n}}": "y",
    "${{x10} < {x9} ? {y} : {n}}": "y",
    "${{$n9} <= {9} ? {y} : {n}}": "y",
    "${{$n9} >= {10} ? {y} : {n}}": "n",
    "${{$level} <level {3.9} ? {y} : {n}}": "n",
    "${{$level} >=level {3.9} ? {y} : {n}}": "y",
    "${{$level} ==level {3.10.0} ? {y} : {n}}": "y",
    "${{2} <level {3.6}:{n}}": "",
    "${{a} ~ {b}}": None,
    "${{a} == b}": None,
    "${{a} == {b} x}": None,
    "${{a}<level{x}}": None,
    "${a": None,
    "${}": None,
    "$": None,
    "$-": None,
    "${a-b}": None,
    "${a?{x}y}": None,
    "${a:{x}y}": None,
}


@pytest.mark.parametrize("text", CASES)
def test_expressions(text: str) -> None:
    expected = CASES[text]
    if expected is None:
        with pytest.raises(ExpandError):
            expand(text, VALUES.get)
    else:
        assert expand(text, VALUES.get) == expected


@needs_postfix
def test_expressions_agree_with_postfix(tmp_path: Path) -> None:
    good = [text for text, expected in CASES.items() if expected is not None and "nobody" not in text]
    values = {name: value for name, value in VALUES.items() if name != "level"} | {"level": "3.10"}
    lines = [f"{name} = {value}" for name, value in values.items()]
    lines += [f"case{number} = <{text}>" for number, text in enumerate(good)]
    lines += ["relayhost = " + "".join(f"$case{number}" for number in range(len(good)))]
    (tmp_path / "main.cf").write_text("\n".join(lines) + "\n")
    (tmp_path / "master.cf").write_text("")
    for number, text in enumerate(good):
        told = postconf(tmp_path, "-hx", f"case{number}").rstrip("\n")
        assert told == " ".join(f"<{expand(text, VALUES.get)}>".split()), text


def test_too_deep() -> None:
    text = "x"
    for _ in range(200):
        text = "${a?{" + text + "}:{}}"
    with pytest.raises(ExpandError, match="too deeply"):
        expand(text, VALUES.get)


def test_names_in() -> None:
    assert names_in("$a ${b?{$c}:{$(d)}} $$e ${{$f} == {g} ? {$h}:{}}") == {"a", "b", "c", "d", "f", "h"}


def test_level_order() -> None:
    assert level("0") < level("2") < level("3.6") < level("3.6.1") < level("3.10")


@given(st.text(alphabet="${}()?:=<>! ab9levl", max_size=40))
@settings(max_examples=300)
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        result = expand(text, VALUES.get)
    except ExpandError:
        return
    assert isinstance(result, str)


@given(st.text(max_size=40))
def test_quoted_dollars_come_back(text: str) -> None:
    assert expand(text.replace("$", "$$"), VALUES.get) == text
