"""An entry as a line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tables.edit import format_entry
from gateway.tables.text import split_alias_line, split_map_line

KEYS = st.text(st.characters(blacklist_characters="\n\r\v\f\0", blacklist_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=60)
@given(KEYS)
def test_what_is_written_can_be_read(key: str) -> None:
    assert split_map_line(format_entry(key, "value", alias=False)) == (key, "value")
    assert split_alias_line(format_entry(key, "value", alias=True)) == (key, "value")
