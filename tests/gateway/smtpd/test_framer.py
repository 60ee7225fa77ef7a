"""The framer: every split of the input gives the same lines and the same content, and only CRLF.CRLF ends it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.smtpd.framer import Chunks, Data, Framer

CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r", b".", b".", b"a", b"..", b"\0", b"\r\n.", b"xyz", b"\r\n.\r"]),
    max_size=25,
).map(b"".join)
CUTS = st.lists(st.integers(0, 80), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(marks, marks[1:], strict=False)]


def decode(data: bytes, cuts: list[int], lenient: bool = False) -> tuple[bytes, Data, bytes]:
    """(content, decoder, what came behind the end)"""
    decoder, out, rest = Data(lenient, watch=True), b"", b""
    for piece in pieces(data, cuts):
        if decoder.done:
            rest += piece
        else:
            out += decoder.decode(piece)
            rest += decoder.rest
    return out, decoder, rest


def stuffed(text: bytes) -> bytes:
    """What a well-behaved client makes of lines with LF."""
    lines = text.split(b"\n")
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


@settings(max_examples=150)
@given(st.lists(st.sampled_from([b".", b"a", b"\n", b"..", b"\0", b"\xff", b" "]), max_size=30).map(b"".join), CUTS)
def test_what_a_client_encodes_is_decoded(text: bytes, cuts: list[int]) -> None:
    out, decoder, rest = decode(stuffed(text) + b"QUIT\r\n", cuts)
    assert (out, rest) == (text + b"\n", b"QUIT\r\n")
    assert decoder.done and not decoder.bare_lf


@settings(max_examples=300)
@given(CONTENT, CUTS, st.booleans())
def test_a_split_changes_nothing(data: bytes, cuts: list[int], lenient: bool) -> None:
    whole, decoder, rest = decode(data, [], lenient)
    out, other, other_rest = decode(data, cuts, lenient)
    assert (other.done, other.bare_lf, other_rest) == (decoder.done, decoder.bare_lf, rest)
    if decoder.done:
        assert out == whole
        assert other.raw == decoder.raw == len(data) - len(rest)


@settings(max_examples=300)
@given(CONTENT, CUTS)
def test_the_end_is_where_the_standard_says(data: bytes, cuts: list[int]) -> None:
    _, decoder, rest = decode(data, cuts)
    at = (b"\r\n" + data).find(b"\r\n.\r\n")
    assert decoder.done == (at >= 0)
    if at >= 0:
        assert rest == data[at + 3 :]


@settings(max_examples=300)
@given(CONTENT, CUTS)
def test_no_cr_gets_through(data: bytes, cuts: list[int]) -> None:
    for lenient in (False, True):
        assert b"\r" not in decode(data, cuts, lenient)[0]


@settings(max_examples=200)
@given(CONTENT, CUTS)
def test_chunks_are_taken_as_they_are_but_for_line_ends(data: bytes, cuts: list[int]) -> None:
    decoder = Chunks(watch=True)
    out = b"".join(decoder.decode(piece) for piece in pieces(data, cuts)) + decoder.finish()
    assert out == data.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    assert decoder.bare_lf == (data.count(b"\n") != data.count(b"\r\n"))


NO_ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r.\n", b"\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n..\r\n", b"\n..\n",
    b"\x0b.\x0b", b"\xc2\x85.\xc2\x85", b"\r\n.\x08\r\n",
]  # fmt: skip


@pytest.mark.parametrize("form", NO_ENDS)
def test_smuggling_forms_do_not_end_the_data(form: bytes) -> None:
    data = b"body" + form + b"MAIL FROM:<evil@x>\r\n"
    for cut in range(len(data)):
        out, decoder, _ = decode(data, [cut])
        assert not decoder.done
        assert b"MAIL FROM" in out


@pytest.mark.parametrize("end", [b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r\r\n"])
def test_lenient_clients_may_end_it_otherwise(end: bytes) -> None:
    out, decoder, rest = decode(b"a\n..b\r\nc" + end + b"RSET\r\n", [], lenient=True)
    assert (out, rest) == (b"a\n.b\nc\n", b"RSET\r\n")
    assert decoder.done


def test_stray_cr_stays_where_that_is_wanted() -> None:
    assert Data(replace_cr=False).decode(b"a\rb\r\n.\r\n") == b"a\rb\n"


def test_empty_message() -> None:
    assert decode(b".\r\n", [])[0] == b""
    assert decode(b".\r\n", [1])[1].done


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([b"NOOP\r\n", b"RSET\n", b"\r\n", b"x" * 30, b"MAIL", b"\r\r\n", b"\r"]), max_size=12).map(
        b"".join
    ),
    CUTS,
)
def test_lines_do_not_depend_on_splits(data: bytes, cuts: list[int]) -> None:
    def lines(parts: list[bytes]) -> list[tuple[bytes, bool]]:
        framer, found = Framer(limit=20), []
        for part in parts:
            framer.feed(part)
            while (line := framer.line()) is not None:
                found.append((line, framer.bare_lf))
        return found

    expected = []
    for line in data.split(b"\n")[:-1]:
        bare = not line.endswith(b"\r")
        expected.append(((line if bare else line[:-1])[:20], bare))
    assert lines(pieces(data, cuts)) == expected
    assert lines([data]) == expected


def test_a_line_without_end_takes_no_memory() -> None:
    framer = Framer(limit=2048)
    for _ in range(1000):
        framer.feed(b"X" * 10000)
        assert framer.line() is None
        assert len(framer) < 20000
    framer.feed(b"\r\nNOOP\r\n")
    assert framer.line() == b"X" * 2048
    assert framer.line() == b"NOOP"


def test_take_and_give_back() -> None:
    framer = Framer()
    framer.feed(b"BDAT 3\r\nabcNOOP\r\n")
    assert framer.line() == b"BDAT 3"
    assert framer.take(3) == b"abc"
    framer.give_back(b"RSET\r\n")
    assert [framer.line(), framer.line(), framer.line()] == [b"RSET", b"NOOP", None]
    assert framer.take(10) == b""


def test_64_kilobytes_cost_little() -> None:
    """Ten times the aim, so that a busy machine does not matter."""
    block = (b"x" * 60 + b"\r\n") * 1040 + b"..dot\r\n"
    best = 1.0
    for _ in range(5):
        decoder = Data()
        begin = time.perf_counter()
        decoder.decode(block)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.001


@pytest.mark.parametrize("decoder", [Data(lenient=True), Chunks(lenient=True)])
def test_a_run_of_carriage_returns_costs_little(decoder: Data | Chunks) -> None:
    begin = time.perf_counter()
    assert decoder.decode(b"\r" * 60_000 + b"x\r\r\ny") == b" " * 60_000 + b"x\ny"
    assert time.perf_counter() - begin < 0.1
