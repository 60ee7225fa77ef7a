"""faxmail gets no orders from the mail: X-FAX-* fields never reach it, however they are hidden."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.interfaces import BOUNCED, DEFERRED
from transports import fax
from transports.fax import FaxGuard
from transports.process import Ending, Outcome
from transports.verdict import judge


def filtered(data: bytes, size: int = 65536) -> tuple[bytes, list[str]]:
    notes: list[str] = []
    blocks = iter([data[at : at + size] for at in range(0, len(data), size)])
    return b"".join(FaxGuard().filter(blocks, notes)), notes


def obeyed(data: bytes) -> list[bytes]:
    """The fields that faxmail takes from a message: it reads to the first empty LF line, and is not choosy."""
    head = data if b"\n\n" not in data else data[: data.index(b"\n\n")]
    head = b"" if data.startswith(b"\n") else head
    return [line for line in re.split(rb"[\n\0]", head) if re.match(rb"(?i)[\s\0]*x-fax-[^ :]*:", line)]


HIDDEN = [
    b"X-FAX-Dialstring: 9\nSubject: s\n\nbody\n",
    b"Subject: s\nx-fax-MaxDials:9\n\nbody\n",
    b"From a@b  Tue Nov 24 10:25:42 2026\nX-FAX-Host:\t9\n\nbody\n",
    b"From a\n>From b remote from c\nX-FAX-Host: 9\n\nbody\n",
    b"Subject: s\r\nX-FAX-Dialstring: 9\r\n\r\nbody\r\n",
    b"Subject: s\nno colon here\nX-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\n \nX-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\n\r\nX-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\0\nX-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\0X-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\n\0X-FAX-Dialstring: 9\n\nbody\n",
    b"Subject: s\n\0\nX-FAX-Dialstring: 9\n\nbody\n",
    b"X-FAX-Dialstring:\n 9\nX-FAX-Host: 1\n\nbody\n",
    b"Subject: s\n: x\nX-FAX-Host: 1\n\nbody\n",
    "Sübject: s\nX-FAX-Host: 1\n\nbody\n".encode(),
    b"Subject: s\nX-FAX-Host: 1",
    b"X" * 70000 + b"\nX-FAX-Host: 1\n\nbody\n",
]


@pytest.mark.parametrize("data", HIDDEN)
@pytest.mark.parametrize("size", [1, 3, 65536])
def test_no_order_gets_through(data: bytes, size: int) -> None:
    if size < 3 and len(data) > 1000:
        return
    assert obeyed(data) or b"\r" in data or b"X" * 70000 in data
    assert obeyed(filtered(data, size)[0]) == []


@settings(max_examples=200)
@given(st.lists(st.sampled_from(
    [b"X-FAX-A: 1", b"x-fax-b:2", b"Subject: x", b"From a", b"", b" ", b"\r", b"\0", b"no colon", b"\n", b" folded"]),
    max_size=14), st.integers(1, 30))
def test_no_order_gets_through_at_all(parts: list[bytes], size: int) -> None:
    data = b"\n".join(parts)
    assert obeyed(filtered(data, size)[0]) == []


def test_a_header_without_an_end_is_ended() -> None:
    field = b"Subject: x\n" * 100_000
    cleaned, _ = filtered(field + b"X-FAX-Host: 1\n\nbody\n")
    assert obeyed(cleaned) == [] and b"\n\n" in cleaned


def test_what_remains_is_as_it_was() -> None:
    data = b"From a@b  DATE\nReceived: by x;\n\tdate\nX-FAX-Host: 1\n folded\nSubject: s\n\nbody\nX-FAX-Host: body\n"
    cleaned, notes = filtered(data, 7)
    assert cleaned == b"From a@b  DATE\nReceived: by x;\n\tdate\nSubject: s\n\nbody\nX-FAX-Host: body\n"
    assert notes == ["1 X-FAX header field taken out: faxmail would obey them"]
    assert filtered(cleaned) == (cleaned, [])


def test_line_ends_are_lf() -> None:
    assert filtered(b"Subject: s\r\n\r\na\rb\r\r\nc\r\n", 1)[0] == b"Subject: s\n\na\rb\nc\n"


@pytest.mark.parametrize("recipient", ["-d911@fax", "\n900@fax", "9\x1b0@fax", "@fax", "fax"])
def test_numbers_that_are_none(recipient: str) -> None:
    refusal = FaxGuard().refuse_recipient(recipient)
    assert refusal is not None and refusal.dsn == "5.1.3"


def test_numbers_that_are() -> None:
    assert FaxGuard().refuse_recipient("+49-30-5556789@fax") is None
    assert FaxGuard().refuse_recipient("555 1234;id@fax") is None


@pytest.mark.parametrize("output, status", [
    (b'Can not reach service hylafax at host "localhost"', DEFERRED),
    (b"No Destination/Dialstring specified.", BOUNCED),
    (b"", BOUNCED),
])
def test_status_255(output: bytes, status: str) -> None:
    outcome = Outcome(Ending.EXITED, 255, output)
    assert FaxGuard().judge(outcome, judge(outcome, "faxmail")).status == status


@pytest.mark.parametrize("argv, guarded", [
    (["/usr/bin/faxmail", "-d"], True),
    (["/run/record", "/usr/bin/faxmail", "-d"], True),
    (["/bin/sh", "-c", "exec faxmail -d -n 1"], True),
    (["/usr/local/bin/notfaxmail"], False),
    (["/bin/cat", "faxmail.txt"], False),
])
def test_who_is_guarded(argv: list[str], guarded: bool) -> None:
    assert (fax.guard_for(argv) is not None) is guarded
