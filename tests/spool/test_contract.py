"""What every ISpool does, whatever it keeps messages in: the same tests for all providers."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from spool import format
from spool.changes import REQUEUE_PAUSE
from spool.envelope import Envelope, Recipient
from spool.interfaces import Changes, IDraft, ISpool, Progress, RecipientState, SpoolError
from spool.maildir import MaildirSpool
from spool.memory import MemorySpool

START = 1_795_528_584.0


class Reactor(Clock):
    """Time that a test moves; "threads" do their work at once."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = START

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.callLater(0, function, *arguments)

    def callInThread(self, function: Any, *arguments: Any) -> None:
        function(*arguments)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine, after all that it waits for has been done."""
        outcome: list[Any] = []
        done = Deferred.fromCoroutine(work)
        done.addBoth(outcome.append)
        for number in range(1000):
            if outcome:
                break
            self.advance(0 if number % 50 < 49 else 0.01)  # removals are some time apart
        assert outcome, "does not end"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture(params=["memory", "maildir"])
def spool(request: pytest.FixtureRequest, reactor: Reactor, tmp_path: Path) -> Any:
    if request.param == "memory":
        return MemorySpool(reactor=reactor)
    spool = MaildirSpool(tmp_path / "spool", reactor=reactor, threads=reactor)
    spool.start()
    return spool


@pytest.fixture
def store(spool: Any, reactor: Reactor) -> Callable[..., str]:
    def store(*recipients: str, data: bytes = b"Subject: x\n\nbody\n", hold: bool = False) -> str:
        envelope = Envelope("a@b", [Recipient(address) for address in recipients or ["c@d"]], reactor.seconds())
        draft = spool.draft(envelope)
        draft.write(data)
        reactor.run(draft.commit(hold))
        reactor.advance(1)
        return draft.id

    return store


def read(spool: Any, reactor: Reactor, id: str) -> bytes:
    content = reactor.run(spool.content(id))
    try:
        return content.read()
    finally:
        content.close()


def done(index: int) -> Progress:
    return Progress(index, RecipientState(True, "sent", "2.0.0", "ok", "relay[1]:25"))


def deferred(index: int) -> Progress:
    return Progress(index, RecipientState(False, "deferred", "4.0.0", "busy", "none", {"remote_mta": "dns; x"}))


def test_provides_its_interfaces(spool: Any) -> None:
    verifyObject(ISpool, spool)
    verifyObject(IDraft, spool.draft(Envelope("")))


def test_a_new_message_is_claimed_once_as_it_was(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store("c@d", "e@f", data=b"A: b\n\nx")
    [entry] = reactor.run(spool.claim(10))
    assert (entry.id, entry.queue, entry.attempts, entry.expire) == (id, "incoming", 0, False)
    assert entry.envelope.sender == "a@b"
    assert [one.address for one in entry.envelope.recipients] == ["c@d", "e@f"]
    assert entry.envelope.size == 7
    assert entry.states == [RecipientState(), RecipientState()]
    assert read(spool, reactor, id) == b"A: b\n\nx"
    assert reactor.run(spool.claim(10)) == []


def test_an_id_may_be_known_before_there_is_a_draft(spool: Any, reactor: Reactor) -> None:
    early = spool.new_id()
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]), early)
    assert draft.id == early != spool.draft(Envelope("")).id
    draft.write(b"x")
    reactor.run(draft.commit())
    assert read(spool, reactor, early) == b"x"


def test_nothing_is_there_before_commit_or_after_abort(spool: Any, reactor: Reactor) -> None:
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
    draft.write(b"x" * 200_000)
    assert reactor.run(spool.claim(10)) == []
    draft.abort()
    draft.abort()
    reactor.advance(20)
    assert reactor.run(spool.claim(10)) == []
    assert reactor.run(spool.listing()) == []
    with pytest.raises(SpoolError):
        reactor.run(draft.commit())


@pytest.mark.parametrize("size", [1, 200_000])
def test_commit_gives_the_envelope_as_it_was_stored(spool: Any, reactor: Reactor, size: int) -> None:
    draft = spool.draft(Envelope("a@b", [Recipient("c@d", "x@y")], reactor.seconds()))
    draft.write(b"x" * size)
    stored = reactor.run(draft.commit())
    assert format.decode(stored) == draft.envelope
    assert draft.envelope.size == size


def test_abort_after_commit_has_no_effect(spool: Any, reactor: Reactor) -> None:
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
    draft.write(b"x")
    reactor.run(draft.commit())
    draft.abort()
    assert read(spool, reactor, draft.id) == b"x"


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 100_001, 3_000_000])
@pytest.mark.parametrize("piece", [1 << 30, 65_536, 40_001])
def test_content_of_any_size_comes_back(spool: Any, reactor: Reactor, size: int, piece: int) -> None:
    data = os.urandom(size)
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
    for start in range(0, size, piece):
        draft.write(data[start : start + piece])
    reactor.run(draft.commit())
    assert draft.envelope.size == size
    reactor.advance(20)
    [entry] = reactor.run(spool.claim(1))
    assert entry.envelope.size == size
    assert read(spool, reactor, entry.id) == data


@pytest.mark.parametrize("recipients", [1, 2000])
def test_the_envelope_is_the_one_at_commit(spool: Any, reactor: Reactor, recipients: int) -> None:
    data = b"y" * 150_000
    draft = spool.draft(Envelope("a@b", [Recipient("first@d")]))
    draft.write(data)
    draft.envelope.sender = "other@b"
    draft.envelope.recipients = [Recipient(f"user{number}@example.com") for number in range(recipients)]
    reactor.run(draft.commit())
    reactor.advance(20)
    [entry] = reactor.run(spool.claim(1))
    assert entry.envelope == draft.envelope
    assert read(spool, reactor, draft.id) == data


def test_content_in_parts_and_by_descriptor(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store(data=b"0123456789")
    content = reactor.run(spool.content(id))
    assert content.size == 10
    assert content.read(3) == b"012"
    assert content.read(3) == b"345"
    assert os.pread(content.fileno(), 100, content.offset) == b"0123456789"
    assert content.read() == b"6789"
    assert content.read() == b""
    content.seek(8)
    assert content.read() == b"89"
    content.close()


def test_content_of_what_is_not_there(spool: Any, reactor: Reactor) -> None:
    with pytest.raises(SpoolError):
        reactor.run(spool.content("4jYkyd4mV7zNMs8ytbt"))


def test_adopt_leases_without_reading(spool: Any, reactor: Reactor) -> None:
    envelope = Envelope("a@b", [Recipient("c@d")])
    draft = spool.draft(envelope)
    draft.write(b"x")
    reactor.run(draft.commit())
    entry = spool.adopt(draft.id, envelope)
    assert (entry.id, entry.envelope, entry.states) == (draft.id, envelope, [RecipientState()])
    assert spool.adopt(draft.id, envelope) is None
    assert reactor.run(spool.claim(10)) == []
    assert read(spool, reactor, draft.id) == b"x"


def test_adopt_of_what_was_claimed_is_refused_for_ever(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    id = store()
    envelope = Envelope("a@b", [Recipient("c@d")])
    reactor.run(spool.claim(1))
    assert spool.adopt(id, envelope) is None
    reactor.run(spool.release(id, reactor.seconds() + 1000))
    assert spool.adopt(id, envelope) is None
    reactor.advance(300)
    assert spool.adopt(id, envelope) is None
    assert reactor.run(spool.claim(10)) == []


def test_a_released_entry_comes_back_when_it_is_due(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    id = store("c@d", "e@f")
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(id, [done(0), deferred(1)]))
    due = reactor.seconds() + 300
    reactor.run(spool.release(id, due))
    assert due <= spool.next_due() <= due + 1
    assert reactor.run(spool.claim(1)) == []
    reactor.advance(299)
    assert reactor.run(spool.claim(1)) == []
    reactor.advance(2)
    [entry] = reactor.run(spool.claim(1))
    assert (entry.id, entry.queue, entry.attempts) == (id, "deferred", 1)
    assert entry.states == [done(0).state, deferred(1).state]
    assert spool.next_due() is None


def test_a_later_result_overrides(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store()
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(id, [deferred(0)]))
    reactor.run(spool.progress(id, [done(0)]))
    reactor.run(spool.release(id, reactor.seconds()))
    reactor.advance(2)
    [entry] = reactor.run(spool.claim(1))
    assert entry.states == [done(0).state]


def test_oldest_due_first_and_not_more_than_asked_for(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    made = [store() for _ in range(5)]
    assert [entry.id for entry in reactor.run(spool.claim(2))] == made[:2]
    assert [entry.id for entry in reactor.run(spool.claim(0))] == []
    assert [entry.id for entry in reactor.run(spool.claim(10))] == made[2:]
    for number, id in enumerate(made):
        reactor.run(spool.release(id, reactor.seconds() + 100 - 10 * number))
    reactor.advance(200)
    assert [entry.id for entry in reactor.run(spool.claim(10))] == made[::-1]


def test_a_finished_entry_is_gone(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store("c@d", "e@f")
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(id, [done(0)]))
    reactor.run(spool.finish(id))
    reactor.advance(1000)
    assert reactor.run(spool.claim(1)) == []
    assert reactor.run(spool.listing()) == []
    with pytest.raises(SpoolError):
        reactor.run(spool.content(id))


def test_amended_flags_are_kept_recipients_too(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store("c@d", "e@f")
    [entry] = reactor.run(spool.claim(1))
    entry.envelope.warned = True
    reactor.run(spool.amend(id, entry.envelope))
    reactor.run(spool.release(id, reactor.seconds()))
    reactor.advance(2)
    [again] = reactor.run(spool.claim(1))
    assert again.envelope == entry.envelope


def test_hold_and_unhold(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store()
    assert reactor.run(spool.hold(id)) is True
    assert reactor.run(spool.hold(id)) is False
    reactor.advance(1000)
    assert reactor.run(spool.claim(1)) == []
    assert [(one.id, one.queue) for one in reactor.run(spool.listing())] == [(id, "hold")]
    assert reactor.run(spool.due_now(id)) == 0
    assert reactor.run(spool.unhold(id)) is True
    assert reactor.run(spool.unhold(id)) is False
    reactor.advance(1)
    [entry] = reactor.run(spool.claim(1))
    assert (entry.id, entry.queue) == (id, "deferred")


def test_committed_on_hold(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store(hold=True)
    assert reactor.run(spool.claim(1)) == []
    assert [(one.id, one.queue) for one in reactor.run(spool.listing())] == [(id, "hold")]


@pytest.mark.parametrize("action", ["hold", "delete"])
def test_a_delivery_in_flight_ends_harmlessly(
    spool: Any, reactor: Reactor, store: Callable[..., str], action: str
) -> None:
    id = store("c@d", "e@f")
    reactor.run(spool.claim(1))
    assert reactor.run(getattr(spool, action)(id)) is True
    reactor.run(spool.progress(id, [done(0)]))
    reactor.run(spool.amend(id, Envelope("a@b")))
    reactor.run(spool.release(id, reactor.seconds()))
    reactor.advance(1000)
    assert reactor.run(spool.claim(1)) == []
    if action == "hold":
        # What was delivered after all is not delivered again.
        assert reactor.run(spool.unhold(id)) is True
        reactor.advance(1)
        [entry] = reactor.run(spool.claim(1))
        assert [state.done for state in entry.states] == [True, False]


@pytest.mark.parametrize("action", ["hold", "delete"])
def test_finished_while_held_or_deleted(
    spool: Any, reactor: Reactor, store: Callable[..., str], action: str
) -> None:
    id = store()
    reactor.run(spool.claim(1))
    assert reactor.run(getattr(spool, action)(id)) is True
    reactor.run(spool.finish(id))
    assert reactor.run(spool.listing()) == []
    assert reactor.run(spool.unhold(id)) is False


def test_nothing_can_be_done_to_what_is_not_there(spool: Any, reactor: Reactor) -> None:
    id = "4jYkyd4mV7zNMs8ytbt"
    for action in (spool.hold, spool.unhold, spool.delete, spool.requeue, spool.expire):
        assert reactor.run(action(id)) is False
    assert reactor.run(spool.due_now(id)) == 0
    reactor.run(spool.progress(id, [done(0)]))
    reactor.run(spool.release(id, 0))
    reactor.run(spool.finish(id))
    reactor.run(spool.set_aside(id, "x"))
    assert reactor.run(spool.listing()) == []


@pytest.mark.parametrize("from_hold", [False, True])
def test_requeue_within_a_minute(
    spool: Any, reactor: Reactor, store: Callable[..., str], from_hold: bool
) -> None:
    id = store("c@d", "e@f")
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(id, [done(0), deferred(1)]))
    reactor.run(spool.release(id, reactor.seconds() + 1000))
    if from_hold:
        reactor.run(spool.hold(id))
    assert reactor.run(spool.requeue(id)) is True
    reactor.advance(REQUEUE_PAUSE - 1)
    assert reactor.run(spool.claim(1)) == []
    reactor.advance(2)
    [entry] = reactor.run(spool.claim(1))
    assert entry.states == [done(0).state, deferred(1).state]
    assert (entry.attempts, entry.requeue) == (0, True)


def test_a_flush_does_not_let_a_requeued_entry_wait(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    id = store()
    assert reactor.run(spool.requeue(id)) is True
    assert reactor.run(spool.due_now()) == 1
    [entry] = reactor.run(spool.claim(1))
    assert entry.requeue
    reactor.run(spool.release(id, reactor.seconds() + 100))
    reactor.advance(50)
    assert reactor.run(spool.claim(1)) == []
    reactor.advance(60)
    [entry] = reactor.run(spool.claim(1))
    assert entry.requeue


def test_requeue_of_a_leased_entry_waits_for_its_release(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    id = store()
    reactor.run(spool.claim(1))
    assert reactor.run(spool.requeue(id)) is True
    reactor.advance(100)
    assert reactor.run(spool.claim(1)) == []
    reactor.run(spool.progress(id, [deferred(0)]))
    reactor.run(spool.release(id, reactor.seconds() + 1000))
    reactor.advance(1)
    [entry] = reactor.run(spool.claim(1))
    assert entry.requeue


# --- leases that pass from one process to another -----------------------------------------------------------------


def test_what_there_was_no_room_for_is_found_at_once(
    spool: Any, reactor: Reactor, store: Callable[..., str]
) -> None:
    assert reactor.run(spool.claim(5)) == []
    id = store()
    spool.note_new(id)
    assert [entry.id for entry in reactor.run(spool.claim(5))] == [id]


def test_what_others_hold_is_not_leased(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    first, second = store(), store()
    spool.others_hold([first])
    assert [entry.id for entry in reactor.run(spool.claim(5))] == [second]
    assert spool.adopt(first, Envelope("a@b", [])) is None
    spool.given_back(first, None)
    assert [entry.id for entry in reactor.run(spool.claim(5))] == [first]


def test_what_is_let_go_is_as_it_was(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store("c@d", "e@f")
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(id, [done(0)]))
    where = spool.let_go(id)
    assert where
    assert spool.let_go(id) == ""
    spool.given_back(id, where)
    [entry] = reactor.run(spool.claim(5))
    assert (entry.states, entry.attempts) == ([done(0).state, RecipientState()], 0)


@pytest.mark.parametrize("state", ["incoming", "leased", "deferred", "hold"])
def test_expire(spool: Any, reactor: Reactor, store: Callable[..., str], state: str) -> None:
    id = store()
    if state in ("leased", "deferred"):
        reactor.run(spool.claim(1))
    if state == "deferred":
        reactor.run(spool.release(id, reactor.seconds() + 10))
    if state == "hold":
        reactor.run(spool.hold(id))
    assert reactor.run(spool.expire(id)) is True
    assert reactor.run(spool.expire(id)) is False
    [one] = reactor.run(spool.listing())
    assert one.expire
    assert one.queue == ("active" if state == "leased" else state)
    if state == "leased":
        reactor.run(spool.release(id, reactor.seconds() + 10))
    if state == "hold":
        assert reactor.run(spool.unhold(id)) is True
    reactor.advance(11)
    [entry] = reactor.run(spool.claim(1))
    assert entry.expire


def test_due_now(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    made = [store() for _ in range(3)]
    reactor.run(spool.claim(10))
    for id in made:
        reactor.run(spool.release(id, reactor.seconds() + 1000))
    assert reactor.run(spool.due_now(made[1])) == 1
    reactor.advance(1)
    assert [entry.id for entry in reactor.run(spool.claim(10))] == [made[1]]
    assert reactor.run(spool.due_now()) == 2
    reactor.advance(1)
    assert {entry.id for entry in reactor.run(spool.claim(10))} == {made[0], made[2]}


def test_change_is_bound_to_queues(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    active, waiting, held = store(), store(), store(hold=True)
    reactor.run(spool.claim(10))
    reactor.run(spool.release(waiting, reactor.seconds() + 1000))
    new = store()
    queues = {one.id: one.queue for one in reactor.run(spool.listing())}
    assert queues == {active: "active", waiting: "deferred", held: "hold", new: "incoming"}
    assert reactor.run(spool.change("delete", None, ["nowhere"])) == Changes()
    assert reactor.run(spool.change("delete", [active], ["incoming", "deferred", "hold"])) == Changes()
    assert reactor.run(spool.change("delete", [waiting, held, waiting], ["deferred"])) == Changes(1, [waiting])
    assert reactor.run(spool.change("delete", None, ["active"])) == Changes(1, [active])
    assert reactor.run(spool.change("hold", None, ["incoming"])) == Changes(1)
    assert {one.id: one.queue for one in reactor.run(spool.listing())} == {held: "hold", new: "hold"}
    assert reactor.run(spool.change("delete", None)).count == 2
    assert reactor.run(spool.listing()) == []


def test_listing_is_oldest_first_with_states(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    made = [store("c@d", "e@f"), store(hold=True), store()]
    reactor.run(spool.claim(1))
    reactor.run(spool.progress(made[0], [done(0), deferred(1)]))
    reactor.run(spool.release(made[0], reactor.seconds() + 10))
    listed = reactor.run(spool.listing())
    assert [one.id for one in listed] == made
    assert listed[0].states == [done(0).state, deferred(1).state]
    assert listed[2].envelope.recipients == [Recipient("c@d")]


def test_what_is_set_aside_is_not_seen_again(spool: Any, reactor: Reactor, store: Callable[..., str]) -> None:
    id = store()
    reactor.run(spool.claim(1))
    reactor.run(spool.set_aside(id, "broken"))
    reactor.advance(1000)
    assert reactor.run(spool.claim(1)) == []
    assert reactor.run(spool.listing()) == []
    assert reactor.run(spool.delete(id)) is False


def test_there_is_room(spool: Any) -> None:
    assert spool.free_bytes() > 0


@pytest.mark.parametrize("size", [1_000, 1_000_000], ids=["small", "large"])
def test_a_draft_can_be_read_and_its_front_replaced(spool: Any, reactor: Reactor, size: int) -> None:
    async def work() -> tuple[bytes, bytes]:
        draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
        for _ in range(10):
            draft.write(b"x" * (size // 10 - 1) + b"\n")
            await draft.drained()
        before = await draft.read(size // 10 - 2, 5)
        assert await draft.read(size, 10) == b""
        await draft.replace(size - 2, b"Subject: new\n\n")
        assert await draft.read(0, 100) == b"Subject: new\n\nx\n"
        await draft.replace(12, b"Subject: longer\n" * 10000)
        draft.write(b"more\n")
        await draft.commit()
        content = await spool.content(draft.id)
        try:
            return before, content.read()
        finally:
            content.close()

    before, stored = reactor.run(work())
    assert before == b"x\nxxx"
    assert stored == b"Subject: longer\n" * 10000 + b"\n\nx\nmore\n"
