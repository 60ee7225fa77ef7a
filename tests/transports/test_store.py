"""Mailboxes: what is written is whole and locked, what fails leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from gateway.config import ConfigError, Settings
from tests.transports.support import NOBODY, ROOT
from transports import worker, workers
from transports.process import Command, Identity, Runner
from transports.store import Box, Failure, Locking, Store
from transports.tasks import Task

QUICK = Locking(attempts=2, delay=0.05)


def box(path: Path | str, **more: Any) -> Box:
    return Box(str(path), NOBODY, **more)


@ensureDeferred
async def test_mbox_is_made_and_appended_to(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    assert await store.keep(box(anybodys / "joe"), iter([b"From a\n", b"one\n\n"])) == 0
    assert await store.keep(box(anybodys / "joe"), iter([b"From b\ntwo\n\n"])) == 12
    assert (anybodys / "joe").read_text() == "From a\none\n\nFrom b\ntwo\n\n"
    found = (anybodys / "joe").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (NOBODY.uid, 0o600)
    assert os.listdir(anybodys) == ["joe"]


@ensureDeferred
async def test_maildir_is_made(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    path = anybodys / "a" / "Maildir"
    for _ in range(2):
        assert await store.keep(box(f"{path}/"), iter([b"message\n"])) == 0
    assert sorted(os.listdir(path)) == ["cur", "new", "tmp"] and os.listdir(path / "tmp") == []
    assert [file.read_text() for file in (path / "new").iterdir()] == ["message\n"] * 2
    assert path.stat().st_mode & 0o777 == 0o700


@ensureDeferred
async def test_many_at_once_do_not_mix(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, Locking(attempts=100, delay=0.01))
    texts = [f"{number:03}" * 20000 + "\n" for number in range(8)]
    results = await gatherResults([
        Deferred.fromCoroutine(store.keep(box(anybodys / "joe"), iter([text.encode()]))) for text in texts])
    assert sorted(results) == [number * 60001 for number in range(8)]
    assert sorted((anybodys / "joe").read_text().splitlines(keepends=True)) == texts


def do(kind: str, spec: dict[str, Any], message: Iterable[bytes] = ()) -> Any:
    """What a worker would answer."""
    (task,) = [task for done in worker.do([Task(kind, spec, message)]) for task in done]
    return task.answer


def broken() -> Iterator[bytes]:
    yield b"x" * 200_000
    raise OSError("gone")


@ensureDeferred
async def test_half_a_message_is_never_kept(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    await store.keep(box(anybodys / "joe"), iter([b"whole\n"]))
    failure = await store.keep(box(anybodys / "joe"), broken())
    assert failure == Failure("4.3.0", "cannot read the message: gone")
    failure = await store.keep(box(f"{anybodys}/dir/"), broken())
    assert failure is not None and list((anybodys / "dir" / "new").iterdir()) == []


@pytest.mark.parametrize("number, dsn", [
    (errno.EDQUOT, "5.2.2"), (errno.EFBIG, "5.2.2"), (errno.ENOSPC, "4.3.0"), (errno.EIO, "4.2.0"),
    (errno.ESTALE, "4.2.0"), (errno.EROFS, "4.2.0"),
])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_write_errors(anybodys: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, dsn: str) -> None:
    """Each kind, at each step: the mailbox is as it was, and the verdict is right."""
    (anybodys / "joe").write_text("before\n")
    spec = MBOX | {"path": f"{anybodys}/joe"}
    real = getattr(os, call)
    calls = 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if call == "write" and calls == 1:
            return real(arguments[0], bytes(arguments[1])[:1])  # the disk fills up on the way
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    message = [b"From x\n", b"after\n"]
    answers = [do("maildir", {"path": f"{anybodys}/m/", "limit": 0}, message)]
    if call != "rename":
        calls = 0
        answers.append(do("mbox", spec, message))
    monkeypatch.undo()
    for answer in answers:
        assert answer["dsn"] == dsn and os.strerror(number) in answer["text"]
    assert (anybodys / "joe").read_text() == "before\n" and not (anybodys / "joe.lock").exists()
    assert [list((anybodys / "m" / name).iterdir()) for name in ("tmp", "new")] == [[], []]


MBOX = {"limit": 0, "locks": ["fcntl", "dotlock"], "attempts": 2, "delay": 0, "stale": 1000, "devices": False,
        "lenient": False, "owner": None, "user": None, "unusable": "5.2.0"}


def batch(kind: str, *specs: dict[str, Any]) -> list[Task]:
    return [Task(kind, spec, [f"message {number}\n".encode()]) for number, spec in enumerate(specs)]


def test_a_batch_for_one_mbox_is_forced_to_disk_once(anybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = count_calls(monkeypatch, "fsync")
    tasks = batch("mbox", *[MBOX | {"path": f"{anybodys}/joe"}] * 3)
    assert list(worker.do(tasks)) == [tasks]
    assert [task.answer for task in tasks] == [{"at": 0}, {"at": 10}, {"at": 20}]
    assert (anybodys / "joe").read_text() == "message 0\nmessage 1\nmessage 2\n"
    assert len(syncs) == 1


def test_a_pipe_without_a_reader_holds_nobody_up(anybodys: Path) -> None:
    os.mkfifo(anybodys / "joe")
    for lenient, dsn in ((False, "5.2.0"), (True, "4.2.0")):
        tasks = batch("mbox", MBOX | {"path": f"{anybodys}/joe", "devices": lenient, "lenient": lenient})
        list(worker.do(tasks))
        assert tasks[0].answer["dsn"] == dsn


def test_one_that_is_too_large_is_no_harm_to_the_others(anybodys: Path) -> None:
    tasks = batch("mbox", *[MBOX | {"path": f"{anybodys}/joe", "limit": 25}] * 3)
    tasks[1].message = [b"x" * 10, b"x" * 10]
    list(worker.do(tasks))
    assert [task.answer.get("at", task.answer.get("dsn")) for task in tasks] == [0, "5.2.2", 10]
    assert (anybodys / "joe").read_text() == "message 0\nmessage 2\n"


def test_what_cannot_be_forced_to_disk_together_is_tried_one_by_one(
    anybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file server a quota may be found to be used up no earlier than now, and one of them is too much."""
    (anybodys / "joe").write_text("before\n")
    syncs = count_calls(monkeypatch, "fsync", fail={1: errno.EDQUOT, 3: errno.EDQUOT})
    tasks = batch("mbox", *[MBOX | {"path": f"{anybodys}/joe"}] * 3)
    list(worker.do(tasks))
    assert [task.answer.get("at", task.answer.get("dsn")) for task in tasks] == [7, "5.2.2", 17]
    assert (anybodys / "joe").read_text() == "before\nmessage 0\nmessage 2\n"
    assert len(syncs) == 4


def count_calls(
    monkeypatch: pytest.MonkeyPatch, name: str, fail: Mapping[int, int] = MappingProxyType({})
) -> list[int]:
    """Grows with each call of that function of os; ``fail``: number of a call → errno."""
    real, calls = getattr(os, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(len(calls) + 1)
        if number := fail.get(calls[-1]):
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, name, counted)
    return calls


def test_a_batch_for_maildirs(anybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and each folder once; the one that fails is no harm to the others."""
    (anybodys / "file").touch()
    syncs = count_calls(monkeypatch, "fsync")
    tasks = batch("maildir", *[{"path": f"{anybodys}/{name}/", "limit": 0} for name in ("a", "file", "a", "b")])
    list(worker.do(tasks))
    assert [task.answer.get("at", task.answer.get("dsn")) for task in tasks] == [0, "4.2.0", 0, 0]
    assert sorted(path.read_text() for path in (anybodys / "a" / "new").iterdir()) == ["message 0\n", "message 2\n"]
    assert len(syncs) == 3 + 2


def test_a_maildir_whose_folder_cannot_be_forced_to_disk(anybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is tried again, so it must not stay."""
    count_calls(monkeypatch, "fsync", fail={3: errno.EIO})
    tasks = batch("maildir", *[{"path": f"{anybodys}/a/", "limit": 0}] * 2)
    list(worker.do(tasks))
    assert [task.answer["dsn"] for task in tasks] == ["4.2.0", "4.2.0"]
    assert list((anybodys / "a" / "new").iterdir()) == []


def test_a_mailbox_that_is_locked_does_not_hold_up_the_others(anybodys: Path) -> None:
    (anybodys / "joe.lock").touch()
    tasks = batch("mbox", *[MBOX | {"path": f"{anybodys}/{name}"} for name in ("joe", "ann", "joe")])
    done = worker.do(tasks)
    assert next(done) == [tasks[1]]
    (anybodys / "joe.lock").unlink()
    assert next(done) == [tasks[0], tasks[2]]
    assert [task.answer for task in tasks] == [{"at": 0}, {"at": 0}, {"at": 10}]


@ensureDeferred
async def test_a_worker_that_waits_for_a_lock_gets_company(runner: Runner, anybodys: Path) -> None:
    """But not for the same mailbox."""
    store = Store(runner, Locking(attempts=100, delay=0.05))
    (anybodys / "joe.lock").touch()
    held = [Deferred.fromCoroutine(store.keep(box(anybodys / "joe"), iter([b"1\n"])))]
    await deferLater(reactor, 0.1)
    held.append(Deferred.fromCoroutine(store.keep(box(anybodys / "joe"), iter([b"2\n"]))))
    assert await store.keep(box(anybodys / "ann"), iter([b"x\n"])) == 0
    await deferLater(reactor, 0.1)
    assert not any(one.called for one in held) and len(writers()) == 2
    (anybodys / "joe.lock").unlink()
    assert await gatherResults(held) == [0, 2]


def writers() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit() and is_writer(each)]


@ensureDeferred
async def test_a_worker_ends_when_there_is_nothing_to_do(
    runner: Runner, anybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "IDLE_TIME", 0.1)
    assert await Store(runner, QUICK).keep(box(anybodys / "joe"), iter([b"x\n"])) == 0
    assert len(writers()) == 1
    await deferLater(reactor, 0.3)
    assert writers() == []
    assert await Store(runner, QUICK).keep(box(anybodys / "joe"), iter([b"x\n"])) == 2


def test_a_message_without_its_end_is_cut_off(anybodys: Path) -> None:
    """As if the gateway had died while it was writing."""
    spec = MBOX | {"path": f"{anybodys}/joe"}
    (anybodys / "joe").write_text("before\n")
    cut = {"dsn": "4.3.0", "text": "the message was cut short"}
    assert do("mbox", spec, broken_off()) == cut
    assert (anybodys / "joe").read_text() == "before\n"
    assert do("maildir", {"path": f"{anybodys}/m/", "limit": 0}, broken_off()) == cut
    assert not any((anybodys / "m" / "new").iterdir()) and not any((anybodys / "m" / "tmp").iterdir())


def broken_off() -> Iterator[bytes]:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"\0\0\0\5abcd\n\0\0\0\5ab")
    return worker.Stream(theirs).message()


@ensureDeferred
async def test_a_process_serves_its_identity_on_and_on(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    for _ in range(3):
        assert await store.keep(box(f"{anybodys}/dir/"), iter([b"x"])) == 0
    names = [path.name for path in (anybodys / "dir" / "new").iterdir()]
    assert len(names) == 3 and len({re.search(r"P(\d+)M", name) for name in names}) == 3
    assert len({re.search(r"P(\d+)M", name)[1] for name in names}) == 1  # type: ignore[index]


@ensureDeferred
async def test_a_process_that_is_killed(runner: Runner, anybodys: Path) -> None:
    """Its delivery is tried again; the next one gets another process."""
    store = Store(runner, Locking(attempts=1000, delay=0.01))
    assert await store.keep(box(anybodys / "joe"), iter([b"x\n"])) == 0
    (anybodys / "joe.lock").touch()
    waiting = Deferred.fromCoroutine(store.keep(box(anybodys / "joe"), iter([b"y\n"])))
    await deferLater(reactor, 0.1)
    (pid,) = writers()
    os.kill(pid, signal.SIGKILL)
    assert await waiting == Failure("4.3.0", "killed by signal 9")
    (anybodys / "joe.lock").unlink()
    assert await store.keep(box(anybodys / "joe"), iter([b"z\n"])) == 2


def is_writer(pid: str) -> bool:
    """Whether it is the child of a spawner of this process."""
    def parent(number: str) -> str:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]

    try:
        return parent(parent(pid)) == str(os.getpid())
    except OSError:
        return False


@ensureDeferred
async def test_limit(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    assert await store.keep(box(anybodys / "joe", limit=100), iter([b"x" * 100])) == 0
    assert await store.keep(box(anybodys / "joe", limit=100), iter([b"x"])) == Failure(
        "5.2.2", "error writing message: File too large")
    assert (anybodys / "joe").stat().st_size == 100
    assert (await store.keep(box(f"{anybodys}/m/", limit=100), iter([b"x" * 101]))) == Failure(
        "5.2.2", "error writing message: File too large")


@ensureDeferred
async def test_dot_lock(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    lock = anybodys / "joe.lock"
    lock.touch()
    failure = await store.keep(box(anybodys / "joe"), iter([b"x"]))
    assert failure == Failure("4.2.0", f"unable to create lock file {lock}: File exists")
    os.utime(lock, (time.time() - 1000, time.time() - 1000))
    assert await store.keep(box(anybodys / "joe"), iter([b"x"])) == 0
    assert not lock.exists()


@ensureDeferred
async def test_a_dot_lock_that_may_not_be_made(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    (anybodys / "joe").touch()
    (anybodys / "joe").chmod(0o666)
    anybodys.chmod(0o755)
    if not ROOT:
        return  # our own folder: we may
    failure = await store.keep(box(anybodys / "joe"), iter([b"x"]))
    assert failure == Failure("5.2.0", f"unable to create lock file {anybodys}/joe.lock: Permission denied")
    assert await store.keep(box(anybodys / "joe", lenient=True), iter([b"x"])) == 0


@ensureDeferred
async def test_kernel_lock(runner: Runner, anybodys: Path) -> None:
    (anybodys / "joe").touch()
    (anybodys / "joe").chmod(0o666)
    with open(anybodys / "joe", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        failure = await Store(runner, QUICK).keep(box(anybodys / "joe"), iter([b"x"]))
    assert failure is not None and failure.dsn == "4.2.0" and "fcntl lock" in failure.text
    assert not (anybodys / "joe.lock").exists()


@ensureDeferred
async def test_files_that_are_not_what_they_seem(runner: Runner, anybodys: Path) -> None:
    store = Store(runner, QUICK)
    target = anybodys / "target"
    target.write_text("secret\n")
    target.chmod(0o666)
    os.symlink(target, anybodys / "link")
    os.lchown(anybodys / "link", NOBODY.uid, NOBODY.gid)
    assert await store.keep(box(anybodys / "link"), iter([b"x"])) == Failure("5.2.0", "file is a symbolic link")
    target.chmod(0o777)
    assert await store.keep(box(target, lenient=True), iter([b"x"])) == Failure("5.7.1", "file is executable")
    target.chmod(0o666)
    os.link(target, anybodys / "second")
    failure = await store.keep(box(anybodys / "second"), iter([b"x"]))
    assert failure == Failure("5.2.0", "file has 2 hard links")
    assert target.read_text() == "secret\n"
    failure = await store.keep(box("/dev/null"), iter([b"x"]))
    assert failure == Failure("5.2.0", "destination /dev/null is not a regular file")
    assert await store.keep(box("/dev/null", lenient=True), iter([b"x" * 100_000])) == 0


@ensureDeferred
async def test_owner(runner: Runner, anybodys: Path) -> None:
    (anybodys / "joe").touch()
    (anybodys / "joe").chmod(0o666)
    failure = await Store(runner, QUICK).keep(box(anybodys / "joe", owner=NOBODY.uid + 1), iter([b"x"]))
    assert failure == Failure("4.2.0", f"destination {anybodys}/joe is not owned by recipient")


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_in_a_folder_of_roots(runner: Runner, anybodys: Path) -> None:
    anybodys.chmod(0o755)
    mailbox_of = Box(str(anybodys / "joe"), Identity(0, 0), owner=NOBODY.uid, user=(NOBODY.uid, NOBODY.gid))
    another = Box(str(anybodys / "ann"), Identity(0, 0), owner=54321, user=(54321, 54322))
    tight = Box(str(anybodys / "ann"), Identity(0, 0), 1, owner=54321, user=(54321, 54322))
    store = Store(runner, QUICK)
    assert await store.keep(mailbox_of, iter([b"x"])) == 0
    assert await store.keep(another, iter([b"z"])) == 0
    assert isinstance(await store.keep(tight, iter([b"z"])), Failure)
    assert await store.keep(mailbox_of, iter([b"y"])) == 1
    found = (anybodys / "joe").stat()
    assert (found.st_uid, found.st_gid, found.st_size) == (NOBODY.uid, NOBODY.gid, 2)
    found = (anybodys / "ann").stat()
    assert (found.st_uid, found.st_gid, found.st_size) == (54321, 54322, 1)
    assert sorted(os.listdir(anybodys)) == ["ann", "joe"]


@ensureDeferred
async def test_a_maildir_that_cannot_be_made(runner: Runner, anybodys: Path) -> None:
    (anybodys / "file").touch()
    failure = await Store(runner, QUICK).keep(box(f"{anybodys}/file/dir/"), iter([b"x"]))
    assert failure is not None and failure.dsn == "4.2.0" and failure.text.endswith("Not a directory")


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="takes root rights")
@ensureDeferred
async def test_a_disk_that_is_full(runner: Runner, anybodys: Path) -> None:
    """Really: of what comes together, what has room is kept."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "none", anybodys]).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        store = Store(runner, QUICK)
        full = Failure("4.3.0", "error writing message: No space left on device")
        for path in (anybodys / "joe", f"{anybodys}/dir/"):
            kept = await gatherResults([
                Deferred.fromCoroutine(store.keep(box(path), iter([b"x" * count])))
                for count in (4000, 100_000, 4000, 40_000, 1000)
            ])
            assert [one == full for one in kept] == [False, True, False, path == f"{anybodys}/dir/", False]
            if isinstance(path, Path):
                assert path.stat().st_size == 49_000
                path.unlink()
                (anybodys / "fill").write_bytes(b"x" * 30_000)
    finally:
        subprocess.run(["umount", "--lazy", anybodys], check=True)


def test_lock_styles_are_checked() -> None:
    assert Locking.of(Settings({"mailbox_delivery_lock": "flock, dotlock"}), "mailbox_delivery_lock").styles == (
        "flock", "dotlock")
    with pytest.raises(ConfigError, match="there is no lock style lockf"):
        Locking.of(Settings({"mailbox_delivery_lock": "lockf"}), "mailbox_delivery_lock")


@ensureDeferred
async def test_reading_as_somebody(runner: Runner, anybodys: Path) -> None:
    (anybodys / "f").write_text("text")
    (anybodys / "f").chmod(0o604)
    def read(what: dict[str, Any]) -> Any:
        return do("read", plain | what)

    plain = {"limit": 10, "links": True, "instead": None}
    outcome = await runner.run(
        Command([], NOBODY, task="read", spec={"path": f"{anybodys}/f"} | plain, output_limit=10))
    assert (outcome.output, outcome.answer["found"], outcome.answer["mode"]) == (b"text", True, 0o604)
    assert read({"path": f"{anybodys}/nowhere"}) == {"found": False}
    assert read({"path": str(anybodys)})["regular"] is False
    (anybodys / "link").symlink_to("f")
    link = {"path": f"{anybodys}/link"}
    assert read(link | {"links": False}) == {"found": True, "regular": False}


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root rights")
@ensureDeferred
async def test_what_root_reads_for_others(runner: Runner, anybodys: Path) -> None:
    """Only what nobody else can have led it to."""
    async def read(path: Path) -> str:
        spec = {"path": str(path), "limit": 10, "links": True, "instead": (NOBODY.uid, NOBODY.gid)}
        outcome = await runner.run(Command([], Identity(0, 0), task="read", spec=spec, output_limit=10))
        return outcome.output.decode() or str(outcome.answer.get("text"))

    theirs = anybodys / "theirs"
    theirs.mkdir()
    with tempfile.TemporaryDirectory(dir="/root") as roots:
        secret = Path(roots) / "secret"
        (theirs / "own").write_text("own")
        for path, owner in ((theirs, NOBODY.uid), (theirs / "own", NOBODY.uid)):
            os.chown(path, owner, NOBODY.gid)
        (theirs / "folder").symlink_to(roots)
        (theirs / "link").symlink_to(secret)
        os.lchown(theirs / "link", NOBODY.uid, NOBODY.gid)
        (theirs / "roots").write_text("roots")
        for path in (secret, theirs / "own", theirs / "roots"):
            if path == secret:
                path.write_text("secret")
            path.chmod(0o600)
        assert await read(secret) == "secret"
        assert await read(theirs / "own") == "own"
        for trap in ("folder/secret", "link", "roots"):
            assert await read(theirs / trap) == "Permission denied"
