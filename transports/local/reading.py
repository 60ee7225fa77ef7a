"""Reads files of users with their rights: .forward, :include:."""

from __future__ import annotations

from dataclasses import dataclass

from transports.process import Command, Ending, Identity, Runner

LARGEST = 16_777_216
LARGEST_OF_USER = 1_048_576
"""Of a file that a user has named or written for himself: any user could have millions of addresses in it."""
_TIME = 60.0
_WRITABLE_BY_ALL = 0o002


@dataclass(slots=True, frozen=True)
class File:
    """``text`` is None if the file cannot be used; ``trouble`` says why (behind "file PATH"), ``missing`` that it is
    not there, ``may_pass`` that it may be another time."""

    text: str | None = None
    uid: int = 0
    missing: bool = False
    trouble: str = ""
    may_pass: bool = False


async def read_as(
    runner: Runner, identity: Identity, path: str, *, links: bool = True, instead: Identity | None = None,
    largest: int = LARGEST,
) -> File:
    """A regular file that not everybody may write, of at most ``largest`` bytes.  ``links``: a symbolic link is
    followed.  ``instead``: whose rights root is to use where a path could be somebody's trap (transports.userfiles)."""
    spec = {
        "path": path, "limit": largest, "links": links, "instead": (instead.uid, instead.gid) if instead else None
    }
    outcome = await runner.run(
        Command([], identity, task="read", spec=spec, time_limit=_TIME, output_limit=largest)
    )
    if outcome.ending is not Ending.EXITED:
        return File(trouble=f"cannot be read: {outcome.text or 'it took too long'}", may_pass=True)
    answer = outcome.answer
    if "text" in answer:
        return File(trouble=f"cannot be opened: {answer['text']}", may_pass=answer["may_pass"])
    if not answer["found"]:
        return File(missing=True, trouble="does not exist")
    if not answer["regular"]:
        return File(trouble="is not a regular file")
    if answer["mode"] & _WRITABLE_BY_ALL:
        return File(trouble="is world writable")
    if answer["size"] > largest:
        return File(trouble="is too large", may_pass=True)
    return File(outcome.output.decode("utf-8", "surrogateescape"), answer["uid"])
