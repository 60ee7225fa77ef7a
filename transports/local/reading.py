"""Reads files of users with their rights: .forward, :include:."""

from __future__ import annotations

from dataclasses import dataclass

from transports.process import Command, Ending, Identity, Runner

LARGEST = 1_048_576
_TIME = 60.0
_WRITABLE_BY_ALL = 0o002


@dataclass(slots=True, frozen=True)
class File:
    """``text`` is None if the file cannot be used; ``trouble`` says why, ``missing`` that it is not there."""

    text: str | None = None
    uid: int = 0
    missing: bool = False
    trouble: str = ""


async def read_as(runner: Runner, identity: Identity, path: str) -> File:
    """A regular file that not everybody may write, of at most a megabyte."""
    spec = {"path": path, "limit": LARGEST}
    outcome = await runner.run(
        Command([], identity, task="read", spec=spec, time_limit=_TIME, output_limit=LARGEST)
    )
    if outcome.ending is not Ending.EXITED:
        return File(trouble=outcome.text or "reading took too long")
    answer = outcome.answer
    if "text" in answer:
        return File(trouble=answer["text"])
    if not answer["found"]:
        return File(missing=True, trouble="there is no such file")
    if not answer["regular"]:
        return File(trouble="it is not a regular file")
    if answer["mode"] & _WRITABLE_BY_ALL:
        return File(trouble="it is world writable")
    if answer["size"] > LARGEST:
        return File(trouble="it is too large")
    return File(outcome.output.decode("utf-8", "surrogateescape"), answer["uid"])
