"""The uucp service: attributes, command lines, jobs and batches, results; with a program in uux's place."""

from __future__ import annotations

import io
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock, deferLater
from zope.interface.verify import verifyObject

from gateway.compression import KINDS, unpacked
from gateway.config import ConfigError, Service, Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT, IDescribes, ITransport
from gateway.log import MemoryLog
from spool.envelope import Client, Recipient
from tests.transports.support import Bytes, Contents, request
from tests.transports.test_uucp_attachments import message
from transports.process import Runner
from transports.programs import Guards
from transports.uucp import jobs
from transports.uucp.addressing import Hop, bang_sender
from transports.uucp.jobs import Jobs, trace
from transports.uucp.service import UucpService
from transports.uucp.shelf import Shelf, key_of
from transports.uucp.transport import UucpTransport

USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
MESSAGE = b"From: a@client.example\nSubject: x\n\nFrom a line\n.. dot\nlast\n"
CLASSIC = ["argv=uux", "-r", "-n", "-z", "-a$sender", "-", "$nexthop!rmail", "($recipient)"]


def service(*words: str, **values: str) -> UucpService:
    settings = Settings({"queue_directory": "/", "mail_owner": "postfix-test", **values})
    return UucpService.from_service(
        Service("uucp", "unix", command="uucp", arguments=[f"user={USER}", *words], path="master.cf", line=7), settings,
        {})


class World:
    """A transport whose uux writes down what it gets, in files 1, 2 …, and says a job ID."""

    def __init__(self, runner: Runner, folder: Path, *words: str, says: str = "", **values: str) -> None:
        self.folder, self.log = folder, MemoryLog()
        spool = folder / "spool"
        spool.mkdir()
        (folder / "config").write_text(f"nodename here\nspool {spool}\nlogfile {folder}/Log\n")
        uux = folder / "uux"
        says = says or 'echo "beta.N0123456789$n"'
        uux.write_text(f"""#!/bin/sh
n=1; while ! mkdir {folder}/$n 2>/dev/null; do n=$((n+1)); done
printf '%s\\n' "$@" > {folder}/$n/arguments; cat > {folder}/$n/input; chmod -R a+rX {folder}/$n
{says}
""")
        uux.chmod(0o755)
        self.contents = Contents({"ID": MESSAGE})
        self.syncs = 0
        if not any(word.startswith("argv=") for word in words):
            words = (*words, *f"argv={uux} -I {folder}/config -z -a$sender - $nexthop!rmail ($recipient)".split(" "))
        read = service(*words, **values)
        guard = Guards(self.in_thread).uux(read.taylor.spool)
        self.transport = UucpTransport(
            read, runner, Jobs(read, runner, self.in_thread), self.contents, guard, self.log, reactor, folder)

    def in_thread(self, work: Any, *arguments: Any) -> Any:
        self.syncs += not arguments
        return succeed(work(*arguments) if arguments else None)

    async def deliver(self, *addresses: str, nexthop: str = "beta", **facts: Any) -> Any:
        return await self.transport.deliver(request(*addresses, nexthop=nexthop, service="uucp", **facts))

    def arguments(self, number: int = 1) -> list[str]:
        """Without program and configuration."""
        return (self.folder / str(number) / "arguments").read_text().splitlines()[2:]

    def input(self, number: int = 1) -> bytes:
        return (self.folder / str(number) / "input").read_bytes()


# --- attributes ---------------------------------------------------------------------------------------------------


def test_the_recipe_of_pipe_is_understood() -> None:
    read = service("flags=Fqhu", *CLASSIC)
    assert [option.texts[0] for option in read.options] == ["-n", "-z", "-a"]
    assert (read.command, read.packing, read.batched) == ("rmail", "none", False)
    assert read.pipe.flags == set("Fqhu")


def test_without_a_command_line() -> None:
    read = service(
        "command=gsmtp", "grade=C", "grades=10k:A,1M:k", "daily=5M", "queued=10M", "call=yes", "lifetime=2d", "size=2M")
    assert (read.command, read.packing, read.batched, read.pipe.argv[0]) == ("gsmtp", "gzip", True, "uux")
    assert read.grades.by_size == ((10_000, "A"), (1_000_000, "k"))
    assert (read.daily, read.queued, read.call, read.lifetime) == (5_000_000, 10_000_000, "yes", 172_800.0)
    assert read.pipe.flags == set("Fqhu") and read.pipe.size == 2_000_000


@pytest.mark.parametrize("words, what", [
    (["nonsense=1"], 'unknown attribute "nonsense=1"'),
    (["grade=NN"], '"NN" is no grade'),
    (["grades=10k"], '"" is no grade'),
    (["daily=much"], "daily=much is no number"),
    (["lifetime=x"], "lifetime=x is no time"),
    (["call=maybe"], "call=maybe is not known"),
    (["retrieve=nowhere"], "retrieve=nowhere is no address"),
    (["packing=zip"], "packing=zip is not known"),
    (["addresses=x400"], "addresses=x400 is not known"),
    (["command=a b"], '"a b" is no name of a command'),
])
def test_what_is_wrong_with_attributes(words: list[str], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service(*words)
    assert what in str(caught.value)


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nexthop, address, path", [
    ("beta", "u@some.domain", "some.domain!u"),
    ("beta", "u@beta", "u"),
    ("beta", "gamma!u@beta", "gamma!u"),
    ("beta", "gamma!u@Beta.UUCP", "gamma!u"),
    ("hub!leaf", "u@leaf", "leaf!u"),
    ("hub!leaf", "u@some.domain", "leaf!some.domain!u"),
    ("beta", "u", "u"),
])
def test_bang_paths(nexthop: str, address: str, path: str) -> None:
    assert Hop.parse(nexthop).bang(address) == path


@given(st.from_regex(r"[a-z]{1,9}@[a-z]{1,9}\.[a-z]{2}", fullmatch=True))
def test_a_sender_as_a_path_and_back(address: str) -> None:
    domain, _, local = bang_sender(address).partition("!")
    assert f"{local}@{domain}" == address


# --- jobs ---------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_job(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys)
    verifyObject(ITransport, world.transport)
    verifyObject(IDescribes, world.transport)
    folder = anybodys / "spool" / "beta" / "C."
    folder.mkdir(parents=True)
    (folder / "C.N01234567891").write_text("E D.0007 D.x uucp -CZR D.0007 0666 a@b 0 rmail u\n")
    results = await world.deliver("U@Some.Domain", "v@b.example", sender="A@B.example")
    assert [result.status for result in results] == [SENT, SENT]
    assert results[0].reason == "delivered via uucp service (queued as beta.N01234567891)"
    assert results[0].details == {
        "action": "relayed", "uucp_job": "beta.N01234567891", "uucp_site": "beta", "uucp_data": "D.0007",
    }
    assert world.arguments() == ["-z", "-aA@B.example", "-r", "-j", "-gN", "-", "beta!rmail", "(u@some.domain)",
                                 "(v@b.example)"]
    first, _, rest = world.input().partition(b"\n")
    assert first.startswith(b"From A@B.example  ") and rest == MESSAGE
    assert world.syncs == 1 and world.log.lines == []
    assert [content.closed for content in world.contents.opened] == [True]


@ensureDeferred
async def test_neighbours_with_bang_paths(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "addresses=bang")
    await world.deliver("u@leaf", nexthop="hub!leaf", sender="a@b.example")
    assert world.arguments()[-2:] == ["hub!rmail", "(leaf!u)"]
    first = world.input().partition(b"\n")[0]
    assert first.startswith(b"From b.example!a ") and first.endswith(b" remote from here")
    await world.deliver("u@leaf", sender="")
    assert world.input(2).startswith(b"From MAILER-DAEMON ") and world.arguments(2)[1] == "-aMAILER-DAEMON"


@pytest.mark.parametrize("head, size, grade", [
    (b"", 100, "A"), (b"", 90_000, "N"), (b"", 900_000, "z"),
    (b"Precedence: bulk\n", 100, "y"), (b"X-Priority: 1 (Highest)\n", 900_000, "B"),
    (b"Importance: normal\n", 100, "A"),
])
@ensureDeferred
async def test_grades(head: bytes, size: int, grade: str, runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "grade=z", "grades=200k:N,1k:A", "bulk_grade=y", "urgent_grade=B")
    world.contents = world.transport._contents = Contents({"ID": head + MESSAGE})
    await world.deliver("u@b", size=size)
    assert f"-g{grade}" in world.arguments()


@ensureDeferred
async def test_what_cannot_go_is_refused_and_the_others_go(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys)
    results = await world.deliver('"sp ace"@b', "good@b", '"pa(ren"@b')
    assert [(result.status, result.dsn) for result in results] == [
        (BOUNCED, "5.1.3"), (SENT, "2.0.0"), (BOUNCED, "5.1.3")]
    assert world.arguments()[-1] == "(good@b)"
    for nexthop in ("", "here"):  # uux would run the command on this machine: a loop
        (result,) = await world.deliver("u@b", nexthop=nexthop)
        assert (result.status, result.dsn) == (DEFERRED, "4.3.5")
    assert not (anybodys / "2").exists()


@pytest.mark.parametrize("nexthop, client, original, status", [
    ("beta", "beta", "", BOUNCED), ("beta", "beta", "U@b", BOUNCED),
    ("beta", "gamma", "", SENT), ("beta", "beta", "list@here.example", SENT), ("beta!leaf", "beta", "", SENT),
])
@ensureDeferred
async def test_what_the_neighbour_has_sent_does_not_go_back_to_it(
    nexthop: str, client: str, original: str, status: str, runner: Runner, anybodys: Path
) -> None:
    world = World(runner, anybodys)
    asked = request(Recipient("u@b", original=original), nexthop=nexthop, client=Client(name=client, protocol="UUCP"))
    (result,) = await world.transport.deliver(asked)
    assert result.status == status
    if status == BOUNCED:
        assert (result.dsn, result.reason) == ("5.4.6", "mail loops: beta has sent it here")


@pytest.mark.parametrize("says, status", [
    ("echo uux: beta: System not found >&2; exit 69", BOUNCED),
    ("echo uux: fwrite: Wrote 0 when attempted 1024 >&2; exit 69", DEFERRED),
])
@ensureDeferred
async def test_failures(says: str, status: str, runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, says=says)
    (result,) = await world.deliver("u@b")
    assert result.status == status and "uucp_job" not in result.details


@ensureDeferred
async def test_what_else_uux_says_is_in_the_log(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, says="echo oh dear; echo beta.N01234567890")
    (result,) = await world.deliver("u@b")
    assert result.details["uucp_job"] == "beta.N01234567890"
    assert "ID: uux has queued the mail, but says: oh dear" in world.log.text


@ensureDeferred
async def test_describe_and_verify_run_nothing(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys)
    one = request("u@b", nexthop="beta")
    (line,) = await world.transport.describe(one)
    assert line.startswith(f"runs as {USER}: ") and line.endswith("-gN - 'beta!rmail' '(u@b)'")
    (line,) = await world.transport.describe(request('"a b"@c', nexthop="beta"))
    assert line == "would be refused: recipient address with white space cannot go by UUCP"
    assert (await world.deliver("u@b", trace="verify"))[0].status == SENT
    assert not (anybodys / "1").exists()


# --- batches ------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_letters_that_come_while_one_is_queued_share_a_job(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "command=rsmtp")
    sent = [Deferred.fromCoroutine(world.deliver(f"u{number}@b", '"sp ace"@c')) for number in range(4)]
    results = [(await each)[0] for each in sent]
    assert [result.details["uucp_job"] for result in results] == ["beta.N01234567891"] + ["beta.N01234567892"] * 3
    assert world.arguments()[-1] == "beta!rsmtp"
    letter = b"MAIL FROM:<a@client.example>\nRCPT TO:<u%d@b>\nRCPT TO:<\"sp ace\"@c>\nDATA\n" \
        + MESSAGE.replace(b".. dot", b"... dot") + b".\n"
    assert world.input(1) == b"HELO here\n" + letter % 0 + b"QUIT\n"
    assert world.input(2) == b"HELO here\n" + letter % 1 + letter % 2 + letter % 3 + b"QUIT\n"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
@ensureDeferred
async def test_a_batch_however_it_is_packed(kind: str, runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "command=rsmtp", f"packing={kind}")
    await world.deliver("u@b")
    assert unpacked(io.BytesIO(world.input())).read().endswith(MESSAGE.replace(b".. dot", b"... dot") + b".\nQUIT\n")


@pytest.mark.parametrize("command", ["rmail", "rsmtp"])
@ensureDeferred
async def test_a_message_that_cannot_be_read(command: str, runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, f"command={command}")

    class Broken(Bytes):
        def read(self, count: int = -1) -> bytes:
            raise OSError("disk trouble")

    async def content(id: str, where: str = "") -> Any:
        return Broken(MESSAGE)

    world.contents.content = content  # type: ignore[method-assign]
    sent = [Deferred.fromCoroutine(world.deliver(f"u{number}@b")) for number in range(3)]
    for each in sent:
        with pytest.raises(OSError, match="disk trouble"):
            await each
    assert not (anybodys / "1").exists()  # uux was not started


@ensureDeferred
async def test_batches_of_bounded_size_and_packed(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "command=crsmtp", f"batch_size={2 * len(MESSAGE)}")
    sent = [Deferred.fromCoroutine(world.deliver(f"u{number}@b")) for number in range(5)]
    found = [(await each)[0].details["uucp_job"][-1] for each in sent]
    assert found == ["1", "2", "2", "3", "3"]
    assert world.input(1).startswith(b"\x1f\x9d")


# --- the Log ------------------------------------------------------------------------------------------------------


def test_what_the_log_says(tmp_path: Path) -> None:
    log = tmp_path / "Log"
    log.write_text(
        "uux far uucp (2026-11-24 17:00:00.93 1) Queuing rmail u@b (D.0001)\n"
        "uucico far uucp (2026-11-24 17:10:00.98 2) Sending rmail u@b (D.0001) (5 bytes)\n"
        "uucico other uucp (2026-11-24 17:11:00.98 2) Sending rmail u@b (D.0002) (5 bytes)\n")
    ((sent, _),) = trace(str(log), [("far", "D.0001", 0.0)])
    began = sent - 600
    assert trace(str(log), [
        ("far", "D.0001", began), ("far", "D.0001", began + 4400), ("far", "D.0002", began),
        ("far", "D.0001", began - 60), ("far", "", began),
    ]) == [(sent, True), (0.0, True), (0.0, True), (sent, False), (0.0, False)]
    assert trace(str(tmp_path / "none"), [("far", "D.0001", began)]) == [(0.0, False)]


@ensureDeferred
async def test_a_list_that_is_cut_off_says_nothing(
    runner: Runner, anybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LONGEST_LIST", 50)
    world = World(runner, anybodys)
    uustat = anybodys / "uustat"
    for count in (1, 2):
        line = "beta.N01234567890 beta u 11-24 10:08 Executing"
        uustat.write_text("#!/bin/sh\n" + f"echo {line}\n" * count)
        uustat.chmod(0o755)
        if count == 1:
            assert (await world.transport.jobs.answer({"do": "list"}))["jobs"] == {"beta.N01234567890": "beta"}
        else:
            with pytest.raises(jobs.Unknown, match="more jobs than"):
                await world.transport.jobs.answer({"do": "list"})


@pytest.mark.parametrize("value", [
    None, {"do": "x"}, {"do": "kill", "job": "-K"}, {"do": "call", "site": "a b"}, {"do": "kill"},
    {"do": "trace", "jobs": [["beta", "../x", 0]]}, {"do": "trace", "jobs": ["x"]},
])
@ensureDeferred
async def test_malformed_questions(value: Any, runner: Runner, anybodys: Path) -> None:
    with pytest.raises(ValueError):
        await World(runner, anybodys).transport.jobs.answer(value)


@pytest.mark.parametrize("call, option", [("yes", "-S"), ("allowed", "-c -C -s")])
@ensureDeferred
async def test_calls(call: str, option: str, runner: Runner, anybodys: Path) -> None:
    uucico = anybodys / "uucico"
    uucico.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {anybodys}/called\n')
    uucico.chmod(0o755)
    world = World(runner, anybodys, f"call={call}", f"uucico={uucico}")
    world.transport._clock = clock = Clock()
    await world.deliver("u@b")
    await world.deliver("u@b")
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(3)
    await deferLater(reactor, 0.3)
    assert (anybodys / "called").read_text() == f"-I {anybodys}/config {option} beta "
    await world.transport.jobs.answer({"do": "call", "site": "beta"})
    assert (anybodys / "called").read_text() == f"-I {anybodys}/config -c -C -s beta "
    await world.transport.stop()
    assert clock.getDelayedCalls() == []


async def keep(world: World, data: bytes) -> str:
    """As the keeper does; the key."""
    world.transport._contents = contents = Contents({"ID": data})
    world.transport.jobs.in_thread = maybeDeferred
    await Shelf(world.folder, maybeDeferred).keep(request("u@b", nexthop="beta"), contents, 10_000)
    return key_of(world.folder, "ID")


@ensureDeferred
async def test_large_attachments_stay_here(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "attachments=1k", "retrieve=get@gw.my.domain")
    data = message(b"x" * 5000).as_bytes()
    key = await keep(world, data)
    (result,) = await world.deliver("u@b", size=len(data))
    sent = world.input().partition(b"\n")[2]
    asking = f" Token: {key}.3\n To get it, send a mail to get@gw.my.domain with the subject: retrieve {key}.3]\n"
    assert asking.encode() in sent and len(sent) < 2000
    assert result.details["uucp_size"] == str(len(sent))
    assert f"ID: large attachments are kept here: {len(data)} bytes became {len(sent)}" in world.log.text
    (result,) = await world.deliver("u@b", size=999)
    assert "uucp_size" not in result.details and world.input(2).endswith(data)


@ensureDeferred
async def test_what_is_too_large_without_its_attachments(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "attachments=1k", "size=4k")
    data = message(b"x" * 5000, text="long\n" * 900).as_bytes()
    await keep(world, data)
    (result,) = await world.deliver("u@b", size=len(data))
    assert (result.status, result.dsn) == (BOUNCED, "5.3.4") and "exceeds the limit of the link to beta: 4000" in \
        result.reason
    assert not (anybodys / "1").exists()


@ensureDeferred
async def test_text_alone(runner: Runner, anybodys: Path) -> None:
    world = World(runner, anybodys, "attachments=none")
    data = message().as_bytes()
    await keep(world, data)
    await world.deliver("u@b", size=len(data))
    assert b"Hello." in world.input() and b"html" not in world.input()
