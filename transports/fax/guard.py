"""faxmail: a guard for the program that turns mail into faxes at a HylaFAX server.

The recipe is pipe(8)'s ``argv=/usr/bin/faxmail -d -n ${user}``.  faxmail obeys X-FAX-* fields of the message: they
dial other numbers, read files and run programs.  So they are taken out of exactly the bytes that faxmail gets, and
its idea of a header is made ours: it takes all up to the first empty line for the header, so an empty line is put
before the first line that is none. Line ends are LF (a CR before one loses the page).  NUL bytes, which hide what
follows from some readers and not from others, leave the header.

A number must not look like an option and holds no control character.  Status 255 is all that faxmail knows of
failure: a server that cannot be reached defers, all else bounces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.interfaces import BOUNCED
from transports.guard import Guard, Refusal
from transports.process import Ending, Outcome
from transports.verdict import Verdict, deferred

_PROGRAM = re.compile(r"(?:^|[/\s])faxmail(?:\s|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ORDER = re.compile(rb"x-fax-", re.IGNORECASE)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_AWAY = re.compile(r"can ?not reach service|connection refused|service not available|timed? ?out", re.IGNORECASE)
_LINE_END = re.compile(rb"(?<!\r)\r+\n")
_LONGEST_HEADER = 1_048_576
_FAILED = 255


class FaxGuard(Guard):
    def refuse_recipient(self, recipient: str) -> Refusal | None:
        if _CONTROL.search(recipient):
            return Refusal("5.1.3", "fax number with a control character")
        if recipient.startswith("-"):
            return Refusal("5.1.3", "fax number that begins with a dash")
        if not recipient.rpartition("@")[0]:
            return Refusal("5.1.3", "no fax number in the recipient address")
        return None

    def arguments(self, argv: Sequence[str]) -> list[str] | Refusal:
        if any(_CONTROL.search(word) for word in argv):
            return Refusal("5.1.3", "address with a control character cannot go to a fax program")
        return list(argv)

    def filter(self, blocks: Iterator[bytes], notes: list[str]) -> Iterator[bytes]:
        start, rest = _header_and_rest(_with_lf(blocks))
        cleaned, removed = clean_header(start)
        if removed:
            notes.append(f"{removed} X-FAX header field{'s' * (removed > 1)} taken out: faxmail would obey them")
        yield cleaned
        yield from rest

    def judge(self, outcome: Outcome, verdict: Verdict) -> Verdict:
        failed = outcome.ending is Ending.EXITED and outcome.code == _FAILED and verdict.status == BOUNCED
        return deferred(verdict) if failed and _AWAY.search(verdict.reason) else verdict


def guard_for(argv: Sequence[str]) -> FaxGuard | None:
    """A guard if any word of the command is faxmail: behind a wrapper, or in a shell command, it obeys just the
    same."""
    return FaxGuard() if any(_PROGRAM.search(word) for word in argv) else None


def clean_header(data: bytes) -> tuple[bytes, int]:
    """``data`` begins a message and holds its header whole.  The same without X-FAX-* fields, an empty line behind
    the last field; and how many were taken out."""
    kept: list[bytes] = []
    removed = at = 0
    field = ""  # the field that a folded line would belong to: "kept", "dropped", "" = there is none yet
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        line = data[at:end].replace(b"\0", b"")
        if data[at:end] == b"\n":
            return b"".join(kept) + data[at:], removed
        if field and line[:1] in (b" ", b"\t") and line.strip():
            if field == "kept":
                kept.append(line)
        elif _ORDER.match(line):
            field = "dropped"
            removed += 1
        elif _FIELD.match(line):
            field = "kept"
            kept.append(line)
        elif not field and line.startswith((b"From ", b">From ")):
            kept.append(line)
        else:
            return b"".join(kept) + b"\n" + data[at:], removed
        at = end
    return b"".join(kept) + b"\n", removed


def _header_and_rest(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first blocks, up to one with an empty line (and an end of line); and those that follow."""
    data = b""
    for block in blocks:
        data += block
        if b"\n\n" in data or data.startswith(b"\n"):
            break
        if len(data) > _LONGEST_HEADER and b"\n" in block:
            cut = data.rfind(b"\n") + 1
            tail = data[cut:]
            return data[:cut] + b"\n", _chain(tail, blocks)
    return data, blocks


def _chain(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from others


def _with_lf(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Without the CRs in front of line ends, also across blocks."""
    held = b""
    for block in blocks:
        data = held + block
        held = data[len(data.rstrip(b"\r")) :]
        data = data[: len(data) - len(held)]
        yield _LINE_END.sub(b"\n", data) if b"\r" in data else data
    if held:
        yield held
