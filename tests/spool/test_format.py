"""The form of message files: round trips, broken input, and that mail readers can read them."""

import email
import email.policy
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spool import format
from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import SpoolError
from tests.spool.strategies import envelopes


@given(envelopes)
@settings(max_examples=150)
def test_decode_of_encode_is_identity(envelope: Envelope) -> None:
    block = format.encode(envelope, envelope.size)
    offset, size = format.measure(block[: format.HEAD])
    assert (offset, size) == (len(block), envelope.size)
    assert format.decode(block) == envelope
    assert block.isascii()


@given(envelopes, st.integers(0, 4000))
@settings(max_examples=60)
def test_room_that_was_kept_is_filled(envelope: Envelope, room: int) -> None:
    plain = format.encode(envelope, envelope.size)
    block = format.encode(envelope, envelope.size, room)
    assert len(block) == max(len(plain), room)
    assert format.decode(block) == envelope


@given(st.binary(max_size=200))
@example(b"X-Gateway-Envelope: 1 9999999999 000000000000001\n")
@example(b"X-Gateway-Envelope: 1 0000000049 000000000000001\n")
def test_any_bytes_raise_nothing_but_spool_error(noise: bytes) -> None:
    for block in (noise, b"X-Gateway-Envelope: 1 " + noise, _field(noise), _field(b" " + noise)):
        try:
            format.decode(block)
        except SpoolError:
            pass


def _field(lines: bytes) -> bytes:
    lines += b"\n"
    return b"X-Gateway-Envelope: 1 %010d %015d\n" % (format.HEAD + len(lines), 5) + lines


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b" ",
        b" {}",
        b" []",
        b' {"sender":1}',
        b' {"sender":"a","warned":1}',
        b' {"sender":"a","arrival":NaN}',
        b' {"sender":"a","arrival":' + b"9" * 400 + b"}",
        b' {"sender":"a","client":[]}',
        b' {"sender":"a","client":{"name":null}}',
        b' {"sender":"a"}\n {}',
        b' {"sender":"a"}\n {"address":"b","notify":"x"}',
        b' {"sender":"a"}\n{"address":"b"}',
        b' {"sender":"\xc3\xa9"}',
        b" " + b"[" * 100_000,
    ],
)
def test_broken_envelopes_are_refused(lines: bytes) -> None:
    with pytest.raises(SpoolError):
        format.decode(_field(lines))


@pytest.mark.parametrize("cut", [0, 10, format.HEAD - 1, format.HEAD, format.HEAD + 5, -1])
def test_cut_off_envelopes_are_refused(cut: int) -> None:
    block = format.encode(Envelope("a@b", [Recipient("c@d")]), 5)
    with pytest.raises(SpoolError):
        format.decode(block[:cut])


def test_unknown_names_are_skipped() -> None:
    envelope = format.decode(_field(b' {"sender":"a","later":[1]}\n {"address":"b","x":0}'))
    assert envelope == Envelope("a", [Recipient("b")], size=5)


def test_defaults_cost_no_bytes() -> None:
    block = format.encode(Envelope("a@b", [Recipient("c@d")], arrival=5.0), 1)
    assert block[format.HEAD :] == b' {"sender":"a@b","arrival":5.0}\n {"address":"c@d"}\n'


def test_a_mail_reader_sees_one_more_header_field() -> None:
    envelope = Envelope("a@b", [Recipient("c@d", original="é\udcff")], client=Client(name="x\ny"))
    content = b"Subject: hello\nTo: c@d\n\nbody\n"
    message = email.message_from_bytes(format.encode(envelope, len(content)) + content)
    assert [name for name, _ in message.items()] == ["X-Gateway-Envelope", "Subject", "To"]
    assert message["Subject"] == "hello"
    assert message.get_payload() == "body\n"


def test_lines_are_whole_json_lines() -> None:
    block = format.encode(Envelope("a\nb", [Recipient("c"), Recipient("d")]), 1)
    assert len(re.findall(rb"(?m)^ \{.*\}$", block)) == 3
