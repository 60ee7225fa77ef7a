"""The gateway's side of drawing a mail: it has a process of its own do it, and believes nothing that this one says.

    document = await assemble(message, folder, Wish(paper="a4"), runner.run, Identity(uid, gid))

``message`` is a file with a whole mail, its lines ended by LF.  ``folder`` is private, empty, and belongs to
``identity``, whose rights the worker (transports.fax.document.worker) gets; what is in it belongs to the worker, and
the caller removes it when the Document is no longer needed.  Raises Unrenderable for what can never be drawn, NotNow
for what may work later.

The worker is bounded by itself (transports.fax.document.sandbox), and by the clock here.  Its report and its files are
taken for what a stranger may have written: they must be plain files, no links, and not too large.
"""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from transports.fax.document.wish import Document, NotNow, Part, Unrenderable, Wish, to_json
from transports.process import Command, Ending, Identity, Outcome

Run = Callable[[Command], Awaitable[Outcome]]
"""transports.process.Runner.run."""

PACKAGES = {"weasyprint": "WeasyPrint", "pikepdf": "pikepdf", "pypdfium2": "pypdfium2", "PIL": "Pillow"}
REPORT, PDF, TIFF, THUMBNAIL = "report.json", "document.pdf", "document.tiff", "thumbnail.png"
PICTURE = "page-{}.png"

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from transports.fax.document.worker import main; sys.exit(main())"
)
_ROOT = str(Path(__file__).resolve().parents[3])
_PATH = "/usr/local/bin:/usr/bin:/bin"
_BLOCK = 65536
_LONGEST_REPORT = 1_000_000
_LONGEST_TEXT = 500
_SIGKILL, _SIGXCPU, _SIGXFSZ = 9, 24, 25
_WALL = 10
"""By the clock it may be so many times as long: others want the processor, too, and come first."""


def lacking() -> list[str]:
    """The Python packages that drawing needs and that are not installed."""
    return [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]


async def assemble(message: Path, folder: Path, wish: Wish, run: Run, identity: Identity) -> Document:
    """See the module's docstring."""
    try:
        if message.stat().st_size > wish.max_bytes:
            raise Unrenderable("the message", f"is larger than {wish.max_bytes} bytes")
    except OSError as error:
        raise NotNow(f"cannot read the message: {error.strerror}") from None
    outcome = await run(
        Command(
            [sys.executable, "-I", "-X", "utf8", "-c", _START, _ROOT],
            identity,
            {"PATH": _PATH, "LANG": "C.UTF-8", **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(folder))},
            directory=str(folder),
            stdin=_input(message, wish),
            time_limit=wish.seconds * _WALL,
        )
    )
    report = _report(folder / REPORT)
    if outcome.ending is not Ending.EXITED or outcome.code != 0:
        raise _failure(outcome, report, wish)
    return _document(folder, report, wish)


def _input(message: Path, wish: Wish) -> Iterator[bytes]:
    """A line of JSON, and the mail."""
    yield json.dumps(to_json(wish)).encode("ascii") + b"\n"
    with message.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _failure(outcome: Outcome, report: dict[str, Any], wish: Wish) -> Unrenderable | NotNow:
    """What a worker that did not come to its end means: what the mail has brought about will be so again."""
    part = _printable(report.get("at")) or "the message"
    if outcome.ending is Ending.SIGNALED and outcome.code != _SIGKILL:
        if outcome.code == _SIGXCPU:
            return Unrenderable(part, f"takes more than {wish.seconds} seconds to draw")
        if outcome.code == _SIGXFSZ:
            return Unrenderable(part, f"takes more than {wish.max_bytes} bytes on disk")
        return Unrenderable(part, f"drawing it ends by signal {outcome.code}")
    if outcome.ending is Ending.EXITED:
        if "trouble" in report:
            return Unrenderable(part, _printable(report["trouble"]))
        if "not_now" in report:
            return NotNow(_printable(report["not_now"]))
        last = outcome.output.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return NotNow(f"drawing {part} ended with status {outcome.code}: {_printable(last)}")
    if outcome.ending is Ending.TIMED_OUT:
        return NotNow(f"drawing {part} has taken longer than {wish.seconds * _WALL} seconds")
    if outcome.ending is Ending.SIGNALED:
        return NotNow(f"drawing {part} was killed: there may be too little memory")
    return NotNow(f"drawing could not be started: {outcome.text}")


def _document(folder: Path, report: dict[str, Any], wish: Wish) -> Document:
    pdf, tiff, thumbnail = (folder / name for name in (PDF, TIFF, THUMBNAIL))
    try:
        pages = int(report["pages"])
        if not 0 < pages <= wish.max_pages:
            raise ValueError(f"it has {pages} pages")
        pictures = tuple(folder / PICTURE.format(page) for page in range(1, pages + 1)) if wish.pictures else ()
        for path in (pdf, tiff, thumbnail, *pictures):
            os.close(_open(path, wish.max_bytes))
        parts = tuple(
            Part(
                _printable(one["name"]), int(one["pages"]), _printable(one["left_out"]), _printable(one["trouble"])
            )
            for one in report["parts"]
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise NotNow(f"what was drawn cannot be used: {_printable(str(error))}") from None
    return Document(pdf, tiff, thumbnail, pages, parts, pictures)


def _report(path: Path) -> dict[str, Any]:
    """The worker's last word, {} if there is none."""
    try:
        with open(_open(path, _LONGEST_REPORT), "rb") as file:
            report = json.loads(file.read(_LONGEST_REPORT))
    except (OSError, ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _open(path: Path, limit: int) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size <= limit:
        return descriptor
    os.close(descriptor)
    raise ValueError(f"{path.name} is no plain file, or larger than {limit} bytes")


def _printable(text: object) -> str:
    line = " ".join(str(text).split()) if isinstance(text, str) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_LONGEST_TEXT]
