"""Programs are started with what they should have, nothing else, and all ways to end are told apart."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.transports.support import NOBODY, ROOT
from transports import launchers, spawner, workers
from transports.process import Command, Ending, Identity, Outcome, Runner
from transports.store import Box, Locking, Store


def shell(text: str, **more: object) -> Command:
    return Command(["/bin/sh", "-c", text], NOBODY, **more)  # type: ignore[arg-type]


def run(runner: Runner, command: Command) -> Deferred[Outcome]:
    return Deferred.fromCoroutine(runner.run(command))


@ensureDeferred
async def test_arguments_input_and_output(runner: Runner) -> None:
    outcome = await runner.run(Command(["/bin/sh", "-c", 'cat; echo "$0|$1" >&2; exit 3', "a b", "$x;ü"], NOBODY,
                                       stdin=[b"one ", b"two\n"]))
    assert (outcome.ending, outcome.code, outcome.output) == (Ending.EXITED, 3, "one two\na b|$x;ü\n".encode())


@ensureDeferred
async def test_nothing_is_inherited(runner: Runner, tmp_path: Path) -> None:
    os.environ["GATEWAY_SECRET"] = "x"
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        outcome = await runner.run(shell("umask; ls /proc/self/fd; env; ps -o pid=,pgid=,sid= -p $$",
                                         environment={"ONE": "1", "PATH": "/bin:/usr/bin"}))
    del os.environ["GATEWAY_SECRET"]
    lines = outcome.output.decode().splitlines()
    assert lines[0] == "0077"
    assert lines[1:5] == ["0", "1", "2", "3"]  # 3 is the listing itself
    assert sorted(line for line in lines[5:-1] if not line.startswith("PWD=")) == ["ONE=1", "PATH=/bin:/usr/bin"]
    assert len(set(lines[-1].split())) == 1  # leads its group and session


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_identity_is_exactly_what_was_asked_for(runner: Runner) -> None:
    outcome = await runner.run(Command(["/usr/bin/id"], Identity(65534, 12)))
    assert b"uid=65534(nobody) gid=12(man) groups=12(man)" in outcome.output


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_no_program_runs_as_root(runner: Runner) -> None:
    outcome = await runner.run(Command(["/bin/true"], Identity(0, 0)))
    assert outcome.ending is Ending.NOT_STARTED
    assert "never run as root" in outcome.text


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_directory_is_entered_with_the_users_rights(runner: Runner, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    outcome = await runner.run(shell("pwd", directory=str(tmp_path)))
    assert (outcome.ending, outcome.text) == (Ending.NOT_STARTED, f"cannot enter {tmp_path}: Permission denied")


@ensureDeferred
async def test_what_cannot_be_started_is_told_from_exit_status_1(runner: Runner) -> None:
    for command, text in (
        (Command(["/no/such/program"], NOBODY), "cannot execute /no/such/program: No such file or directory"),
        (Command(["/etc/passwd"], NOBODY), "cannot execute /etc/passwd: Permission denied"),
        (Command(["nowhere"], NOBODY, {"PATH": "/bin:/sbin"}), "cannot execute nowhere: No such file or directory"),
        (shell("true", directory="/no/such"), "cannot enter /no/such: No such file or directory"),
        (Command(["/bin/true", "a\0b"], NOBODY), "an argument holds a NUL byte"),
        (Command([], NOBODY), "the command is empty"),
    ):
        outcome = await runner.run(command)
        assert (outcome.ending, outcome.text) == (Ending.NOT_STARTED, text)
    outcome = await runner.run(shell("exit 127"))
    assert (outcome.ending, outcome.code) == (Ending.EXITED, 127)


@pytest.mark.skipif(ROOT, reason="root may do it")
@ensureDeferred
async def test_another_user_takes_root_rights(runner: Runner) -> None:
    outcome = await runner.run(Command(["/bin/true"], Identity(NOBODY.uid + 1, NOBODY.gid)))
    assert outcome.ending is Ending.NOT_ALLOWED and "takes root rights" in outcome.text


@ensureDeferred
async def test_names_are_found_in_path_or_given_to_a_shell(runner: Runner) -> None:
    path = {"PATH": "/nowhere:/bin:/usr/bin"}
    assert (await runner.run(Command(["true"], NOBODY, path))).ending is Ending.EXITED
    assert (await runner.run(Command(["exit", "67"], NOBODY, path, shell="exit 67"))).code == 67


@ensureDeferred
async def test_programs_may_open_as_many_files_as_ever(runner: Runner) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        assert (await runner.run(shell("ulimit -Sn"))).output == b"1024\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@ensureDeferred
async def test_default_signals(runner: Runner) -> None:
    outcome = await runner.run(shell("yes | head -1; kill -PIPE $$; echo ignored"))
    assert (outcome.ending, outcome.code, outcome.output) == (Ending.SIGNALED, 13, b"y\n")


@ensureDeferred
async def test_time_limit_ends_the_whole_group(runner: Runner, anybodys: Path) -> None:
    began = time.monotonic()
    outcome = await runner.run(shell(f"echo begun; (sleep 0.5; touch {anybodys}/late) & sleep 3", time_limit=0.2))
    assert (outcome.ending, outcome.output) == (Ending.TIMED_OUT, b"begun\n")
    assert time.monotonic() - began < 2
    await task.deferLater(reactor, 0.6, lambda: None)
    assert not (anybodys / "late").exists()


@ensureDeferred
async def test_a_daemon_that_keeps_the_output_is_not_waited_for(runner: Runner) -> None:
    began = time.monotonic()
    outcome = await runner.run(shell("echo said; sleep 4 &"))
    assert (outcome.ending, outcome.output) == (Ending.EXITED, b"said\n")
    assert time.monotonic() - began < 3


@ensureDeferred
async def test_large_input_is_taken_as_it_is_read(runner: Runner) -> None:
    taken = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield b"x" * 65536

    outcome = run(runner, shell("sleep 0.3; wc -c", stdin=blocks()))
    await task.deferLater(reactor, 0.1, lambda: None)
    assert taken < 10
    assert (await outcome).output.strip() == b"13107200"


@ensureDeferred
async def test_input_that_is_not_read_is_no_failure(runner: Runner) -> None:
    outcome = await runner.run(Command(["/bin/true"], NOBODY, stdin=(b"x" * 65536 for _ in range(100))))
    assert (outcome.ending, outcome.code) == (Ending.EXITED, 0)


@ensureDeferred
async def test_a_file_is_the_input(runner: Runner) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"skipped" + b"x" * 300_000)
        file.seek(7)
        outcome = await runner.run(shell("wc -c", file=file))
        assert outcome.output.strip() == b"300000"


@ensureDeferred
async def test_broken_input_kills_the_program(runner: Runner, anybodys: Path) -> None:

    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("disk trouble")

    outcome = await runner.run(shell(f"cat > {anybodys}/got; touch {anybodys}/done", stdin=blocks()))
    assert (outcome.ending, outcome.text) == (Ending.GIVEN_UP, "cannot read the message: disk trouble")
    await task.deferLater(reactor, 0.5, lambda: None)
    assert not (anybodys / "done").exists()


@ensureDeferred
async def test_an_event_that_was_meant_for_somebody_else(runner: Runner, anybodys: Path) -> None:
    """Descriptors are used again at once: what the reactor says of one may be old.  Nothing may be cut short by it."""
    store = Store(runner, Locking())
    await run(runner, shell("true"))
    outcome = run(runner, shell("sleep 0.3; cat; sleep 0.1; echo end", stdin=[b"x" * 200_000], output_limit=300_000))
    kept = Deferred.fromCoroutine(store.keep(Box(f"{anybodys}/joe", NOBODY), (b"x" * 65536 for _ in range(50))))
    seen = set()
    for _ in range(20):
        await task.deferLater(reactor, 0.02, lambda: None)
        for each in {*reactor.getReaders(), *reactor.getWriters()}:  # type: ignore[attr-defined]
            if each.logPrefix() in ("program input", "program output", "program starter", "mailbox writer"):
                seen.add(each.logPrefix())
                reactor.removeReader(each)  # type: ignore[attr-defined]
                reactor.removeWriter(each)  # type: ignore[attr-defined]
                each.connectionLost(Failure(ConnectionLost()))
    assert len(seen) == 4
    assert (await outcome).output == b"x" * 200_000 + b"end\n"
    assert await kept == 0 and (anybodys / "joe").stat().st_size == 65536 * 50


@ensureDeferred
async def test_output_is_read_on_but_not_kept(runner: Runner) -> None:
    outcome = await runner.run(shell("head -c 3000000 /dev/zero", output_limit=10))
    assert (outcome.ending, outcome.code, outcome.output) == (Ending.EXITED, 0, b"\0" * 10)


@ensureDeferred
async def test_long_argument_lists(runner: Runner) -> None:
    outcome = await runner.run(Command(["/bin/sh", "-c", 'echo "$#"'] + ["r" * 100] * 5001, NOBODY))
    assert outcome.output == b"5000\n"


@ensureDeferred
async def test_many_at_once(runner: Runner) -> None:
    outcomes = await gatherResults([run(runner, shell(f"exit {number}")) for number in range(60)])
    assert [outcome.code for outcome in outcomes] == list(range(60))


@ensureDeferred
async def test_a_script_that_names_no_interpreter_is_the_shells(runner: Runner, anybodys: Path) -> None:
    (anybodys / "our-script").write_text('echo "$1"; exit 5\n')
    (anybodys / "our-script").chmod(0o755)
    for name in (f"{anybodys}/our-script", "our-script"):
        outcome = await runner.run(Command([name, "a b"], NOBODY, {"PATH": f"/bin:{anybodys}"}))
        assert (outcome.ending, outcome.code, outcome.output) == (Ending.EXITED, 5, b"a b\n")


# --- the process that starts programs for an identity --------------------------------------------------------------


async def parent(runner: Runner, identity: Identity = NOBODY) -> bytes:
    """Who starts programs for that identity."""
    return (await runner.run(Command(["/bin/sh", "-c", "echo $PPID"], identity))).output


@ensureDeferred
async def test_a_launcher_belongs_to_one_identity_while_there_is_work(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "IDLE_TIME", 0.2)
    first = await parent(runner)
    assert await parent(runner) == first
    if ROOT:
        assert await parent(runner, Identity(NOBODY.uid, 12)) != first
    await task.deferLater(reactor, 0.6, lambda: None)
    assert not Path(f"/proc/{first.decode().strip()}").exists()
    assert await parent(runner) not in (first, b"")


@ensureDeferred
async def test_a_program_that_ends_its_launcher_is_tried_again(runner: Runner) -> None:
    outcome = await runner.run(shell("kill -9 $PPID; sleep 0.2"))
    assert (outcome.ending, outcome.text) == (Ending.GIVEN_UP, "the program starter has ended")
    assert (await runner.run(shell("exit 4"))).code == 4


@ensureDeferred
async def test_a_program_that_stops_its_launcher_runs_out_of_time(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "PATIENCE", 0.2)
    outcome = await runner.run(shell("kill -STOP $PPID; sleep 0.5", time_limit=0.1))
    assert outcome.ending is Ending.TIMED_OUT
    assert (await runner.run(shell("exit 4"))).code == 4


@ensureDeferred
async def test_a_launcher_that_is_stopped_when_its_program_is_being_ended_is_ended_too(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "PATIENCE", 0.2)
    kill = runner.kill

    def stop_and_kill(number: int, **more: int) -> None:
        if "child" in more:
            os.kill(spawner._parent(more["child"]), signal.SIGSTOP)
        kill(number, **more)

    monkeypatch.setattr(runner, "kill", stop_and_kill)
    outcome = await run(runner, shell("sleep 60", time_limit=0.1)).addTimeout(10, reactor)
    assert outcome.ending is Ending.TIMED_OUT
    assert (await runner.run(shell("exit 4"))).code == 4


PRYING = """
import ctypes, os, sys
seen = []
for pid in sys.argv[1:]:
    for name in ("environ", "maps", "fd/0", "cwd", "exe"):
        try:
            path = f"/proc/{pid}/{name}"
            open(path, "rb").read(1) if name in ("environ", "maps") else os.readlink(path)
            seen.append(name)
        except OSError as error:
            assert error.errno in (1, 13), error
    if ctypes.CDLL(None).ptrace(16, int(pid), 0, 0) == 0:
        seen.append("ptrace")
    if ctypes.CDLL(None).syscall(438, ctypes.CDLL(None).syscall(434, int(pid), 0), 0, 0) >= 0:
        seen.append("pidfd_getfd")
print(seen)
"""


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_a_program_learns_nothing_of_the_processes_that_act_as_its_user(
    runner: Runner, anybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the one that has started it, nor of the one that writes mailboxes for that user."""
    for module in (launchers, workers):
        monkeypatch.setattr(module, "IDLE_TIME", 60)
    python = ["/usr/bin/python3", "-c", PRYING]
    kept = await Store(runner, Locking()).keep(Box(f"{anybodys}/joe", NOBODY), iter([b"x"]))
    assert kept == 0
    starter = int(await parent(runner))
    ours = [pid for pid in children(children(os.getpid())[-1]) if Path(f"/proc/{pid}/status").read_text()]
    assert starter in ours and len(ours) == 2
    outcome = await runner.run(Command([*python, *map(str, ours)], NOBODY))
    assert outcome.output == b"[]\n"
    for pid in ours:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status and "\nGroups:\t65534 \n" in status
        assert {os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0] for number in os.listdir(f"/proc/{pid}/fd")} \
            <= {"socket", "pipe", "/dev/null"}
    slow = run(runner, shell("exec sleep 3", time_limit=1.0))
    await task.deferLater(reactor, 0.2, lambda: None)
    outcome = await runner.run(Command([*python, str(children(starter)[0])], NOBODY))
    assert b"environ" in outcome.output and b"fd/0" in outcome.output  # of what is no secret it would have learnt
    await slow


def children(pid: int) -> list[int]:
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(each))
        except OSError:
            pass
    return sorted(found)


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@ensureDeferred
async def test_a_set_uid_program_has_its_time_limit_too(runner: Runner, anybodys: Path) -> None:
    """Its user could not end it."""
    shutil.copy("/usr/bin/setpriv", anybodys / "become-root")
    (anybodys / "become-root").chmod(0o4755)
    began = time.monotonic()
    outcome = await runner.run(
        Command([f"{anybodys}/become-root", "--reuid=0", "/bin/sh", "-c", "id -ru; sleep 5"], NOBODY, time_limit=0.3)
    )
    if outcome.output != b"0\n":
        pytest.skip("set-uid programs have no effect here")
    assert outcome.ending is Ending.TIMED_OUT and time.monotonic() - began < 3


@ensureDeferred
async def test_the_starter_may_die(runner: Runner) -> None:
    slow = run(runner, shell("sleep 5"))
    await run(runner, shell("true"))
    assert runner._process is not None
    runner._process.kill()
    outcome = await slow
    assert (outcome.ending, outcome.text) == (Ending.GIVEN_UP, "the program starter has ended")
    assert (await runner.run(shell("exit 4"))).code == 4


@ensureDeferred
async def test_no_program_outlives_the_runner(anybodys: Path) -> None:
    runner = Runner(reactor)
    slow = run(runner, shell(f"sleep 0.4; touch {anybodys}/late"))
    await run(runner, shell("true"))
    runner.close()
    assert (await slow).ending is Ending.GIVEN_UP
    await task.deferLater(reactor, 0.7, lambda: None)
    assert not (anybodys / "late").exists()
