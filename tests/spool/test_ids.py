"""Queue IDs: form, order, uniqueness."""

import os
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from spool import ids


def test_form_is_postfix_long_form() -> None:
    id = ids.Generator(lambda: 1795528584.123456).next()
    assert re.fullmatch(r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]{8}", id)
    assert re.fullmatch(r"[0-9A-Za-z]{10,}", id)
    # The first six characters are what Postfix 3.7 wrote at that second.
    assert id.startswith("4jYkqr")


@given(st.floats(min_value=0, max_value=9e9))
@settings(max_examples=100)
def test_time_comes_back(now: float) -> None:
    id = ids.Generator(lambda: now).next()
    assert abs(ids.time_of(id) - now) < 0.000002
    assert ids.valid(id)


def test_time_of_foreign_ids_is_unknown() -> None:
    assert ids.time_of("68E373F") == 0.0
    assert ids.time_of("") == 0.0


def test_each_microsecond_once_even_when_the_clock_steps_back() -> None:
    times = iter([100.0, 100.0, 50.0, 100.000001, 101.0])
    generator = ids.Generator(lambda: next(times), lambda count: bytes(count))
    made = [generator.next() for _ in range(5)]
    assert len(set(made)) == 5
    assert made == sorted(made)


def test_order_is_time() -> None:
    clock = [0.0]
    generator = ids.Generator(lambda: clock[0])
    made = []
    for clock[0] in (1.5, 51.9, 52.0, 99999.999999, 1e9, 1795528584.0, 9e9):
        made.append(generator.next())
    assert made == sorted(made)


def test_two_processes_at_the_same_time_differ() -> None:
    one, two = ids.Generator(lambda: 7.0), ids.Generator(lambda: 7.0)
    a = {one.next() for _ in range(1000)}
    b = {two.next() for _ in range(1000)}
    assert len(a | b) == 2000


def test_a_forked_child_draws_anew() -> None:
    times = [5.0]
    generator = ids.Generator(lambda: times[0])
    generator.next()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, generator.next().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != generator.next()
    os.close(reader)
    os.close(writer)


def test_valid() -> None:
    assert ids.valid("NOSUCHID99")
    assert ids.valid("all")
    for bad in ("", "../..", "a.b", "a b", "a\n", "é", "a" * 101, "a/b", "bad!id", "\0"):
        assert not ids.valid(bad), bad
