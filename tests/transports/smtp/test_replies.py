"""Replies, cut anywhere, and what is no reply."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.smtp.replies import LONGEST_LINE, MOST_LINES, ProtocolError, Reply, ReplyReader


def read(*pieces: bytes) -> list[Reply]:
    reader, found = ReplyReader(), []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.take()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(
    ("wire", "code", "dsn", "text"),
    [
        (b"250 2.1.0 Ok\r\n", 250, "2.1.0", "250 2.1.0 Ok"),
        (b"250\r\n", 250, "2.0.0", "250"),
        (b"550 no such user here\n", 550, "5.0.0", "550 no such user here"),
        (b"250-2.6.0 a\r\n250 2.7.0 b\r\n", 250, "2.7.0", "250-2.6.0 a 250 2.7.0 b"),
        (b"250-ok\r\n554 no\r\n", 554, "5.0.0", "250-ok 554 no"),
        (b"250 5.1.1 hm\r\n", 250, "2.0.0", "250 5.1.1 hm"),
        (b"554 2.1.1 hm\r\n", 554, "5.0.0", "554 2.1.1 hm"),
        (b"450 4.2.1000 x\r\n", 450, "4.0.0", "450 4.2.1000 x"),
        (b"354 hm\r\n", 354, "5.5.0", "354 hm"),
        (b"200 x\x07y\x9b\xc2\x9b\x1b[2J\r\n", 200, "2.0.0", "200 x?y???[2J"),
    ],
)
def test_code_enhanced_code_and_text(wire: bytes, code: int, dsn: str, text: str) -> None:
    (reply,) = read(wire)
    assert (reply.code, reply.dsn) == (code, dsn)
    assert reply.text == text


@pytest.mark.parametrize(
    "wire",
    [b"hello\r\n", b"100 x\r\n", b"999 x\r\n", b"+22 x\r\n", b" 22 x\r\n", b"22\r\n", b"2222 x\r\n", b"250_x\r\n",
     b"\r\n", b"250-x\r\n\r\n", b"\xb2\xb2\xb2 x\r\n", b"250\tx\r\n"],
)
def test_what_is_no_reply(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(wire)


@given(st.lists(st.sampled_from([b"250 Ok\r\n", b"250-a\r\n250 b\r\n", b"354 x\n", b"550\r\n"]), max_size=6), st.data())
@settings(max_examples=100)
def test_every_split_gives_the_same(replies: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(replies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert [(each.code, each.lines) for each in read(*pieces)] == [(each.code, each.lines) for each in read(wire)]
    assert len(read(wire)) == len(replies)


def test_long_lines_are_cut_and_read_on() -> None:
    long = b"250 " + b"x" * (5 * LONGEST_LINE)
    for pieces in ([long + b"\r\n250 next\r\n"], [long[:3000], long[3000:9000], long[9000:] + b"\r\n250 next\r\n"]):
        first, second = read(*pieces)
        assert first.lines == [long[:LONGEST_LINE]] and second.text == "250 next"


def test_many_lines_are_dropped() -> None:
    (reply,) = read(b"250-x\r\n" * 500 + b"250 y\r\n")
    assert len(reply.lines) == MOST_LINES + 1 and reply.lines[-1] == b"250 y"


@pytest.mark.parametrize("piece", [b"250-" + b"x" * 496 + b"\r\n", b"x" * 50000])
def test_a_reply_without_end_is_given_up_and_takes_no_room(piece: bytes) -> None:
    reader = ReplyReader()
    with pytest.raises(ProtocolError):
        for _ in range(10000):
            reader.feed(piece)
            assert reader.take() is None
            assert len(reader._buffer) + sum(map(len, reader._lines)) < 300_000


def test_the_text_of_many_lines_is_cut() -> None:
    """It is kept for each recipient; as in Postfix, no line is begun behind the limit."""
    (reply,) = read((b"550-" + b"x" * 996 + b"\r\n") * 90 + b"550 5.7.1 y\r\n")
    assert reply.dsn == "5.7.1" and len(reply.text) == 3 * 1000 + 2


def test_many_short_lines_cost_little() -> None:
    begin = time.perf_counter()
    for _ in range(5):
        read(b"250-\n" * 13_000 + b"250 \n")
    assert time.perf_counter() - begin < 0.5
