"""format=flowed (RFC 3676)."""

import pytest

from transports.fax.document.flowed import unflow


@pytest.mark.parametrize("text, shown", [
    ("one \ntwo\nthree", "one two\nthree"),
    ("one \ntwo \nthree", "one two three"),
    (" From me\n  two blanks", "From me\n two blanks"),
    (" >no quote", ">no quote"),
    ("> a \n> b\n>> c \n>>d", "> a b\n> > c d"),
    ("> a \nb", "> a \nb"),
    ("text \n-- \nJoe", "text \n-- \nJoe"),
    ("a \n\nb", "a \n\nb".replace(" \n\n", " \n")),
    ("", ""),
])
def test_paragraphs(text, shown):
    assert unflow(text) == shown


def test_delsp_for_writing_without_spaces():
    assert unflow("日本 \n語", delsp=True) == "日本語"
    assert unflow("a  \nb", delsp=True) == "a b"
