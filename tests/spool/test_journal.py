"""Journals: what was recorded comes back, whatever else stands in the file."""

from hypothesis import given, settings
from hypothesis import strategies as st

from spool import journal
from spool.envelope import Envelope, Recipient
from spool.interfaces import Progress, RecipientState
from tests.spool.strategies import envelopes, progress

FOUR = Envelope("a@b", [Recipient(f"{number}@x") for number in range(4)], size=9)


def expected(records: list[list[Progress]]) -> list[RecipientState]:
    states = [RecipientState() for _ in range(4)]
    for one in (one for some in records for one in some):
        states[one.index] = one.state
    return states


@given(st.lists(st.lists(progress, min_size=1, max_size=4), max_size=4))
@settings(max_examples=100)
def test_the_last_record_of_a_recipient_counts(records: list[list[Progress]]) -> None:
    data = b"".join(journal.results(some) for some in records)
    replayed = journal.replay(data, FOUR)
    assert replayed.states == expected(records)
    assert replayed.damaged == 0
    again = journal.replay(journal.compact(replayed), FOUR)
    assert again.states == replayed.states


@given(envelopes)
@settings(max_examples=60)
def test_an_amendment_changes_all_but_recipients_and_size(envelope: Envelope) -> None:
    replayed = journal.replay(journal.amendment(envelope), FOUR)
    assert replayed.envelope.recipients == FOUR.recipients
    assert replayed.envelope.size == 9
    replayed.envelope.recipients, replayed.envelope.size = envelope.recipients, envelope.size
    assert replayed.envelope == envelope
    assert journal.replay(journal.compact(replayed), FOUR).envelope.sender == envelope.sender


@given(st.lists(progress, min_size=1, max_size=3), st.integers(0, 400))
@settings(max_examples=100)
def test_a_record_that_was_cut_off_spoils_itself_only(records: list[Progress], cut: int) -> None:
    first = journal.results([Progress(0, RecipientState(True, "sent"))])
    torn = journal.results(records)
    last = journal.results([Progress(1, RecipientState(False, "deferred"))])
    replayed = journal.replay(first + torn[: min(cut, len(torn) - 2)] + last, FOUR)
    if all(one.index != 0 for one in records):
        assert replayed.states[0] == RecipientState(True, "sent")
    assert replayed.states[1] == RecipientState(False, "deferred")
    assert replayed.damaged <= 1


@given(st.binary(max_size=100))
def test_any_bytes_are_survived(noise: bytes) -> None:
    journal.replay(noise, FOUR)
    journal.replay(b'{"i":' + noise + b"}\n", FOUR)
    journal.replay(b'{"envelope":' + noise + b"}\n", FOUR)


def test_what_cannot_be_understood_is_counted() -> None:
    lines = [
        b"x", b"[]", b"{}", b'{"i":4}', b'{"i":-1}', b'{"i":true}', b'{"i":0,"status":1}', b'{"i":0,"details":[]}',
        b'{"i":0,"recipient":7}', b'{"i":0,"recipient":{}}', b'{"i":0,"others":{}}', b'{"i":0,"others":[1]}',
        b'{"i":0,"others":[{"status":1}]}',
        b'{"i":0,"details":{"a":1}}', b'{"envelope":{}}', b'{"other":1}', b"\xff", b"[" * 100_000,
    ]
    replayed = journal.replay(b"\n".join(lines), FOUR)
    assert replayed.damaged == len(lines)
    assert replayed.states == [RecipientState()] * 4
