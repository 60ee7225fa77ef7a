"""hfaxd's protocol: what it may answer beside what it usually does.  The real one is in tests/system."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from zope.interface.verify import verifyObject

from tests.transports.fax.test_rules import service_of
from tests.transports.test_uucp_keeper import in_thread
from transports.fax import hylafax
from transports.fax.hylafax import HylaFax, call_facts
from transports.fax.line import DONE, FAILED, SENDS, WAITS, Fax, IFaxLine, Job, NotTaken, Uncertain

Any_: Any = reactor

CALL = """\
Nov 24 23:59:51.15: [1]: SESSION BEGIN 000000001 4930200
Nov 24 23:59:57.17: [1]: REMOTE CSI "line1\x07 "
Nov 24 23:59:57.17: [1]: USE 14400 bit/s
Nov 24 23:59:57.17: [1]: USE error correction mode
Nov 25 00:00:39.51: [1]: SESSION END
"""


class Server:
    """One that keeps what it is told.  ``replies``: by a command's beginning, instead of the usual ones; None hangs
    up."""

    def __init__(self) -> None:
        self.replies: dict[str, str | None] = {}
        self.lists = {"sendq": "", "doneq": ""}
        self.said: list[str] = []
        self.received: list[bytes] = []
        self.listening: list[Any] = []
        self.port = self.listen(Hfaxd)

    def listen(self, protocol: Any) -> int:
        factory: Any = Factory.forProtocol(protocol)
        factory.server = self
        self.listening.append(Any_.listenTCP(0, factory, interface="127.0.0.1"))
        return int(self.listening[-1].getHost().port)

    def values(self) -> dict[str, str]:
        """The job's parameters."""
        return dict(match.groups() for one in self.said if (match := re.match(r"JPARM (\S+) (.*)", one)))  # type: ignore[misc]


class Hfaxd(LineReceiver):
    delimiter = b"\r\n"
    usual = {
        "USER": "230 User logged in.", "STOT": "150 FILE: /tmp/doc9.tif (Opening new data connection).",
        "JNEW": "200 New job created: jobid: 5 groupid: 5.", "LIST": "150 Opening.", "RETR": "150 Opening.",
        "JKILL": "200 Job 5 killed.", "JSUBM": "200 Job 5 submitted.", "QUIT": "221 Goodbye.",
    }

    def connectionMade(self) -> None:
        self.server: Server = self.factory.server  # type: ignore[union-attr]
        self.reply(self.server.replies.get("", "220-several\n220 ready."))

    def reply(self, text: str | None) -> None:
        if text is None:
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.sendLine(text.replace("\n", "\r\n").encode())

    def lineReceived(self, line: bytes) -> None:
        text = line.decode()
        self.server.said.append(text)
        word = text.split()[0]
        known = {word: self.usual.get(word, "213 set."), **self.server.replies}
        reply = next(known[one] for one in sorted(known, key=len, reverse=True) if one and text.startswith(one))
        if word == "PASV" and reply == "213 set.":
            port = self.server.listen(lambda: Data(self, self.server))
            reply = f"227 Entering passive mode (127,0,0,1,{port // 256},{port % 256})"
        self.reply(reply)
        if word in ("LIST", "RETR", "STOT") and reply is not None and reply.startswith("1"):
            self.server.data.begin(text)  # type: ignore[attr-defined]


class Data(Protocol):
    def __init__(self, session: Hfaxd, server: Server) -> None:
        self.session, self.server, self.got = session, server, b""
        self.command = ""

    def connectionMade(self) -> None:
        self.server.data = self  # type: ignore[attr-defined]

    def begin(self, command: str) -> None:
        self.command = command
        if command == "STOT":
            return
        text = CALL if command.startswith("RETR") else self.server.lists[command.split()[1]]
        self.transport.write(text.encode())  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        if self.command == "STOT":
            self.server.received.append(self.got)
        if self.command:
            self.session.reply("226 Transfer complete.")


class World:
    def __init__(self, folder: Path, *words: str) -> None:
        self.server = Server()
        self.words = [f"host=127.0.0.1:{self.server.port}", "login=fax", *words]
        (folder / "a.tif").write_bytes(b"II" + bytes(range(256)) * 500)
        self.folder = folder

    @property
    def line(self) -> HylaFax:
        return HylaFax(service_of(*self.words), reactor, in_thread)

    def fax(self, **facts: Any) -> Fax:
        given = {"sender": "ann@b", "when": 0.0, "subaddress": "", "priority": "normal", **facts}
        return Fax("ID-1", "+4930123456", "+4930123456", tiff=self.folder / "a.tif", pdf=self.folder / "a.pdf", pages=1,
                   lines=196, **given)


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    for port in made.server.listening:
        await port.stopListening()


@ensureDeferred
async def test_a_job_and_its_parameters(world: World) -> None:
    verifyObject(IFaxLine, world.line)
    assert await world.line.submit(world.fax(subaddress="7", priority="high", sender='a"\r\nJKILL 1\\@b')) == "5"
    assert world.server.received == [(world.folder / "a.tif").read_bytes()]
    values = world.server.values()
    assert values == {
        "FROMUSER": '"a???JKILL 1?@b"', "NOTIFYADDR": '"FaxMaster"', "NOTIFY": '"none"', "DIALSTRING": '"+4930123456"',
        "EXTERNAL": '"+4930123456"', "JOBINFO": '"ID-1"', "LASTTIME": "000301", "MAXDIALS": "12", "MAXTRIES": "3",
        "SCHEDPRI": "63", "VRES": "196", "PAGEWIDTH": "209", "PAGELENGTH": "296", "PAGECHOP": '"none"',
        "SUBADDR": '"7"', "DOCUMENT": "/tmp/doc9.tif",
    }
    assert world.server.said.count("JSUBM") == 1


@ensureDeferred
async def test_a_fax_for_later_lives_longer(world: World) -> None:
    world.words += ["paper=letter", "header=yes", "killtime=1h", "maxdials=3", "maxtries=1"]
    await world.line.submit(world.fax(when=Any_.seconds() + 90_000))
    values = world.server.values()
    assert re.fullmatch(r"0102(?:00|01)", values["LASTTIME"]) and re.fullmatch(r"[0-9]{12}", values["SENDTIME"])
    assert (values["PAGEWIDTH"], values["MAXDIALS"], values["MAXTRIES"]) == ("215", "3", "1")
    assert (values["USETAGLINE"], values["TAGLINE"]) == ("YES", '""')


@ensureDeferred
async def test_a_password(world: World) -> None:
    (world.folder / "password").write_text("s3cret\n")
    world.words.append(f"password={world.folder}/password")
    world.server.replies = {"USER": "331 Password required.", "PASS s3cret": "230 in."}
    assert await world.line.submit(world.fax()) == "5"
    world.server.replies["PASS s3cret"] = "530 Login incorrect."
    with pytest.raises(NotTaken, match="Login incorrect") as refusal:
        await world.line.submit(world.fax())
    assert not refusal.value.permanent


@pytest.mark.parametrize("replies, permanent, why", [
    ({"": "421 Service not available"}, False, "Service not available"), ({"": None}, False, "connection is gone"),
    ({"JNEW": "501 no"}, False, "fax server says: no"), ({"JNEW": "200 well"}, False, "no number"),
    ({"JPARM DIALSTRING": "501 bad number"}, True, "bad number"), ({"FORM": "421 closing"}, False, "closing"),
    ({"STOT": "425 no room"}, False, "no room"), ({"PASV": "502 no"}, False, "no"),
    ({"PASV": "227 what"}, False, "no data"), ({"PASV": "227 (127,0,0,1,0,1)"}, False, "no data connection"),
    ({"JNEW": None}, False, "connection is gone"),
    ({"JPARM DOCUMENT": None}, False, "connection is gone"), ({"STOT": "150 well"}, False, "no name"),
])
@ensureDeferred
async def test_certainly_not_taken(
    world: World, replies: dict[str, str | None], permanent: bool, why: str
) -> None:
    world.server.replies = replies
    with pytest.raises(NotTaken, match=why) as refusal:
        await world.line.submit(world.fax())
    assert refusal.value.permanent is permanent and "JSUBM" not in world.server.said


@ensureDeferred
async def test_lost_when_it_was_handed_over(world: World) -> None:
    world.server.replies = {"JSUBM": None}
    with pytest.raises(Uncertain):
        await world.line.submit(world.fax())


@pytest.mark.parametrize("listed, taken, permanent", [
    ({"doneq": "5|ID-1|F|0|0|0|12||REJECT: No work found\n"}, "", True), ({}, "", False),
    ({"sendq": "5|ID-1|W|0|0|0|12||\n"}, "5", None),
])
@ensureDeferred
async def test_refused_when_it_was_handed_over(
    world: World, listed: dict[str, str], taken: str, permanent: bool | None
) -> None:
    """The server is asked whether it has it all the same."""
    world.server.replies = {"JSUBM": "460 Failed to submit job 5: scheduler NAK'd request."}
    world.server.lists |= listed
    if taken:
        assert await world.line.submit(world.fax()) == taken
        return
    with pytest.raises(NotTaken) as refusal:
        await world.line.submit(world.fax())
    assert refusal.value.permanent is permanent


@ensureDeferred
async def test_what_became_of_jobs(world: World) -> None:
    world.server.lists = {
        "sendq": "1|A|R|0|2|1|12||\r\n2|B|S|0|1|2|12||No local dialtone\n3|other|W|0|0|0|12||\nnonsense\n"
                 "7|F|P|0|0|0|12||\n",
        "doneq": "4|C|D|2|2|1|12|000000001|\n5|D|F|0|1|3|12||a|b\n6|E|D|1|2|1|12||\n1|A|D|2|2|1|12||\n",
    }
    found = await world.line.look([("1", "A"), ("2", "B"), ("4", "C"), ("5", "D"), ("6", "E"), ("9", "F")])
    facts = {"answered by": "line1?", "duration": "0:48", "signal rate": "14400 bit/s"}
    assert {job.tag: job for job in found} == {
        "A": Job("1", "A", DONE, 2, 2, 1), "B": Job("2", "B", WAITS, 0, 1, 2, "No local dialtone, 2 of 12 calls"),
        "C": Job("4", "C", DONE, 2, 2, 1, "", facts), "D": Job("5", "D", FAILED, 0, 1, 3, "a|b"),
        "E": Job("6", "E", FAILED, 1, 2, 1, "only 1 of 2 pages arrived"),
    }
    world.server.lists["doneq"] = ""
    assert [job.state for job in await world.line.look([("", "A")])] == [SENDS]
    world.server.replies = {"RETR": "550 Operation not permitted."}
    world.server.lists["doneq"] = "4|C|D|2|2|1|12|000000001|\n"
    assert await world.line.look([("", "C")]) == [Job("4", "C", DONE, 2, 2, 1)]


@ensureDeferred
async def test_a_job_that_is_being_submitted_is_not_there_yet(world: World) -> None:
    world.server.lists["sendq"] = "1|A|T|0|0|0|12||\n"
    with pytest.raises(Uncertain):
        await world.line.look([("", "A")])
    assert [job.state for job in await world.line.look([("1", "A")])] == [WAITS]


@ensureDeferred
async def test_half_a_list_says_nothing_of_what_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hylafax, "LONGEST_LIST", 30)
    world.server.lists["sendq"] = "1|A|R|0|2|1|12||\n" * 3
    with pytest.raises(Uncertain):
        await world.line.look([("1", "A"), ("2", "B")])


@ensureDeferred
async def test_whether_it_is_ready(world: World) -> None:
    await world.line.ready()
    world.server.replies = {"": "421 Service not available"}
    with pytest.raises(Uncertain):
        await world.line.ready()
    world.words[0] = "host=127.0.0.1:1"
    with pytest.raises(OSError):
        await world.line.ready()


@pytest.mark.parametrize("replies", [{"LIST": "550 no"}, {"": None}, {"JOBFMT": None}, {"USER": "530 no"}])
@ensureDeferred
async def test_who_cannot_be_asked(world: World, replies: dict[str, str | None]) -> None:
    world.server.replies = replies
    with pytest.raises((Uncertain, OSError)):
        await world.line.look([("1", "A")])


@pytest.mark.parametrize("reply, killed", [
    ("200 Job 5 killed.", True), ("500 Cannot kill job 5; job does not exist (No such file or directory).", True),
    ("504 Cannot kill job: Operation not permitted.", False),
])
@ensureDeferred
async def test_taking_back(world: World, reply: str, killed: bool) -> None:
    world.server.replies = {"JKILL 5": reply}
    assert await world.line.kill("5") is killed
    assert not await world.line.kill("5\r\nJKILL 6") and world.server.said.count("JKILL 6") == 0


@ensureDeferred
async def test_a_server_that_says_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hylafax, "PATIENCE", 0.05)
    monkeypatch.setattr(hylafax.Session._patiently, "__defaults__", (0.05,))
    world.server.replies = {"JNEW": "200-never ending"}
    with pytest.raises(NotTaken, match="no answer within 0 seconds"):
        await world.line.submit(world.fax())


def test_logs_of_calls() -> None:
    assert call_facts(CALL) == {"answered by": "line1?", "duration": "0:48", "signal rate": "14400 bit/s"}
    assert call_facts("") == call_facts("nonsense\n\0]: ]: SESSION BEGIN") == {}
