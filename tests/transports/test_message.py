"""Messages are written as flags want it, whatever the size of the blocks; headers are found."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.support import Bytes
from transports import message
from transports.message import Form

LINES = st.lists(
    st.sampled_from([b"", b".", b"..x", b"From ", b"From a", b">From ", b" From", b"x" * 7, b"F"]), max_size=12)


def written(data: bytes, form: Form, top: bytes = b"") -> bytes:
    return b"".join(message.encode(Bytes(data), top, form))


@settings(max_examples=150)
@given(LINES, st.integers(5, 20), st.booleans(), st.booleans(), st.booleans())
def test_any_block_size_gives_the_same(lines: list[bytes], size: int, quote: bool, dots: bool, last: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if last else b"")
    form = Form(quote, dots, b"\r\n")
    expected = data
    if quote:
        expected = re.sub(rb"(?m)^From ", b">From ", expected)
    if dots:
        expected = re.sub(rb"(?m)^\.", b"..", expected)
    if expected and not expected.endswith(b"\n"):
        expected += b"\n"
    block, message.BLOCK = message.BLOCK, size
    try:
        assert written(data, form) == expected.replace(b"\n", b"\r\n")
    finally:
        message.BLOCK = block


def test_mbox() -> None:
    top = message.from_line("a b@c", 0) + message.return_path("a b@c") + message.delivered_to("x@y")
    text = written(b"S: x\n\nFrom me\n.", message.MBOX, top).decode()
    assert re.fullmatch(
        'From "a b"@c  [A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]\\d \\d\\d:\\d\\d:\\d\\d \\d{4}\n'
        'Return-Path: <"a b"@c>\nDelivered-To: x@y\nS: x\n\n>From me\n.\n\n', text)


def test_the_empty_sender() -> None:
    assert message.from_line("", 0).startswith(b"From MAILER-DAEMON  ")
    assert message.return_path("") == b"Return-Path: <>\n"


def test_a_line_on_top_is_one_line() -> None:
    assert message.delivered_to("a\nX-Evil: 1@b") == b'Delivered-To: "a?X-Evil: 1"@b\n'
    assert message.original_to("") == b""


def test_an_empty_message() -> None:
    assert written(b"", message.PLAIN, b"Top: x\n") == b"Top: x\n"


@pytest.mark.parametrize("header, found", [
    (b"Delivered-To: A@b\n\n", ["A@b"]),
    (b"delivered-to:\n A@b\nSubject: x\nDELIVERED-TO : c@d\n\nDelivered-To: body@x\n", ["A@b", "c@d"]),
    (b"no header\nDelivered-To: a@b\n", []),
    (b"\nDelivered-To: a@b\n", []),
    (b"X: y\nDelivered-To: a@b\n c\nnone\nDelivered-To: c@d\n", ["a@b c"]),
    (b"Subject: x", []),
])
def test_header_values(header: bytes, found: list[str]) -> None:
    assert message.header_values(Bytes(header), b"delivered-to") == found


def test_mail_that_goes_round() -> None:
    content = Bytes(b'Delivered-To: "Two Words"@b.example\n\nx\n')
    assert message.has_been_at(content, "two words@B.example")
    assert not message.has_been_at(content, "words@b.example")


def test_a_header_of_many_fields_costs_little() -> None:
    """It is looked through for each recipient."""
    content = Bytes(b"a:\n" * 300_000 + b"Delivered-To: b@c\n\n")
    begin = time.perf_counter()
    assert message.header_values(content, b"delivered-to") == ["b@c"]
    assert time.perf_counter() - begin < 0.1
