"""What is drawn for whom, and what may be asked of the service afterwards."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gateway.interfaces import BOUNCED, DEFERRED, SENT, IDescribes, ITransport
from gateway.log import MemoryLog
from tests.transports.fax.test_rules import NOON, service_of
from tests.transports.support import ROOT, Contents, request
from tests.transports.test_uucp_keeper import in_thread
from transports.fax import transport
from transports.fax.document import Document, NotNow, Unrenderable, Wish
from transports.fax.jobs import Jobs
from transports.fax.line import WAITS, Fax, Job, NotTaken
from transports.fax.transport import FORGOTTEN, LEFT_OVER, PREFIX, FaxTransport
from transports.following import HasJobs
from transports.process import Identity

MESSAGE = b"From: =?UTF-8?Q?J=C3=B6?= <j@b>\nSubject: an\n offer\nDate: today\nX-FAX-Dialstring: 666\n\nbody\n"


class Line:
    def __init__(self) -> None:
        self.faxes: list[Fax] = []
        self.trouble: Exception | None = None

    async def ready(self) -> None:
        if isinstance(self.trouble, OSError):
            raise self.trouble

    async def submit(self, fax: Fax) -> str:
        if self.trouble:
            raise self.trouble
        assert fax.tiff.read_bytes() == b"tiff"
        self.faxes.append(fax)
        return "7"

    async def look(self, wanted: Any) -> list[Job]:
        return [Job(job or "7", tag, WAITS) for job, tag in wanted]

    async def kill(self, job: str) -> bool:
        return job == "7"


class World:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
        self.folder, self.log, self.clock, self.line = folder, MemoryLog(), Clock(), Line()
        self.clock.advance(NOON)
        self.wishes: list[Wish] = []
        self.mails: list[bytes] = []
        self.trouble: Exception | None = None
        self.draw = self.well
        service = service_of("extensions=[2-9]00", *words)
        # Whoever runs the tests draws by himself; programs with other rights are tests/system's.
        service = replace(service, identity=Identity(os.getuid(), os.getgid()))
        self.jobs = Jobs(self.line, in_thread)
        self.transport = FaxTransport(service, self.jobs, None, Contents({"ID": MESSAGE}), self.log, self.clock)  # type: ignore[arg-type]
        monkeypatch.setattr(transport, "assemble", self.assemble)
        monkeypatch.setattr(transport.tempfile, "tempdir", str(folder))

    async def assemble(self, mail: Path, folder: Path, wish: Wish, run: Any, identity: Identity) -> Document:
        self.wishes.append(wish)
        self.mails.append(mail.read_bytes())
        assert mail.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
        if self.trouble:
            raise self.trouble
        return self.draw(folder)

    def well(self, folder: Path) -> Document:
        for name in ("pdf", "tiff", "png"):
            (folder / name).write_bytes(name.encode())
        return Document(folder / "pdf", folder / "tiff", folder / "png", 3)

    async def deliver(self, *to: str) -> list[Any]:
        return list(await self.transport.deliver(request(*to, sender="j@b")))

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield World(tmp_path, monkeypatch)


def fax_of(**facts: Any) -> dict[str, Any]:
    plain = {"tag": "ID-1", "dial": "200", "name": "200", "subaddress": "", "sender": "j@b", "priority": "low"}
    return {**plain, "when": 0.0, **facts}


@ensureDeferred
async def test_recipients_that_want_the_same_share_it(world: World) -> None:
    verifyObject(ITransport, world.transport)
    verifyObject(IDescribes, world.transport)
    assert isinstance(world.transport, HasJobs)
    results = await world.deliver("200@fax", "+4930123456@fax", '"fax=300/ATTN=Ann_S/NOTE=Hi/ORG=ACME"@fax', "no@fax")
    assert [one.status for one in results] == [SENT, SENT, SENT, BOUNCED]
    assert [one.details.get("fax_pages") for one in results] == ["3", "3", "3", None]
    first, second, third, _ = (one.details.get("fax_draft") for one in results)
    assert first == second != third
    plain, covered = world.wishes
    assert plain.cover is None and covered.cover is not None and world.mails == [MESSAGE] * 2
    cover = covered.cover
    assert (cover.to, cover.attn, cover.comments) == ("ACME, 300", "Ann S", "Hi")
    assert (cover.sender, cover.subject, cover.date) == ("Jö <j@b>", "an offer", "today")
    await world.jobs.answer({"do": "drop", "drafts": [first]})
    assert len(world.left()) == 1  # the other draft is in the same folder
    await world.transport.stop()
    assert world.left() == []


@ensureDeferred
async def test_it_is_sent_and_dropped(world: World) -> None:
    (result,) = await world.deliver("200@fax")
    draft = result.details["fax_draft"]
    told = await world.jobs.answer({"do": "submit", "draft": draft, "fax": fax_of(when=5)})
    assert told == {"job": "7"}
    (fax,) = world.line.faxes
    assert (fax.tag, fax.dial, fax.lines, fax.pages, fax.when, fax.priority) == ("ID-1", "200", 196, 3, 5.0, "low")
    world.line.trouble = NotTaken("no", permanent=True)
    told = await world.jobs.answer({"do": "submit", "draft": draft, "fax": fax_of()})
    assert told == {"refused": "no", "permanent": True}
    told = await world.jobs.answer({"do": "picture", "draft": draft})
    assert base64.b64decode(told["picture"]) == b"png"
    assert await world.jobs.answer({"do": "drop", "drafts": [draft, "unknown"]}) == {}
    assert world.left() == []
    (job,) = (await world.jobs.answer({"do": "look", "jobs": [["", "ID-1"]]}))["jobs"]
    assert Job(**job) == Job("7", "ID-1", WAITS)
    assert await world.jobs.answer({"do": "kill", "job": "7"}) == {"killed": True}


@pytest.mark.parametrize("question", [
    None, [], {}, {"do": "burn"}, {"do": "look"}, {"do": "look", "jobs": ["x"]}, {"do": "look", "jobs": [["", "a b"]]},
    {"do": "look", "jobs": [["1;2", "a"]]}, {"do": "look", "jobs": [["", ""]] * 10_001}, {"do": "kill"},
    {"do": "kill", "job": "1\r\n2"}, {"do": "drop"}, {"do": "picture", "draft": "x"},
    {"do": "submit", "draft": "x", "fax": {}},
    {"do": "submit", "draft": "DRAFT"},
    *({"do": "submit", "draft": "DRAFT", "fax": fax_of(**wrong)} for wrong in (
        {"dial": "20;id"}, {"dial": "-1"}, {"dial": ""}, {"when": "now"}, {"tag": "a\n"}, {"sender": "a\nb"},
        {"name": 7}, {"priority": "1"}, {"subaddress": "x"},
    )),
])
@ensureDeferred
async def test_questions_that_nobody_asks(world: World, question: Any) -> None:
    (result,) = await world.deliver("200@fax")
    if isinstance(question, dict) and question.get("draft") == "DRAFT":
        question = {**question, "draft": result.details["fax_draft"]}
    with pytest.raises(ValueError):
        await world.jobs.answer(question)
    assert world.line.faxes == []


@pytest.mark.parametrize("trouble, status, dsn, reason", [
    (Unrenderable("part 2 (a.zip)", "not drawn"), BOUNCED, "5.6.1", "cannot be faxed: part 2 (a.zip): not drawn"),
    (NotNow("no memory"), DEFERRED, "4.3.0", "cannot be drawn now: no memory"),
    (OSError(28, "No space left"), DEFERRED, "4.3.0", "cannot be drawn now: No space left"),
])
@ensureDeferred
async def test_what_cannot_be_drawn(world: World, trouble: Exception, status: str, dsn: str, reason: str) -> None:
    world.trouble = trouble
    (result,) = await world.deliver("200@fax")
    assert (result.status, result.dsn, result.reason) == (status, dsn, reason)
    assert world.left() == [] and world.jobs.drafts == {}


@ensureDeferred
async def test_nothing_is_drawn_for_a_line_that_is_away(world: World) -> None:
    world.line.trouble = OSError("connection refused")
    (result,) = await world.deliver("200@fax")
    assert (result.status, result.dsn, result.destination_down) == (DEFERRED, "4.4.1", True)
    assert result.reason == "fax server cannot be reached: connection refused" and world.wishes == []


@pytest.mark.parametrize("trick", ["link", "hard link", "folder", "large", "fifo"])
@ensureDeferred
async def test_what_the_worker_leaves_is_not_believed(world: World, tmp_path: Path, trick: str) -> None:
    (tmp_path / "secret").write_text("shadow")

    def draw(folder: Path) -> Document:
        document = world.well(folder)
        document.tiff.unlink()
        if trick == "link":
            document.tiff.symlink_to(tmp_path / "secret")
        elif trick == "hard link":
            os.link(tmp_path / "secret", document.tiff)
        elif trick == "folder":
            document.tiff.mkdir()
        elif trick == "fifo":
            os.mkfifo(document.tiff)
        else:
            with document.tiff.open("wb") as file:
                file.truncate(world.transport._service.wish.max_bytes + 1)
        return document

    world.draw = draw
    (result,) = await world.deliver("200@fax")
    assert result.status == DEFERRED and world.left() == ["secret"]


@pytest.mark.skipif(not ROOT, reason="needs root rights")
@ensureDeferred
async def test_a_file_of_somebody_else_is_not_sent(world: World) -> None:
    def draw(folder: Path) -> Document:
        document = world.well(folder)
        os.chown(document.pdf, 1, 1)
        return document

    world.draw = draw
    (result,) = await world.deliver("200@fax")
    assert result.status == DEFERRED


@ensureDeferred
async def test_covers_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cover.html").write_text("<p>$to")
    words = ["cover=yes", f"template={tmp_path}/cover.html", "header=yes", "resolution=normal", "paper=letter"]
    world = World(tmp_path, monkeypatch, *words)
    await world.deliver("200@fax", '"fax=300/COVER=no/RES=fine"@fax')
    covered, plain = world.wishes
    assert covered.cover is not None and covered.cover.template == "<p>$to" and plain.cover is None
    assert covered.header_line.endswith("   j@b   to 200   2026-11-24 12:00   ${page}/${pages}")
    assert [(one.resolution, one.paper) for one in world.wishes] == [("normal", "letter"), ("fine", "letter")]


@ensureDeferred
async def test_what_is_forgotten_goes_away(world: World) -> None:
    old, young = world.folder / f"{PREFIX}old", world.folder / f"{PREFIX}young"
    for folder in (old, young):
        folder.mkdir()
    before = old.stat().st_mtime - LEFT_OVER - 1
    os.utime(old, (before, before))
    await world.deliver("200@fax")
    assert not old.exists() and young.exists()
    world.clock.advance(FORGOTTEN + 1)
    await world.deliver("200@fax")
    assert len(world.jobs.drafts) == 1 and len(world.left()) == 2


@ensureDeferred
async def test_what_is_explained(world: World) -> None:
    assert await world.transport.describe(request("200@fax", "030123456@fax", "no@fax")) == [
        "dials 200 (extension: 200) by hylafax at localhost:4559",
        "dials +4930123456 (national: +4930123456) by hylafax at localhost:4559",
        'would be refused: "no" is no fax number',
    ]
