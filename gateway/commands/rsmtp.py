"""rsmtp: a batch of SMTP commands that comes in by UUCP, on standard input, run by uuxqt.

The data may be packed (gateway.compression), and may begin with a line "#! NAME", so that crsmtp, gsmtp, bsmtp and the
like are the same program.  A batch is taken whole or not at all: its messages are made safe first, and then all handed
over, so that one that uuxqt tries again does not come twice.  What is wrong with one recipient or one message goes
back to its sender.  A batch that is broken or cut off keeps what is whole of it, and the job is put aside by uuxqt.

Exit status: 0 all is queued, 64 bad arguments, 65 broken, cut off, no batch at all, or larger than
uucp_batch_size_limit when unpacked, 77 this user may not hand in mail (authorized_submit_users), 75 trouble on this
side, or a neighbour that has sent too much: uuxqt tries again later, and nothing is queued.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from gateway.commands.from_uucp import EX_USAGE, Intake, take
from gateway.content.submission import Submission
from gateway.uucp.batch import LONGEST_COMMAND, BadBatch, Transaction, transactions

SUMMARY = "take batched SMTP from a UUCP neighbour (run by uuxqt; also as crsmtp, gsmtp, bsmtp …)"

MOST_LAYERS = 4
MOST_MESSAGES = 100_000
MOST_NOTES = 10


def main(arguments: list[str], directory: Path | None) -> int:
    if arguments:
        print("usage: rsmtp  (the batch comes on standard input)", file=sys.stderr)
        return EX_USAGE
    return take("rsmtp", directory, _work)


def _work(intake: Intake) -> None:
    notes = _Notes()
    try:
        for one in transactions(_batch(intake), notes.add):
            if len(intake.staged) >= MOST_MESSAGES:
                raise BadBatch(f"more than {MOST_MESSAGES} messages")
            intake.add(_submission(one), one.content)
    finally:
        notes.show()
    if notes.count and not intake.staged:
        raise BadBatch("this is no batch of SMTP commands")


def _batch(intake: Intake) -> io.BufferedReader:
    """What is packed, without the lines that say so."""
    stream = intake.unpacked(sys.stdin.buffer)
    for _ in range(MOST_LAYERS):
        if stream.peek(2)[:2] != b"#!":
            break
        stream.readline(LONGEST_COMMAND)
        stream = intake.unpacked(stream)
    return stream


def _submission(one: Transaction) -> Submission:
    return Submission(
        one.sender,
        [address for address, _ in one.recipients],
        notifies=[parameters.notify for _, parameters in one.recipients],
        orcpts=[parameters.orcpt for _, parameters in one.recipients],
        ret=one.parameters.ret,
        envid=one.parameters.envid,
        encoding=one.parameters.encoding,
        smtputf8=one.parameters.smtputf8,
        turned_away=[address for address, _ in one.turned_away],
        reasons=[reason for _, reason in one.turned_away],
    )


class _Notes:
    """What was passed over; the first of them are shown."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if self.count <= MOST_NOTES:
            self._first.append(text)

    def show(self) -> None:
        for text in self._first:
            print(f"rsmtp: passed over: {text}", file=sys.stderr)
        if self.count > MOST_NOTES:
            print(f"rsmtp: passed over: {self.count - MOST_NOTES} more", file=sys.stderr)
