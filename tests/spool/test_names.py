"""File names of messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import names
from spool.names import Place

ID = "4jYkyd4mV7zNMs8ytbt"

places = st.builds(
    Place,
    st.sampled_from(names.FOLDERS),
    st.text("0123456789ABCabc_", min_size=1, max_size=20),
    st.integers(0, 10**11),
    st.integers(0, 10**8),
    st.booleans(),
    st.booleans(),
)


@given(places)
def test_what_a_name_says_comes_back(place: Place) -> None:
    assert names.place(place.folder, "new", place.name) == place


def test_the_forms() -> None:
    assert Place("incoming", ID).name == ID
    assert Place("deferred", ID, 1795528584, 3).name == f"1795528584.{ID}.3"
    assert Place("hold", ID, 5, 0, True).name == f"0000000005.{ID}.0e"
    assert Place("deferred", ID, 5).requeued(7).name == f"0000000007.{ID}.0r"
    assert Place("deferred", ID, 5, 0, True, True).name == f"0000000005.{ID}.0er"


def test_where_a_message_is() -> None:
    place = Place("deferred", ID, 1795528584, 3)
    assert names.at(place.where) == place
    assert names.at("") is names.at("x") is None


def test_names_sort_by_time() -> None:
    assert Place("deferred", ID, 999).name < Place("deferred", ID, 1000).name


def test_a_mail_reader_has_moved_it() -> None:
    place = names.place("deferred", "cur", f"1795528584.{ID}.3:2,RS")
    assert place is not None
    assert (place.id, place.due, place.attempts) == (ID, 1795528584, 3)
    assert place.name == f"1795528584.{ID}.3:2,RS"
    assert place.moved("hold").name == f"1795528584.{ID}.3"
    assert place.moved("hold").sub == "new"


@pytest.mark.parametrize(
    "name",
    ["", "a.b", "1.2", "1795528584.M1P2.host", f"{ID}.3", f"1.{ID}", f"1.{ID}.3x", f"1.{ID}.-3", "a b", "a/b", "é",
     f"{ID}:1,x", f"{ID}\n", "x" * 101, f"1234567890123.{ID}.0"],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert names.place("incoming", "new", name) is None


def test_a_message_is_due_the_second_after() -> None:
    assert Place("incoming", ID).deferred(10.2, 1).due == 11
    assert Place("incoming", ID).deferred(0, 1).due == 1
