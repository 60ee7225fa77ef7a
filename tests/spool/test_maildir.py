"""The spool on disk: what others may find and put there, what is broken, how much is kept in memory."""

import mailbox
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred, gatherResults

from spool import format, upkeep
from spool.envelope import Envelope, Recipient
from spool.files import Files
from spool.interfaces import Changes, Entry, Progress, RecipientState, SpoolError
from spool.maildir import MaildirSpool
from spool.store import LONG_JOURNAL
from spool.threads import WorkerThreads
from tests.spool.test_contract import Reactor

CONTENT = b"Subject: hello\nTo: c@d\n\nbody\n"


def temporary_files(directory: Path) -> list[str]:
    """What stands in the folders for files that have no name yet."""
    return [str(path) for path in directory.glob("*/tmp/**/*") if path.is_file()]


def journals(directory: Path) -> list[Path]:
    return [path for path in (directory / "progress").rglob("*") if path.is_file()]


class Rig:
    """A spool, and a process that deals with it; ``restart`` makes another process of it."""

    def __init__(self, directory: Path, files: Files | None = None, names_at_once: int = 20_000) -> None:
        self.directory = directory
        self.files = files
        self.names_at_once = names_at_once
        self.reactor = Reactor()
        self.reactor.rightNow = time.time()
        self.troubles: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.spool = self.another()

    def another(self) -> MaildirSpool:
        spool = MaildirSpool(
            self.directory, reactor=self.reactor, threads=self.reactor, files=self.files,
            report=self.troubles.append, names_at_once=self.names_at_once,
        )
        spool.start()
        return spool

    def run(self, work: Any) -> Any:
        return self.reactor.run(work)

    def store(self, content: bytes = CONTENT, hold: bool = False) -> str:
        draft = self.spool.draft(Envelope("a@b", [Recipient("c@d")], self.reactor.seconds()))
        draft.write(content)
        self.run(draft.commit(hold))
        self.reactor.advance(0.001)
        return draft.id

    def claim(self, limit: int = 1000) -> list[Entry]:
        return self.run(self.spool.claim(limit))

    def later(self, seconds: float = 100.0) -> None:
        self.reactor.advance(seconds)

    def path(self, name: str) -> Path:
        return self.directory / name

    def put(self, name: str, data: bytes, age: float = 1000.0) -> Path:
        """A file that somebody put there a while ago."""
        path = self.directory / name
        path.write_bytes(data)
        self.reactor.rightNow = max(self.reactor.rightNow, time.time() + age)
        return path


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "spool")


def names(rig: Rig, folder: str) -> list[str]:
    return sorted(os.listdir(rig.path(f"{folder}/new")) + os.listdir(rig.path(f"{folder}/cur")))


# --- what others see ----------------------------------------------------------------------------------------------


def test_folders_are_the_owners_alone(rig: Rig) -> None:
    rig.store()
    for folder, _, files in os.walk(rig.directory):
        if folder != str(rig.directory):
            assert os.stat(folder).st_mode & 0o777 == 0o700, folder
        for file in files:
            assert os.stat(f"{folder}/{file}").st_mode & 0o777 == 0o600, file


def test_mail_readers_can_open_each_folder(rig: Rig) -> None:
    waiting, held = rig.store(), rig.store(hold=True)
    rig.claim()
    rig.run(rig.spool.release(waiting, rig.reactor.seconds() + 100))
    new = rig.store()
    for folder, id in (("incoming", new), ("deferred", waiting), ("hold", held)):
        box = mailbox.Maildir(rig.path(folder), create=False)
        [(key, message)] = box.items()
        assert id in key
        assert message["Subject"] == "hello"
        assert message.get_payload() == "body\n"
    mailbox.Maildir(rig.path("corrupt"), create=False)


def test_mail_that_a_reader_has_moved_to_cur_is_still_ours(rig: Rig) -> None:
    id = rig.store()
    os.rename(rig.path(f"incoming/new/{id}"), rig.path(f"incoming/cur/{id}:2,S"))
    [entry] = rig.claim()
    assert entry.id == id
    rig.run(rig.spool.release(id, rig.reactor.seconds() + 1))
    assert names(rig, "incoming") == []
    rig.later()
    assert [one.id for one in rig.claim()] == [id]
    rig.run(rig.spool.finish(id))
    assert names(rig, "deferred") == []


# --- several processes --------------------------------------------------------------------------------------------


def test_a_scheduler_adopts_what_a_receiver_has_stored(rig: Rig) -> None:
    scheduler = rig.another()
    assert rig.run(scheduler.claim(10)) == []
    id = rig.store()
    entry = scheduler.adopt(id, Envelope("a@b", [Recipient("c@d")]))
    assert entry is not None
    content = rig.run(scheduler.content(id))
    assert content.read() == CONTENT
    content.close()
    rig.run(scheduler.finish(id))
    assert names(rig, "incoming") == []


def test_late_word_of_a_message_leads_to_a_claim_not_to_a_second_delivery(rig: Rig) -> None:
    scheduler = rig.another()
    assert rig.run(scheduler.claim(10)) == []
    id = rig.store()
    rig.later(70)
    assert scheduler.adopt(id, Envelope("a@b", [Recipient("c@d")])) is None
    assert [entry.id for entry in rig.run(scheduler.claim(10))] == [id]


def test_another_process_opens_content_by_the_hint(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    rig.run(rig.spool.release(id, rig.reactor.seconds() + 1))
    rig.later()
    [entry] = rig.claim()
    executor = rig.another()
    for where in (entry.where, "", "deferred/new/elsewhere", "../../etc", "a/b/../c"):
        content = rig.run(executor.content(id, where))
        assert content.read() == CONTENT
        content.close()


def test_leases_end_with_the_process(rig: Rig) -> None:
    id = rig.store()
    assert [entry.id for entry in rig.claim()] == [id]
    rig.restart()
    assert [entry.id for entry in rig.claim()] == [id]


# --- a spool copied in (F48) --------------------------------------------------------------------------------------


def test_a_spool_copied_into_a_running_gateway_is_taken_up(rig: Rig, tmp_path: Path) -> None:
    other = Rig(tmp_path / "other")
    new, waiting, held = other.store(), other.store(), other.store(hold=True)
    other.claim()
    other.run(other.spool.progress(waiting, [Progress(0, RecipientState(False, "deferred", "4.0.0", "busy"))]))
    other.run(other.spool.release(waiting, other.reactor.seconds() + 10))
    mine = rig.store()
    assert [entry.id for entry in rig.claim()] == [mine]
    shutil.copytree(other.directory, rig.directory, dirs_exist_ok=True)
    rig.later(200)
    entries = {entry.id: entry for entry in rig.claim()}
    assert set(entries) == {new, waiting}
    assert entries[waiting].states[0].reason == "busy"
    assert {one.id: one.queue for one in rig.run(rig.spool.listing())}[held] == "hold"
    assert rig.troubles == []


def test_a_file_that_is_still_being_copied_is_left_alone(rig: Rig) -> None:
    id = rig.store()
    whole = rig.path(f"incoming/new/{id}").read_bytes()
    rig.path(f"incoming/new/{id}").unlink()
    rig.reactor.rightNow = time.time()
    rig.path(f"incoming/new/{id}").write_bytes(whole[:-5])
    assert rig.claim() == []
    assert names(rig, "corrupt") == []
    rig.path(f"incoming/new/{id}").write_bytes(whole)
    rig.later(120)
    assert [entry.id for entry in rig.claim()] == [id]


def test_the_same_message_in_two_folders_is_one(rig: Rig) -> None:
    id = rig.store()
    shutil.copy(rig.path(f"incoming/new/{id}"), rig.path(f"deferred/new/0000000005.{id}.1"))
    assert len(rig.claim()) == 1


# --- what is broken -----------------------------------------------------------------------------------------------


def broken_files(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "truncated": whole[:-1],
        "longer": whole + b"x",
        "head": whole[:30],
        "envelope": whole[: format.HEAD] + b"x" * (len(whole) - format.HEAD),
        "foreign": CONTENT,
        "noise": os.urandom(300),
    }


@pytest.mark.parametrize("folder", ["incoming", "deferred"])
@pytest.mark.parametrize("kind", sorted(broken_files(b"")))
def test_broken_files_are_set_aside_never_deleted(rig: Rig, folder: str, kind: str) -> None:
    good = rig.store()
    data = broken_files(rig.path(f"incoming/new/{good}").read_bytes())[kind]
    name = {"incoming": "4jYkyd4mV7zNMs8ytbt", "deferred": "0000000005.4jYkyd4mV7zNMs8ytbt.2"}[folder]
    rig.put(f"{folder}/new/{name}", data)
    assert [entry.id for entry in rig.claim()] == [good]
    assert names(rig, "corrupt") == [name]
    assert rig.path(f"corrupt/new/{name}").read_bytes() == data
    [trouble] = rig.troubles
    assert trouble.startswith(f"{folder}/new/{name}: ")
    assert trouble.endswith("; moved to corrupt")
    assert good in [one.id for one in rig.run(rig.spool.listing())]


@pytest.mark.parametrize("name", ["1795528584.M1P2.host", "message.eml", "a b", "x:2,S:2,S"])
def test_names_that_are_not_ours_are_set_aside(rig: Rig, name: str) -> None:
    rig.put(f"incoming/new/{name}", CONTENT)
    rig.put(f"deferred/cur/{name}", b"other")
    assert rig.claim() == []
    assert names(rig, "corrupt") == [name, f"{name}.1"]
    assert {rig.path(f"corrupt/new/{one}").read_bytes() for one in (name, f"{name}.1")} == {CONTENT, b"other"}


def test_temporary_files_of_others_are_not_looked_at(rig: Rig) -> None:
    rig.put("incoming/new/.4jYkyd4mV7zNMs8ytbt.Xa31", b"half")
    assert rig.claim() == []
    assert names(rig, "corrupt") == []


def test_what_is_no_file_is_set_aside(rig: Rig) -> None:
    ids = [f"4jYkyd4mV7zNMs8ytb{letter}" for letter in "tvw"]
    os.mkfifo(rig.path(f"incoming/new/{ids[0]}"))
    rig.path(f"incoming/new/{ids[1]}").mkdir()
    rig.path(f"incoming/new/{ids[2]}").symlink_to("/etc/passwd")
    rig.put("incoming/tmp/x", b"")
    assert rig.claim() == []
    assert names(rig, "corrupt") == ids


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_waits_for_its_owner(rig: Rig) -> None:
    id = rig.store()
    rig.path(f"incoming/new/{id}").chmod(0)
    _unreadable(rig, id)
    rig.path(f"incoming/new/{id}").chmod(0o600)
    rig.later(120)
    assert [entry.id for entry in rig.claim()] == [id]


def test_an_error_that_may_pass_is_no_reason_to_set_a_file_aside(tmp_path: Path) -> None:
    class Refusing(Files):
        refuse = False

        def open(self, path: str) -> int:
            if self.refuse:
                raise PermissionError(13, "Permission denied", path)
            return super().open(path)

    files = Refusing()
    rig = Rig(tmp_path / "spool", files)
    id = rig.store()
    files.refuse = True
    _unreadable(rig, id)
    files.refuse = False
    rig.later(120)
    assert [entry.id for entry in rig.claim()] == [id]


def _unreadable(rig: Rig, id: str) -> None:
    for _ in range(3):
        rig.later(120)
        assert rig.claim() == []
    assert names(rig, "corrupt") == []
    [trouble] = rig.troubles
    assert "Permission denied" in trouble
    assert "postsuper" in trouble


def test_an_unreadable_file_is_set_aside(tmp_path: Path) -> None:
    class Bad(Files):
        bad = ""

        def read(self, descriptor: int, count: int, position: int) -> bytes:
            if self.bad and os.readlink(f"/proc/self/fd/{descriptor}").endswith(self.bad):
                raise OSError(5, "Input/output error")
            return super().read(descriptor, count, position)

    files = Bad()
    rig = Rig(tmp_path / "spool", files)
    files.bad = rig.store()
    good = rig.store()
    assert [entry.id for entry in rig.claim()] == [good]
    assert names(rig, "corrupt") == [files.bad]


def test_a_damaged_journal_is_reported_and_read_as_far_as_it_goes(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    rig.run(rig.spool.progress(id, [Progress(0, RecipientState(True, "sent"))]))
    with open(rig.spool.store.journal(id), "ab") as file:
        file.write(b'{"i":0,"sta')
    rig.restart()
    [entry] = rig.claim()
    assert entry.states[0].done
    assert rig.troubles == [f"{id}: 1 damaged lines in its journal are skipped"]


def test_set_aside_by_the_scheduler(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    rig.run(rig.spool.set_aside(id, "no recipients"))
    assert names(rig, "corrupt") == [id]
    assert rig.troubles == [f"incoming/new/{id}: no recipients; moved to corrupt"]


def test_what_the_disk_refuses_to_defer_is_not_tried_again_at_once(tmp_path: Path) -> None:
    class Refusing(Files):
        refuse = False

        def rename(self, old: str, new: str) -> None:
            if self.refuse:
                raise OSError(28, "No space left on device")
            super().rename(old, new)

    files = Refusing()
    rig = Rig(tmp_path / "spool", files)
    id = rig.store()
    rig.claim()
    files.refuse = True
    rig.run(rig.spool.release(id, rig.reactor.seconds() + 300))
    assert rig.troubles == [f"{id}: cannot defer: No space left on device"]
    for _ in range(5):
        rig.later(50)
        assert rig.claim() == []
    rig.later(60)
    assert [entry.id for entry in rig.claim()] == [id]


def test_what_cannot_be_recorded_now_is_recorded_with_the_next(tmp_path: Path) -> None:
    class Refusing(Files):
        refuse = False

        def append(self, path: str) -> int:
            if self.refuse:
                raise OSError(28, "No space left on device")
            return super().append(path)

    files = Refusing()
    rig = Rig(tmp_path / "spool", files)
    id = rig.store()
    rig.claim()
    files.refuse = True
    with pytest.raises(SpoolError) as caught:
        rig.run(rig.spool.progress(id, [Progress(0, RecipientState(True, "sent"))]))
    assert caught.value.no_room
    files.refuse = False
    rig.run(rig.spool.release(id, rig.reactor.seconds()))
    rig.later()
    [entry] = rig.claim()
    assert entry.states[0].done


# --- bounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names_at_once", [1, 7, 1000])
def test_all_is_claimed_in_order_however_few_names_fit(tmp_path: Path, names_at_once: int) -> None:
    rig = Rig(tmp_path / "spool", names_at_once=names_at_once)
    made = [rig.store() for _ in range(30)]
    rig.restart()
    assert [entry.id for entry in rig.claim()] == made
    for number, id in enumerate(made):
        rig.run(rig.spool.release(id, rig.reactor.seconds() + 100 - number))
    rig.later(200)
    assert [entry.id for entry in rig.claim()] == made[::-1]


@pytest.mark.parametrize("most", [1, 3, 10, 1000])
def test_the_listing_is_whole_however_few_names_fit(rig: Rig, most: int) -> None:
    made = [rig.store(hold=number % 3 == 0) for number in range(10)]
    rig.claim(2)
    listed = [one.id for some in rig.spool.store.listing(most=most) for one in some]
    assert listed == made


def set_clock(rig: Rig, by: float) -> None:
    """Others run on by the old one: this is about what a process does that sees it happen."""
    steady = rig.reactor
    rig.reactor.time_of_day = lambda: steady.seconds() + by  # type: ignore[attr-defined]
    rig.spool._time_of_day = rig.spool.store.clock = rig.reactor.time_of_day  # type: ignore[attr-defined]


def test_new_mail_is_due_whatever_the_clock_says_of_when_it_came(rig: Rig) -> None:
    ids = [rig.store() for _ in range(3)]
    set_clock(rig, -3600.0)
    rig.restart()
    assert [one.id for one in rig.claim()] == ids


def test_looks_into_folders_go_on_when_the_clock_is_set_back(rig: Rig) -> None:
    rig.claim()
    set_clock(rig, -3600.0)
    id = rig.another().draft(Envelope("a@b", [Recipient("c@d")], 1.0))
    rig.run(id.commit())
    rig.later(61.0)
    assert [one.id for one in rig.claim()] == [id.id]


def test_mail_that_a_wrong_clock_has_put_off_for_years_is_due(rig: Rig) -> None:
    rig.spool._longest_wait = 4000.0
    far, near = rig.store(), rig.store()
    rig.claim()
    rig.run(rig.spool.release(far, rig.reactor.seconds() + 1e8))
    rig.run(rig.spool.release(near, rig.reactor.seconds() + 3900))
    rig.restart()
    rig.spool._longest_wait = 4000.0
    assert [one.id for one in rig.claim()] == [far]


def test_new_and_deferred_mail_take_turns(rig: Rig) -> None:
    old = [rig.store() for _ in range(4)]
    for entry in rig.claim():
        rig.run(rig.spool.release(entry.id, rig.reactor.seconds() + 1))
    rig.later()
    new = [rig.store() for _ in range(4)]
    first = {entry.id for entry in rig.claim(4)}
    assert len(first & set(new)) == 2
    assert len(first & set(old)) == 2


def test_a_claim_with_nothing_to_do_touches_no_disk(rig: Rig) -> None:
    rig.store()
    rig.claim()
    rig.claim()
    rig.spool.store.files = None  # type: ignore[assignment]
    assert rig.claim() == []


def test_long_journals_are_shortened(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    state = RecipientState(False, "deferred", "4.0.0", "busy " * 200)
    for _ in range(LONG_JOURNAL // 1000 + 5):
        rig.run(rig.spool.progress(id, [Progress(0, state)]))
    rig.run(rig.spool.release(id, rig.reactor.seconds() + 1))
    assert os.path.getsize(rig.spool.store.journal(id)) > LONG_JOURNAL
    rig.later()
    [entry] = rig.claim()
    assert entry.states == [state]
    assert os.path.getsize(rig.spool.store.journal(id)) < 5000
    rig.run(rig.spool.progress(id, [Progress(0, RecipientState(True, "sent"))]))
    rig.restart()
    [entry] = rig.claim()
    assert entry.states[0].done


def test_free_room_is_asked_for_once_a_second(tmp_path: Path) -> None:
    asked = []

    class Counting(Files):
        def free_bytes(self, path: str) -> int:
            asked.append(path)
            return 42

    rig = Rig(tmp_path / "spool", Counting())
    assert [rig.spool.free_bytes() for _ in range(5)] == [42] * 5
    rig.later(1)
    assert rig.spool.free_bytes() == 42
    assert len(asked) == 2


class Held(Reactor):
    """Threads that do nothing until they are let; whatever is ready comes in any order, the last first."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = []

    def callInThread(self, function: Any, *arguments: Any) -> None:
        self.held.append((function, arguments))

    def let_one(self) -> None:
        function, arguments = self.held.pop()
        function(*arguments)
        self.advance(0)

    def let(self) -> None:
        while self.held:
            self.let_one()


def test_a_commit_waits_for_what_is_on_its_way_to_the_file(tmp_path: Path) -> None:
    """Also if it is asked for at the very moment when a block has been written and the next one is on its way."""
    reactor = Held()
    spool = MaildirSpool(tmp_path / "spool", reactor=reactor, threads=reactor)
    spool.start()
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
    blocks = [bytes([97 + number]) * 50_000 for number in range(12)]
    for block in blocks[:10]:
        draft.write(block)
    reactor.let_one()  # the next ones are on their way now
    for block in blocks[10:]:
        draft.write(block)
    assert draft.full
    outcome: list[Any] = []
    draft.drained().addCallback(lambda _: Deferred.fromCoroutine(draft.commit())).addBoth(outcome.append)
    reactor.let()
    assert isinstance(outcome[0], bytes), outcome
    (file,) = (tmp_path / "spool/incoming/new").iterdir()
    assert file.read_bytes()[len(outcome[0]) :] == b"".join(blocks)


def test_a_draft_says_when_it_is_full(tmp_path: Path) -> None:
    reactor = Held()
    spool = MaildirSpool(tmp_path / "spool", reactor=reactor, threads=reactor)
    spool.start()
    draft = spool.draft(Envelope("a@b", [Recipient("c@d")]))
    assert not draft.full
    assert draft.drained().called
    for _ in range(30):
        draft.write(b"x" * 50_000)
    assert draft.full
    drained = draft.drained()
    assert not drained.called
    reactor.let()
    assert drained.called
    assert not draft.full
    aborted = spool.draft(Envelope("a@b"))
    for _ in range(30):
        aborted.write(b"x" * 50_000)
    drained = aborted.drained()
    aborted.abort()
    assert drained.called
    reactor.let()
    draft.abort()
    reactor.let()
    assert temporary_files(tmp_path / "spool") == []


# --- cleaning up --------------------------------------------------------------------------------------------------


def test_new_files_are_made_in_several_folders(rig: Rig) -> None:
    drafts = [rig.spool.draft(Envelope("a@b")) for _ in range(200)]
    for draft in drafts:
        draft.write(b"x" * 200_000)
    rig.later()
    made = temporary_files(rig.path(""))
    assert len(made) == 200 and len({os.path.dirname(file) for file in made}) > 4
    for draft in drafts:
        draft.abort()


def test_old_leavings_are_purged_when_the_scheduler_starts(rig: Rig) -> None:
    held = rig.store(hold=True)
    # The journals are where earlier versions had them: each is taken over.
    dead = ("incoming/tmp/dead", "incoming/tmp/7/dead", "deferred/tmp/dead", "progress/4jYkyd4mV7zNMs8ytbt")
    for name in (*dead, f"progress/{held}"):
        rig.put(name, b"x", 0)
    rig.restart()
    rig.claim()
    assert sorted(path.name for path in journals(rig.path(""))) == sorted(["4jYkyd4mV7zNMs8ytbt", held])
    rig.reactor.rightNow = time.time() + 90_000
    rig.restart()
    rig.claim()
    assert temporary_files(rig.path("")) == []
    assert journals(rig.path("")) == [Path(rig.spool.store.journal(held))]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_makes_belongs_to_the_owner(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "spool")
    id = rig.store()
    for folder, _, files in os.walk(rig.directory):
        for one in (folder, *(f"{folder}/{file}" for file in files)):
            os.chown(one, 12345, 12346)
    rig.restart()
    rig.run(rig.spool.requeue(id))
    rig.store()
    shutil.copy(rig.path(f"deferred/new/{names(rig, 'deferred')[0]}"), rig.path("hold/new/4jYkyd4mV7zNMs8ytbt"))
    assert upkeep.repair(rig.spool.store) == 1
    for folder, _, files in os.walk(rig.directory):
        for one in (folder, *(f"{folder}/{file}" for file in files)):
            status = os.stat(one)
            assert (status.st_uid, status.st_gid) == (12345, 12346), one


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_owner_makes_files_in_folders_of_any_group() -> None:
    """Postfix's own queue folders belong to its user and to root's group."""
    with tempfile.TemporaryDirectory() as folder:  # others may look into it, unlike into tmp_path
        os.chmod(folder, 0o711)
        rig = Rig(Path(folder) / "spool")
        for one, _, _ in os.walk(rig.directory):
            os.chown(one, 12345, 0)
        rig.restart()  # as a role does: it looks at the spool as root
        os.setegid(12345)
        os.seteuid(12345)
        try:
            assert rig.store()
        finally:
            os.seteuid(0)
            os.setegid(0)


# --- one process takes another one's place ------------------------------------------------------------------------


def test_the_heir_takes_up_what_is_given_back_at_once(rig: Rig) -> None:
    first, second, third = (rig.store() for _ in range(3))
    rig.claim()
    heir = rig.another()
    for id in (first, second, third):
        rig.spool.let_go(id) if id == third else heir.others_hold([id])
    assert [entry.id for entry in rig.run(heir.claim(9))] == [third]
    where = rig.run(rig.spool.release(first, rig.reactor.seconds() + 5))
    heir.given_back(first, where)
    heir.given_back(second, rig.spool.let_go(second))
    assert [entry.id for entry in rig.run(heir.claim(9))] == [second]
    rig.later(6)
    assert [entry.id for entry in rig.run(heir.claim(9))] == [first]


def test_what_the_heir_holds_back_is_gone_from_there_when_it_was_delivered(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    heir = rig.another()
    heir.others_hold([id])
    assert rig.run(heir.hold(id))
    rig.run(rig.spool.finish(id))
    assert names(rig, "hold") == []
    heir.given_back(id, "")
    assert rig.run(heir.listing()) == []


def test_what_others_hold_is_listed_as_active(rig: Rig) -> None:
    id = rig.store()
    rig.claim()
    heir = rig.another()
    heir.others_hold([id])
    assert [(one.id, one.queue) for one in rig.run(heir.listing())] == [(id, "active")]


@pytest.mark.parametrize("leased", [False, True])
def test_a_requeue_outlives_the_process(rig: Rig, leased: bool) -> None:
    rig.store()
    if leased:
        rig.claim()
    assert rig.run(rig.spool.change("requeue", None)).count == 1
    rig.restart()
    rig.later()
    assert [entry.requeue for entry in rig.claim()] == [True]


# --- with real threads --------------------------------------------------------------------------------------------


@ensureDeferred
async def test_many_at_once_with_real_threads(tmp_path: Path) -> None:
    spool = MaildirSpool(tmp_path / "spool", reactor=real_reactor)
    spool.start()
    accepted = []

    async def client(number: int) -> None:
        for size in (10, 300_000 if number == 0 else 4000, 10):
            envelope = Envelope("a@b", [Recipient("c@d")], time.time())
            draft = spool.draft(envelope)
            draft.write(b"x" * size)
            await draft.commit()
            accepted.append(draft.id)
            if number % 2:
                assert spool.adopt(draft.id, envelope)
                await spool.progress(draft.id, [Progress(0, RecipientState(True, "sent"))])
                await spool.finish(draft.id)

    await gatherResults([Deferred.fromCoroutine(client(number)) for number in range(10)])
    assert len(set(accepted)) == 30
    entries = await spool.claim(100)
    assert len(entries) == 15
    assert await spool.change("delete", None) == Changes(15, [entry.id for entry in entries])
    await spool.stop()
    assert not any(files for _, _, files in os.walk(tmp_path / "spool"))


def test_threads_do_what_was_asked_for_and_end() -> None:
    threads = WorkerThreads(2)
    done: list[int] = []
    for number in range(20):
        threads.callInThread(done.append, number)
    threads.stop()
    assert sorted(done) == list(range(20))
    with pytest.raises(RuntimeError):
        threads.callInThread(done.append, 0)
