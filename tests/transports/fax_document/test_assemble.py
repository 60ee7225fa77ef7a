"""The gateway's side, with real workers; and with workers that lie."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.system.conftest import need_others
from tests.transports.fax_document.support import mail, picture
from tests.transports.support import NOBODY
from transports.fax.document import Document, NotNow, Run, Unrenderable, Wish, assemble, worker
from transports.process import Command, Ending, Outcome, Runner


@pytest.fixture
def folder(anybodys: Path) -> Path:
    need_others()
    made = anybodys / "pages"
    made.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(made, NOBODY.uid, NOBODY.gid)
    return made


async def drawn(data: bytes, folder: Path, run: Run, **wish: object) -> Document:
    path = folder.parent / "mail"
    path.write_bytes(data)
    return await assemble(path, folder, Wish(**wish), run, NOBODY)  # type: ignore[arg-type]


@ensureDeferred
async def test_a_mail_becomes_files(folder: Path, runner: Runner) -> None:
    made = mail("Dear Sir,\n")
    made.add_attachment(picture(), "image", "png", filename="plan.png")
    done = await drawn(made.as_bytes(), folder, runner.run, pictures=True, header_line="${page}/${pages}")
    assert done.pages == 2
    assert [(part.name, part.pages) for part in done.parts] == [
        ("part 1 (text/plain)", 1), ("part 2 (plan.png, image/png)", 1),
    ]
    assert done.pdf.read_bytes().startswith(b"%PDF-")
    assert done.tiff.read_bytes().startswith(b"II*\0")
    for one in (done.thumbnail, *done.pictures):
        assert one.read_bytes().startswith(b"\x89PNG")
    assert len(done.pictures) == 2
    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY.uid}


@ensureDeferred
async def test_time_has_an_end(folder: Path, runner: Runner) -> None:
    with pytest.raises(Unrenderable, match=r"the message .text/html.: takes more than 2 seconds to draw"):
        await drawn(b"Content-Type: text/html\n\nx" + b"<br>" * 300_000, folder, runner.run, seconds=2)


@ensureDeferred
async def test_memory_has_an_end(folder: Path, runner: Runner) -> None:
    table = b"Content-Type: text/html\n\n<table><tr><td colspan=1000000000 rowspan=1000000000>x</table>"
    with pytest.raises(Unrenderable, match=r"the message .text/html.: takes more than 800 MB of memory to draw"):
        await drawn(table, folder, runner.run, memory=800_000_000)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="needs the package libreoffice-writer-nogui")
@ensureDeferred
async def test_office_files(folder: Path, runner: Runner) -> None:
    made = mail("text\n")
    made.add_attachment(rb"{\rtf1 Hello from the office.}", "application", "octet-stream", filename="offer.rtf")
    made.add_attachment(b"PK\3\4 no", "application", "octet-stream", filename="broken.docx")
    done = await drawn(made.as_bytes(), folder, runner.run, partial=True)
    assert [(part.pages, part.trouble.partition(" (")[0]) for part in done.parts] == [
        (1, ""), (1, ""), (0, "LibreOffice cannot read it"),
    ]


@ensureDeferred
async def test_a_mail_that_is_too_large_is_not_even_begun(folder: Path) -> None:
    async def run(command: Command) -> Outcome:
        raise AssertionError

    with pytest.raises(Unrenderable, match="the message: is larger than 10 bytes"):
        await drawn(b"x" * 11, folder, run, max_bytes=10)
    (folder.parent / "mail").unlink()
    with pytest.raises(NotNow, match="cannot read the message: No such file"):
        await assemble(folder.parent / "mail", folder, Wish(), run, NOBODY)


# --- workers that fail, and such that lie ----------------------------------------------------------------------------

REPORT = {"at": "part 2 (x.pdf)", "pages": 1, "parts": [{"name": "p", "pages": 1, "left_out": "", "trouble": ""}]}


def lying(folder: Path, outcome: Outcome, report: object = REPORT, spoil: Callable[[], None] = lambda: None) -> Run:
    """A worker that leaves this behind."""

    async def run(command: Command) -> Outcome:
        for name in ("document.pdf", "document.tiff", "thumbnail.png"):
            (folder / name).write_bytes(b"x")
        (folder / "report.json").write_text(json.dumps(report))
        spoil()
        return outcome

    return run


@ensureDeferred
@pytest.mark.parametrize("outcome, kind, text", [
    (Outcome(Ending.SIGNALED, 24), Unrenderable, "part 2 (x.pdf): takes more than 60 seconds to draw"),
    (Outcome(Ending.SIGNALED, 25), Unrenderable, "part 2 (x.pdf): takes more than 50000000 bytes on disk"),
    (Outcome(Ending.SIGNALED, 11), Unrenderable, "part 2 (x.pdf): drawing it ends by signal 11"),
    (Outcome(Ending.SIGNALED, 9), NotNow, "drawing part 2 (x.pdf) was killed: there may be too little memory"),
    (Outcome(Ending.TIMED_OUT), NotNow, "drawing part 2 (x.pdf) has taken longer than 600 seconds"),
    (Outcome(Ending.NOT_STARTED, text="no memory"), NotNow, "drawing could not be started: no memory"),
    (Outcome(Ending.EXITED, 1, b"Traceback\nOdd: x\n"), NotNow, "drawing part 2 (x.pdf) ended with status 1: Odd: x"),
])
async def test_workers_that_do_not_come_to_their_end(
    folder: Path, outcome: Outcome, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as raised:
        await drawn(b"x", folder, lying(folder, outcome))
    assert str(raised.value) == text


@ensureDeferred
@pytest.mark.parametrize("spoil", ["link", "second name", "fifo", "large", "missing", "report is a link"])
async def test_only_plain_files_are_believed(folder: Path, spoil: str) -> None:
    secret = folder.parent / "secret"
    secret.write_text(json.dumps(REPORT))
    target = folder / ("report.json" if spoil.startswith("report") else "document.pdf")

    def do() -> None:
        target.unlink()
        if "link" in spoil:
            target.symlink_to(secret)
        elif spoil == "second name":
            os.link(secret, target)
        elif spoil == "fifo":
            os.mkfifo(target)
        elif spoil == "large":
            target.write_bytes(bytes(2000))

    with pytest.raises(NotNow, match="what was drawn cannot be used"):
        await drawn(b"x", folder, lying(folder, Outcome(Ending.EXITED), spoil=do), max_bytes=1000)


@ensureDeferred
@pytest.mark.parametrize("report", [
    {}, [], "x", {**REPORT, "pages": 0}, {**REPORT, "pages": 101}, {**REPORT, "pages": "x"}, {**REPORT, "parts": [{}]},
    {**REPORT, "parts": 7},
])
async def test_reports_that_make_no_sense(folder: Path, report: object) -> None:
    with pytest.raises(NotNow, match="what was drawn cannot be used"):
        await drawn(b"x", folder, lying(folder, Outcome(Ending.EXITED), report))


@ensureDeferred
async def test_reports_are_made_printable(folder: Path) -> None:
    report = {"at": "part\n\x1b[31m 2", "trouble": "x\r\ny" + "z" * 1000}
    with pytest.raises(Unrenderable) as raised:
        await drawn(b"x", folder, lying(folder, Outcome(Ending.EXITED, 1), report))
    assert raised.value.part == "part ?[31m 2"
    assert raised.value.reason == ("x y" + "z" * 1000)[:500]


def test_what_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "transports.fax.document.drawing")
    monkeypatch.delitem(sys.modules, "transports.fax.document.html")
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(NotNow, match=r"drawing needs the package weasyprint: pip install 'mailgateway\[fax\]'"):
        worker.prepare(tmp_path, Wish())
