"""The order in which messages are due, in bounded memory."""

from hypothesis import given, settings
from hypothesis import strategies as st

from spool.names import Place
from spool.shelf import Shelf


def place(number: int) -> Place:
    return Place("deferred", f"id{number}", number + 1)


def scan(shelf: Shelf, folder: dict[str, tuple[float, Place]], now: float) -> None:
    shelf.begin_scan()
    shelf.end_scan(sorted(folder.values(), key=lambda one: one[0])[: shelf.most], now, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60),
    st.integers(1, 5),
)
@settings(max_examples=150)
def test_everything_is_taken_in_order_whatever_fits(steps: list[tuple[int, bool]], most: int) -> None:
    """Messages come, time passes, what is due is taken: nothing is missed, and nothing is taken too early."""
    shelf = Shelf("deferred", most, 1e9)
    folder: dict[str, tuple[float, Place]] = {}
    now, number, taken = 0.0, 0, []
    scan(shelf, folder, now)
    for value, pause in steps:
        if pause:
            now += value
        else:
            one = place(number)
            number += 1
            folder[one.id] = (now + value, one)
            shelf.put(now + value, one)
        while True:
            found = shelf.take(now)
            if found is None and shelf.wants_scan(now, now):
                scan(shelf, folder, now)
                found = shelf.take(now)
            if found is None:
                break
            if found.id in folder:
                due, _ = folder.pop(found.id)
                assert due <= now
                taken.append(found.id)
        assert all(due > now for due, _ in folder.values())
        assert len(shelf._heap) <= 2 * most
    assert len(taken) + len(folder) == number


def test_nothing_is_wanted_in_vain() -> None:
    shelf = Shelf("deferred", 10, 60.0)
    assert shelf.wants_scan(0, 0)
    scan(shelf, {}, 0)
    assert not shelf.wants_scan(59, 59)
    assert shelf.wants_scan(60, 60)
    assert shelf.next_due() is None


def test_looks_that_take_long_are_rare() -> None:
    shelf = Shelf("deferred", 10, 60.0)
    shelf.begin_scan()
    shelf.end_scan([], 0, 2.0)
    assert not shelf.wants_scan(199, 199)
    assert shelf.wants_scan(200, 200)


def test_what_comes_during_a_look_is_not_lost() -> None:
    shelf = Shelf("deferred", 10, 60.0)
    shelf.begin_scan()
    assert not shelf.wants_scan(100, 100)
    shelf.put(5, place(1))
    shelf.look_soon()
    shelf.end_scan([], 0, 0.0)
    assert shelf.take(6) == place(1)
    assert shelf.wants_scan(6, 6)


def test_a_failed_look_is_repeated_later() -> None:
    shelf = Shelf("deferred", 10, 60.0)
    shelf.begin_scan()
    shelf.scan_failed(0)
    assert not shelf.wants_scan(59, 59)
    assert shelf.wants_scan(60, 60)


def test_the_same_message_twice() -> None:
    shelf = Shelf("deferred", 10, 60.0)
    scan(shelf, {}, 0)
    shelf.put(5, place(1))
    shelf.put(5, place(1))
    assert [shelf.take(5), shelf.take(5), shelf.take(5)] == [place(1), place(1), None]
