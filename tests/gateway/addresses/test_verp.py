from __future__ import annotations

import pytest

from gateway.addresses.verp import Delimiters, verp_sender
from gateway.config import Settings
from spool.envelope import Recipient


@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        ("owner-list@my.domain", Recipient("joe@b.c"), "owner-list+joe=b.c@my.domain"),
        ("owner@my.domain", Recipient("joe@b.c", "All@list.example"), "owner+All=list.example@my.domain"),
        ("owner@my.domain", Recipient("joe"), "owner+joe@my.domain"),
        ("owner", Recipient("joe@b.c"), "owner+joe=b.c"),
        ('"own er"@my.domain', Recipient("joe@b.c"), '"own er+joe=b.c"@my.domain'),
        ("owner@my.domain", Recipient('"j o"@b.c'), '"owner+j o=b.c"@my.domain'),
        ("owner@my.domain", Recipient('"a@b"@c.d'), '"owner+a@b=c.d"@my.domain'),
    ],
)
def test_sender(sender: str, recipient: Recipient, expected: str) -> None:
    assert verp_sender(sender, "+=", recipient) == expected


def test_delimiters() -> None:
    delimiters = Delimiters.of(Settings({"verp_delimiter_filter": "#+", "default_verp_delimiters": "#+"}))
    assert delimiters.default == "#+" and delimiters.wanted == "two characters from #+"
    assert [text for text in ("##", "+#", "+=", "#", "", "+++") if delimiters.acceptable(text)] == ["##", "+#"]
