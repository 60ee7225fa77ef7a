"""What a fax service is asked from beside the queue: to send what it has drawn, and what became of jobs.

``Jobs.answer`` takes and gives JSON values, since in split mode the question comes from another process; what is
malformed raises ValueError.

    {"do": "submit", "draft", "fax": {tag, dial, name, subaddress, sender, priority, when}}
                                                    → {"job"}, or {"refused": text, "permanent"}
    {"do": "look", "jobs": [[JOB or "", TAG] …]}    → {"jobs": [{job, tag, state, …} …]}
    {"do": "kill", "job"}                           → {"killed"}
    {"do": "picture", "draft"}                      → {"picture": base64 of a PNG, or ""}
    {"do": "drop", "drafts": [DRAFT …]}             → {}
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transports.fax.document import Document
from transports.fax.line import Fax, IFaxLine, NotTaken

LARGEST_PICTURE = 200_000
MOST_ASKED = 10_000
LINES = {"fine": 196, "normal": 98}

_TAG = re.compile(r"[A-Za-z0-9._-]{1,120}\Z")
_JOB = re.compile(r"[A-Za-z0-9-]{0,60}\Z")
_DIAL = re.compile(r"\+?[0-9*#,]{1,80}\Z")
_SUBADDRESS = re.compile(r"[0-9#]{0,20}\Z")
_PRIORITY = re.compile(r"(?:high|normal|low)\Z")
_NAME = re.compile(r"\+?[0-9*#]{1,40}\Z")
_ADDRESS = re.compile(r"[^\x00-\x1f\x7f]{1,400}\Z")

InThread = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class Draft:
    """A document that waits to be sent."""

    folder: Path
    document: Document
    resolution: str
    made: float


class Jobs:
    def __init__(self, line: IFaxLine, in_thread: InThread) -> None:
        self.line = line
        self.in_thread = in_thread
        self.drafts: dict[str, Draft] = {}

    async def answer(self, value: Any) -> dict[str, Any]:
        """Raises ValueError, OSError, Uncertain."""
        what = value.get("do") if isinstance(value, dict) else None
        if what == "submit":
            return await self._submit(value)
        if what == "look":
            found = await self.line.look([_pair(one) for one in _listed(value, "jobs")])
            return {"jobs": [asdict(job) for job in found]}
        if what == "kill":
            return {"killed": await self.line.kill(_text(value, "job", _JOB))}
        if what == "picture":
            picture = await self.in_thread(read_picture, self._draft(value).document.thumbnail)
            return {"picture": base64.b64encode(picture).decode("ascii")}
        if what == "drop":
            for token in _listed(value, "drafts"):
                await self.drop(str(token))
            return {}
        raise ValueError(f"no such question: {what!r}")

    async def drop(self, token: str) -> None:
        draft = self.drafts.pop(token, None)
        if draft is not None and not any(one.folder == draft.folder for one in self.drafts.values()):
            await self.in_thread(shutil.rmtree, draft.folder, True)

    async def _submit(self, value: Any) -> dict[str, Any]:
        draft, said = self._draft(value), value.get("fax")
        if not isinstance(said, dict) or not isinstance(said.get("when"), int | float):
            raise ValueError("bad fax")
        fax = Fax(
            tag=_text(said, "tag", _TAG), dial=_text(said, "dial", _DIAL), name=_text(said, "name", _NAME),
            subaddress=_text(said, "subaddress", _SUBADDRESS), sender=_text(said, "sender", _ADDRESS),
            tiff=draft.document.tiff, pdf=draft.document.pdf, pages=draft.document.pages,
            lines=LINES[draft.resolution], priority=_text(said, "priority", _PRIORITY), when=float(said["when"]),
        )
        try:
            return {"job": await self.line.submit(fax)}
        except NotTaken as error:
            return {"refused": str(error), "permanent": error.permanent}

    def _draft(self, value: Any) -> Draft:
        draft = self.drafts.get(str(value.get("draft")))
        if draft is None:
            raise ValueError("no such draft")
        return draft


def read_picture(path: Path) -> bytes:
    """Nothing, if it is too large or no plain file: what is drawn belongs to whoever has drawn it."""
    try:
        if path.is_symlink() or not path.is_file():
            return b""
        with path.open("rb") as file:
            data = file.read(LARGEST_PICTURE + 1)
    except OSError:
        return b""
    return data if len(data) <= LARGEST_PICTURE else b""


def _listed(value: Any, name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list) or len(found) > MOST_ASKED:
        raise ValueError(f"bad {name}")
    return found


def _pair(value: Any) -> tuple[str, str]:
    if isinstance(value, list) and len(value) == 2:
        job, tag = value
        if isinstance(job, str) and _JOB.match(job) and isinstance(tag, str) and _TAG.match(tag):
            return job, tag
    raise ValueError("bad job")


def _text(value: Any, name: str, pattern: re.Pattern[str]) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not pattern.match(found):
        raise ValueError(f"bad {name}")
    return found
