"""Where a header ends and what is in it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.header_scan import OPEN, OVER, end_of_header, end_of_mailbox_lines, is_field, scan, scan_some


def names(data):
    fields, end = scan(data, True)
    return [field.name for field in fields], data[end:]


@pytest.mark.parametrize(
    ("data", "found", "rest"),
    [
        (b"Subject: x\nTO: y\n\nbody\n", [b"subject", b"to"], b"\nbody\n"),
        (b"Subject: x\n folded\n\tmore\nTo: y\n", [b"subject", b"to"], b""),
        (b"\nbody\n", [], b"\nbody\n"),
        (b" continues nothing\n\n", [], b" continues nothing\n\n"),
        (b"A: b\nno header at all\nX-FAX-Dialstring: 9\n\n", [b"a"], b"no header at all\nX-FAX-Dialstring: 9\n\n"),
        (b"A: b\n\rX: c\n", [b"a"], b"\rX: c\n"),
        (b"A: b\n\r\nX: c\n", [b"a"], b"\r\nX: c\n"),
        (b"A: b\n\0X: c\n", [b"a"], b"\0X: c\n"),
        (b"A: b\n \nX-FAX-Y: c\n", [b"a", b"x-fax-y"], b""),
        (b"A : b\nA\t: c\n", [b"a", b"a"], b""),
        (b"A b: c\n", [], b"A b: c\n"),
        (b": c\n", [], b": c\n"),
        (b"\xc3\xa4: c\n", [], b"\xc3\xa4: c\n"),
        (b"", [], b""),
    ],
)
def test_fields_and_the_end(data, found, rest):
    assert names(data) == (found, rest)
    assert data[end_of_header(data) :] == rest


@pytest.mark.parametrize("lines", [999, 1000, 1001, 5000])
@pytest.mark.parametrize("rest", [b"", b"To: y\n", b"\nbody\n", b"body\n", b" begun", b"To: beg"])
def test_a_field_of_many_lines(lines, rest):
    field = b"X: a\n" + b" b\n" * lines
    whole = rest in (b"", b" begun", b"To: beg")
    fields, end, _ = scan_some(field + rest, 0, complete=True, size=1 << 20)
    assert fields[0].raw == field and end == len(field) + (len(rest) if rest == b"To: y\n" else 0)
    fields, end, state = scan_some(field + rest, 0, complete=False, size=1 << 20)
    assert (state is OPEN) == (whole or rest == b"To: y\n")
    assert [one.raw for one in fields] == ([] if whole else [field])


def test_more_is_needed_until_a_line_ends_the_header():
    assert scan(b"A: b\n", False) is None
    assert scan(b"A: b\nno head", False) is None
    assert scan(b"A: b\n ", False) is None
    assert scan(b"", False) is None
    assert scan(b"A: b\n\n", False) is not None
    assert scan(b"A: b\nno header\n", False) is not None


def test_a_value_has_no_blanks_around_it():
    fields, _ = scan(b"Message-ID:\n <a@b> \n", True)
    assert fields[0].value == b"<a@b>"


def test_blanks_before_the_colon_are_left_out():
    fields, _ = scan(b"To : a\nX\t :  z\n y : z\nA: b : c\n", True)
    assert [field.raw for field in fields] == [b"To: a\n", b"X:  z\n y : z\n", b"A: b : c\n"]


def test_mailbox_lines():
    assert end_of_mailbox_lines(b"From a b\n>From c d\nSubject: x\n") == len(b"From a b\n>From c d\n")
    assert end_of_mailbox_lines(b"From a\nFrom b") == len(b"From a\n")
    assert end_of_mailbox_lines(b"From: a\n") == end_of_mailbox_lines(b"") == 0


def test_many_mailbox_lines_cost_little():
    begin = time.perf_counter()
    assert end_of_mailbox_lines(b"From a\n" * 1_400_000) == 9_800_000
    assert time.perf_counter() - begin < 0.5


def test_what_can_stand_in_a_header():
    assert is_field(b"A: b") and is_field(b"A: b\n c\n")
    assert not is_field(b"A b\n") and not is_field(b"A: b\nC: d\n") and not is_field(b"A: b\n\n")


@given(st.lists(st.sampled_from([b"A: b", b" c", b"\td", b"", b"x", b"E:", b"\r", b"From f", b"G\0: h"]), max_size=12))
def test_nothing_is_lost_and_every_split_agrees(lines):
    data = b"".join(line + b"\n" for line in lines)
    fields, end = scan(data, True)
    assert b"".join(field.raw for field in fields) == data[:end]
    for cut in range(len(data)):
        early = scan(data[:cut], False)
        assert early is None or early[1] == end


def in_pieces(data, cuts, most):
    """Fields and the end, from data that comes cut up, a few fields at a time."""
    fields, at, come = [], 0, 0
    for come in sorted({*(cut % (len(data) + 1) for cut in cuts), len(data)}):
        state = ""
        while state not in (OPEN, OVER):
            some, at, state = scan_some(data[:come], at, come == len(data), most)
            fields += some
        if state is OVER:
            break
    return fields, at


@given(
    st.lists(
        st.sampled_from([b"A: b\n", b"To : c\n", b" d\n", b"\te\n", b"\n", b"no field\n", b"a:\n", b"X:", b" "]),
        max_size=12,
    ),
    st.lists(st.integers(min_value=0), max_size=4),
    st.integers(min_value=1, max_value=3),
)
def test_in_pieces_it_comes_to_the_same(lines, cuts, most):
    data = b"".join(lines)
    assert in_pieces(data, cuts, most) == scan(data, True)
