"""What goes over the wire must be what the receiver reads, however the message is split."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from transports.smtp.dots import DotEncoder


def encode(blocks: list[bytes], limit: int = 998) -> bytes:
    encoder = DotEncoder(limit)
    return b"".join(map(encoder.encode, blocks)) + encoder.end()


def decode(wire: bytes) -> bytes:
    """What a strict receiver makes of it: asserts that nothing follows the end, and no line end but CRLF."""
    assert wire.replace(b"\r\n", b"").count(b"\r") == wire.replace(b"\r\n", b"").count(b"\n") == 0
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""]
    return b"".join(line.removeprefix(b".") + b"\n" for line in lines[:end])


def split(data: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


PIECES = [b".", b"\n", b"x", b"..", b"\n.\n", b"MAIL", b"\r", b"\xff"]
CONTENT = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@given(CONTENT, st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=300)
def test_every_split_arrives_whole(content: bytes, places: list[int]) -> None:
    expected = content.replace(b"\r", b" ")
    if expected and not expected.endswith(b"\n"):
        expected += b"\n"
    wire = encode(split(content, places))
    assert decode(wire) == expected
    assert wire == encode([content])


@given(CONTENT, st.lists(st.integers(0, 200), max_size=6), st.integers(2, 9))
@settings(max_examples=300)
def test_lines_are_broken_the_same_for_every_split(content: bytes, places: list[int], limit: int) -> None:
    wire = encode(split(content, places), limit)
    assert wire == encode([content], limit)
    lines = decode(wire).split(b"\n")
    assert all(len(line) <= limit for line in lines)
    joined = b"".join(lines).replace(b" ", b"")
    assert joined == content.replace(b"\r", b"").replace(b"\n", b"")


def test_long_lines_as_postfix_breaks_them() -> None:
    assert encode([b"0123456789 more\n"], 10) == b"0123456789\r\n  more\r\n.\r\n"
    assert encode([b"0123456789\n"], 10) == b"0123456789\r\n.\r\n"
    assert encode([b"0123456789.x\n"], 10) == b"0123456789\r\n .x\r\n.\r\n"


def test_edges() -> None:
    assert encode([]) == b".\r\n"
    assert encode([b"."]) == b"..\r\n.\r\n"
    assert encode([b"\n", b".", b"\n"]) == b"\r\n..\r\n.\r\n"
    assert encode([b"a\r\nb"]) == b"a \r\nb\r\n.\r\n"
