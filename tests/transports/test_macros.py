"""argv macros of pipe(8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.macros import Template, expand


def expanded(*arguments: str) -> list[str]:
    recipients = [{"recipient": "a@x", "user": "a"}, {"recipient": "b@x", "user": "b"}]
    return expand([Template(argument) for argument in arguments], {"sender": "s@y", "nexthop": "h"}, recipients)


def test_forms() -> None:
    assert expanded("-a$sender", "${sender}", "$(nexthop)!rmail", "$$5", "$$sender") == [
        "-as@y", "s@y", "h!rmail", "$5", "$sender"]


def test_one_argument_a_recipient() -> None:
    assert expanded("x", "($recipient)", "pre${user}post$nexthop") == [
        "x", "(a@x)", "(b@x)", "preaposth", "prebposth"]


@pytest.mark.parametrize("text", ["$", "${", "$nosuch", "${sender", "a$ b", "${}", "$()"])
def test_mistakes_are_found_when_read(text: str) -> None:
    with pytest.raises(ValueError, match='"'):
        Template(text)


@given(st.text())
def test_values_are_never_read_again(value: str) -> None:
    assert expand([Template("<$sender>")], {"sender": value}, []) == [f"<{value}>"]
