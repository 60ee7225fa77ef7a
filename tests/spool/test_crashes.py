"""A crash, a power cut, or an error of the disk at each step of a message's life: nothing promised is lost, nothing
done is done again, nothing half-made is taken for whole.  See the table in spool.maildir."""

import errno
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, Progress, RecipientState, SpoolError
from spool.maildir import MaildirSpool
from spool.upkeep import purge
from tests.spool.faulty import Crash, FaultyFiles
from tests.spool.test_contract import Reactor

DONE = RecipientState(True, "sent", "2.0.0", "ok")
BUSY = RecipientState(False, "deferred", "4.0.0", "busy")

SMALL = b"Subject: small\n\nbody\n"
LARGE = b"Subject: large\n\n" + b"0123456789abcde\n" * 12_000


@dataclass
class Promise:
    """What others have been told of a message, and what was under way."""

    content: bytes
    envelope: Envelope
    accepted: bool = False
    done: set[int] = field(default_factory=set)
    ending: bool = False
    gone: bool = False


class Life:
    """The life of three messages, told step by step."""

    def __init__(self, directory: Path, files: FaultyFiles) -> None:
        self.reactor = Reactor()
        self.reactor.rightNow = float(int(time.time()))
        self.troubles: list[str] = []
        self.spool = MaildirSpool(
            directory, reactor=self.reactor, threads=self.reactor, files=files, report=self.troubles.append
        )
        self.promises: dict[str, Promise] = {}
        self.errors: list[SpoolError] = []
        self.leased: set[str] = set()

    def run(self) -> None:
        self.spool.start()
        a = self._accept(SMALL, ["a@x", "b@x"])
        if a:
            self._lease(a)
            assert a in self.leased
            self._progress(a, 0, DONE)
            self._progress(a, 1, BUSY)
            self.reactor.run(self.spool.release(a, self.reactor.seconds() + 100))
            self.leased.discard(a)
        b = self._accept(LARGE, ["c@x"])
        w = self._accept(LARGE, ["c@x"], ["c@x", *(f"user{number}@long.example" for number in range(200))])
        c = self._accept(SMALL, ["d@x"], hold=True)
        if c:
            self._try(self.spool.unhold(c))
        self.reactor.advance(200)
        for id in (a, b, w, c):
            if id:
                self._lease(id)
        if a in self.leased:
            self._progress(a, 1, DONE)
            self._end(a, self.spool.finish(a))
        if b in self.leased:
            self._try(self.spool.expire(b))
            self.reactor.run(self.spool.release(b, self.reactor.seconds() + 100))
            for step in (self.spool.requeue, self.spool.hold, self.spool.unhold, self.spool.due_now):
                self._try(step(b))
        if c in self.leased:
            self._end(c, self.spool.delete(c))
        d = self._accept(SMALL, ["e@x"])
        if d:
            self._lease(d)
            self._end(d, self.spool.finish(d))

    def _try(self, work: Any) -> Any:
        try:
            return self.reactor.run(work)
        except SpoolError as error:
            self.errors.append(error)
            return None

    def _accept(
        self, content: bytes, addresses: list[str], later: list[str] | None = None, hold: bool = False
    ) -> str:
        """Store a message; its ID if it was accepted.  ``later``: the recipients when all has been received."""
        envelope = Envelope("s@x", [Recipient(one) for one in addresses], self.reactor.seconds())
        draft = self.spool.draft(envelope)
        promise = self.promises[draft.id] = Promise(content, envelope)
        for start in range(0, len(content), 50_000):
            draft.write(content[start : start + 50_000])
        if later is not None:
            envelope.recipients = [Recipient(one) for one in later]
        try:
            self.reactor.run(draft.commit(hold))
        except SpoolError as error:
            self.errors.append(error)
            return ""
        promise.accepted = True
        self.reactor.advance(1)
        return draft.id

    def _lease(self, id: str) -> None:
        if self.spool.adopt(id, self.promises[id].envelope) is None:
            self.leased.update(entry.id for entry in self._try(self.spool.claim(10)) or ())
        else:
            self.leased.add(id)

    def _progress(self, id: str, index: int, state: RecipientState) -> None:
        try:
            self.reactor.run(self.spool.progress(id, [Progress(index, state)]))
        except SpoolError as error:
            self.errors.append(error)
            return
        if state.done:
            self.promises[id].done.add(index)

    def _end(self, id: str, work: Any) -> None:
        promise = self.promises[id]
        promise.ending = True
        known = len(self.troubles), len(self.errors)
        self._try(work)
        promise.gone = known == (len(self.troubles), len(self.errors))


def afterwards(directory: Path) -> dict[str, tuple[Entry, bytes]]:
    """All messages that another process finds after the end of the first."""
    reactor = Reactor()
    reactor.rightNow = time.time() + 10_000
    troubles: list[str] = []
    spool = MaildirSpool(directory, reactor=reactor, threads=reactor, report=troubles.append)
    spool.start()
    reactor.run(spool.change("release", None, ["hold"]))
    reactor.advance(1)
    found = {}
    for entry in reactor.run(spool.claim(100)):
        assert entry.id not in found
        content = reactor.run(spool.content(entry.id))
        found[entry.id] = (entry, content.read())
        content.close()
    assert troubles == []
    assert os.listdir(directory / "corrupt/new") == []
    # Nothing but these is left when old leavings are cleared away.
    spool.store.clock = lambda: time.time() + 200_000
    purge(spool.store)
    left = {name for _, _, names in os.walk(directory) for name in names}
    assert {id for id in found for name in left if id in name} == set(found)
    assert all(any(id in name for id in found) for name in left)
    return found


def check(promises: dict[str, Promise], found: dict[str, tuple[Entry, bytes]]) -> None:
    for id, promise in promises.items():
        if promise.gone:
            assert id not in found, "done away with, and back again"
        elif promise.accepted and not promise.ending:
            assert id in found, "accepted, and lost"
        if id in found:
            entry, content = found[id]
            assert content == promise.content
            assert entry.envelope == promise.envelope
            assert {index for index, state in enumerate(entry.states) if state.done} >= promise.done
    assert set(found) <= set(promises)


def count_operations(tmp_path: Path) -> list[str]:
    files = FaultyFiles()
    life = Life(tmp_path / "count", files)
    life.run()
    assert life.troubles == []
    assert life.errors == []
    check(life.promises, afterwards(tmp_path / "count"))
    return files.operations


# Operations that change what is on disk; a crash after one that only reads is the same as one before the next.
CHANGING = ("create", "append", "write", "write_at", "copy", "fdatasync", "rename", "unlink", "fsync_dir", "make_dir")


@pytest.mark.parametrize("what_is_left", ["all", "what was synced", "names and what was synced"])
def test_a_crash_after_each_step(tmp_path: Path, what_is_left: str) -> None:
    number = 0
    while True:
        directory = tmp_path / f"{number}"
        files = FaultyFiles(crash_at=number, only=CHANGING)
        life = Life(directory, files)
        try:
            life.run()
        except Crash:
            pass
        else:
            break
        if what_is_left != "all":
            files.power_cut(str(directory), names_survive=what_is_left.startswith("names"))
        try:
            check(life.promises, afterwards(directory))
        except AssertionError as error:
            raise AssertionError(f"after {files.operations[-3:]}, number {number}: {error}") from error
        number += 1
    assert number > 60


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_an_error_at_each_step(tmp_path: Path, error: int) -> None:
    operations = count_operations(tmp_path)
    for number, name in enumerate(operations):
        if name == "make_dir" or (name, operations[number - 1]) == ("scan", "make_dir"):
            continue  # there can be no spool here: start() fails
        if name in ("open", "read", "status", "scan") and error == errno.EIO:
            continue  # the file counts as broken: see test_maildir
        directory = tmp_path / f"{number}"
        life = Life(directory, FaultyFiles(fail_at=number, error=error))
        try:
            life.run()
            found = afterwards(directory)
            check(life.promises, found)
            refused = {id for id, promise in life.promises.items() if not promise.accepted}
            assert not refused & set(found), "refused, and there"
        except AssertionError as failure:
            raise AssertionError(f"{name}, number {number}: {failure}") from failure
        for one in life.errors:
            assert one.no_room == (error == errno.ENOSPC)


def test_the_count_is_not_empty(tmp_path: Path) -> None:
    operations = count_operations(tmp_path)
    assert set(CHANGING) <= set(operations)


def test_a_full_disk_recovers_by_itself(tmp_path: Path) -> None:
    class Full(FaultyFiles):
        full = True

        def write(self, descriptor: int, blocks: Any) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(descriptor, blocks)

    files = Full()
    life = Life(tmp_path / "spool", files)
    life.spool.start()
    for content in (SMALL, LARGE):
        assert life._accept(content, ["a@x"]) == ""
        assert life.errors[-1].no_room
    assert all(not names for _, _, names in os.walk(tmp_path / "spool")), "something was left behind"
    files.full = False
    for content in (SMALL, LARGE):
        assert life._accept(content, ["a@x"])
    check(life.promises, afterwards(tmp_path / "spool"))


def _undelivered(tmp_path: Path) -> tuple[FaultyFiles, Life, str]:
    """A message whose first attempt is running, and no operations on record yet."""
    files = FaultyFiles()
    life = Life(tmp_path / "spool", files)
    life.spool.start()
    id = life._accept(SMALL, ["a@x"])
    life._lease(id)
    files.operations.clear()
    return files, life, id


def test_a_removal_is_durable_and_a_journal_does_not_go_first(tmp_path: Path) -> None:
    files, life, id = _undelivered(tmp_path)
    life.reactor.run(life.spool.finish(id))
    assert files.operations == ["unlink", "fsync_dir"]
    files, life, id = _undelivered(tmp_path / "other")
    life._progress(id, 0, BUSY)
    files.operations.clear()
    life.reactor.run(life.spool.finish(id))
    assert files.operations == ["unlink", "fsync_dir", "unlink"]


@pytest.mark.parametrize("survive", [True, False])
def test_what_was_reported_as_delivered_does_not_come_back_after_a_power_cut(tmp_path: Path, survive: bool) -> None:
    files, life, id = _undelivered(tmp_path)
    life.reactor.run(life.spool.finish(id))
    files.power_cut(str(tmp_path / "spool"), names_survive=survive)
    assert afterwards(tmp_path / "spool") == {}


def test_removals_of_the_same_time_share_a_sync(tmp_path: Path) -> None:
    files = FaultyFiles()
    life = Life(tmp_path / "spool", files)
    life.spool.start()
    ids = [life._accept(SMALL, ["a@x"]) for _ in range(5)]
    for id in ids:
        life._lease(id)
    files.operations.clear()
    ended: list[str] = []
    for id in ids:
        Deferred.fromCoroutine(life.spool.finish(id)).addCallback(lambda ignored, id=id: ended.append(id))
        life.reactor.pump([0] * 6)
    assert ended == ids[:1]
    assert os.listdir(tmp_path / "spool/incoming/new") == []  # a crash would not bring them back
    life.reactor.pump([0.06, 0, 0])
    assert ended == ids
    assert files.operations == ["unlink", "fsync_dir", *["unlink"] * 4, "fsync_dir"]


def test_putting_off_is_one_change_and_syncs_the_name_only(tmp_path: Path) -> None:
    files, life, id = _undelivered(tmp_path)
    life.reactor.run(life.spool.release(id, life.reactor.seconds() + 100, [Progress(0, BUSY)]))
    assert files.operations == ["status_of", "append", "write", "rename", "fsync_dir", "close"]
    (entry, _) = afterwards(tmp_path / "spool")[id]
    assert entry.states == [BUSY]


@pytest.mark.parametrize("survive", [True, False])
def test_a_power_cut_takes_the_reason_of_a_deferral_and_nothing_else(tmp_path: Path, survive: bool) -> None:
    files, life, id = _undelivered(tmp_path)
    life.reactor.run(life.spool.release(id, life.reactor.seconds() + 100, [Progress(0, BUSY)]))
    files.power_cut(str(tmp_path / "spool"), names_survive=survive)
    (entry, content) = afterwards(tmp_path / "spool")[id]
    assert (entry.states, content) == ([RecipientState()], SMALL)


def test_what_is_done_after_a_deferral_is_durable_with_the_name_of_its_journal(tmp_path: Path) -> None:
    files = FaultyFiles()
    life = Life(tmp_path / "spool", files)
    life.spool.start()
    id = life._accept(SMALL, ["a@x", "b@x"])
    life._lease(id)
    life._progress(id, 0, BUSY)
    life._progress(id, 1, DONE)
    files.power_cut(str(tmp_path / "spool"), names_survive=False)
    (entry, _) = afterwards(tmp_path / "spool")[id]
    assert entry.states == [BUSY, DONE]


def test_what_became_of_members_is_durable_though_the_alias_is_tried_again(tmp_path: Path) -> None:
    files, life, id = _undelivered(tmp_path)
    state = RecipientState(False, "deferred", "4.0.0", "busy", others=(DONE,))
    life.reactor.run(life.spool.release(id, life.reactor.seconds() + 100, [Progress(0, state)]))
    files.power_cut(str(tmp_path / "spool"), names_survive=False)
    (entry, _) = afterwards(tmp_path / "spool")[id]
    assert entry.states == [state]


def test_a_full_disk_does_not_keep_a_message_from_being_put_off(tmp_path: Path) -> None:
    files, life, id = _undelivered(tmp_path)
    directory = tmp_path / "spool/deferred/new"
    files._fail_at, files._error = 2, errno.ENOSPC  # the write
    life.reactor.run(life.spool.release(id, life.reactor.seconds() + 100, [Progress(0, BUSY)]))
    assert (len(os.listdir(directory)), life.troubles) == (1, [])
