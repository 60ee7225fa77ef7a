"""rsmtp: a batch of SMTP commands that comes in by UUCP, on standard input, run by uuxqt.

The data may be packed (gateway.compression), and may begin with a line "#! NAME", so that crsmtp, gsmtp, bsmtp and the
like are the same program.  A batch is taken whole or not at all: its messages are made safe first, and then all handed
over, so that one that uuxqt tries again does not come twice.  What is wrong with one recipient or one message goes
back to its sender.  A batch that is broken or cut off keeps what is whole of it, and the job is put aside by uuxqt.

Exit status: 0 all is queued, 64 bad arguments, 65 broken, cut off, or larger than uucp_batch_size_limit when unpacked,
77 this user may not hand in mail (authorized_submit_users), 75 trouble on this side: uuxqt tries again later, and
nothing is queued.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.commands.sendmail import Fatal, refuse_unauthorized
from gateway.compression import PackError, unpacked
from gateway.config import Settings
from gateway.config.builtin import load_configuration
from gateway.content import submission
from gateway.content.submission import Submission, SubmissionError
from gateway.uucp.batch import CutOff, Transaction, transactions
from gateway.uucp.giving_back import TOO_LARGE, remembered, turned_away
from gateway.uucp.way import site_name

SUMMARY = "take batched SMTP from a UUCP neighbour (run by uuxqt; also as crsmtp, gsmtp, bsmtp …)"

EX_USAGE, EX_DATAERR, EX_TEMPFAIL = 64, 65, 75


class _TooLarge(Exception):
    pass


def main(arguments: list[str], directory: Path | None) -> int:
    if arguments:
        print("usage: rsmtp  (the batch comes on standard input)", file=sys.stderr)
        return EX_USAGE
    staged: list[str] = []
    queue: Path | None = None
    try:
        settings = load_configuration(directory).settings
        refuse_unauthorized(settings)
        queue = Path(settings.text("queue_directory"))
        if not (queue / submission.MAILDROP).is_dir():
            submission.prepare(queue)
        broken = _stage_all(settings, queue, staged)
        for name in staged:
            submission.publish(queue, name)
    except Fatal as error:
        print(f"rsmtp: {error}", file=sys.stderr)
        return error.status
    except Exception as error:
        for name in staged:
            submission.withdraw(queue or Path(), name)
        print(f"rsmtp: will be tried again: {type(error).__name__}: {error}", file=sys.stderr)
        return EX_TEMPFAIL
    if staged:
        submission.poke(queue)
    if broken:
        print(f"rsmtp: {broken}; {len(staged)} messages before that are queued", file=sys.stderr)
        return EX_DATAERR
    return 0


def _stage_all(settings: Settings, queue: Path, staged: list[str]) -> str:
    """Make each message safe.  What is wrong with the batch, or ""."""
    limit, neighbour = settings.number("message_size_limit"), site_name(os.environ.get("UU_MACHINE", ""))

    def note(text: str) -> None:
        print(f"rsmtp: passed over: {text}", file=sys.stderr)

    try:
        stream = unpacked(sys.stdin.buffer, settings.number("uucp_batch_size_limit"))
        while stream.peek(2)[:2] == b"#!":
            stream.readline()
            stream = unpacked(stream, settings.number("uucp_batch_size_limit"))
        for one in transactions(stream, note):
            staged.append(_stage(queue, one, neighbour, limit))
    except (CutOff, PackError) as error:
        return str(error)
    return ""


def _stage(queue: Path, one: Transaction, neighbour: str, limit: int) -> str:
    said = _submission(one, neighbour)
    try:
        submission.validate(said)
    except SubmissionError as error:
        said = turned_away(said, f"5.1.3 {error}")
        submission.validate(said)
    kept = bytearray()
    try:
        return submission.stage(queue, said, _limited(remembered(one.content, kept), limit))
    except _TooLarge:
        for _ in one.content:
            pass
        return submission.stage(queue, turned_away(said, TOO_LARGE), [bytes(kept)])


def _submission(one: Transaction, neighbour: str) -> Submission:
    return Submission(
        one.sender,
        [address for address, _ in one.recipients],
        notifies=[parameters.notify for _, parameters in one.recipients],
        orcpts=[parameters.orcpt for _, parameters in one.recipients],
        ret=one.parameters.ret,
        envid=one.parameters.envid,
        encoding=one.parameters.encoding,
        smtputf8=one.parameters.smtputf8,
        remote=True,
        neighbour=neighbour,
        turned_away=[address for address, _ in one.turned_away],
        reasons=[reason for _, reason in one.turned_away],
    )


def _limited(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit > 0:
            raise _TooLarge
        yield block
