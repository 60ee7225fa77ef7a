"""What rmail and rsmtp share: a job of a neighbour's is taken whole or not at all, and the exit status makes uuxqt do
the right thing.

With 75 uuxqt keeps the job and tries again at its next run, as often as it takes.  Any other status but 0, and death by
a signal, puts the job aside for ever, and the sender hears of it from a uuxqt at best: that is for what will never be
right, while what is wrong with one recipient or message goes back to its sender with a notice.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from gateway.commands.sendmail import Fatal, refuse_unauthorized
from gateway.compression import PackError, Readable, unpacked
from gateway.config.builtin import load_configuration
from gateway.content import submission
from gateway.content.submission import Submission, SubmissionError
from gateway.uucp.batch import LONGEST_SHOWN, BadBatch, printable
from gateway.uucp.door import Door, Wait
from gateway.uucp.way import BadInput, site_name

EX_USAGE, EX_DATAERR, EX_TEMPFAIL = 64, 65, 75

TOO_LARGE = "5.3.4 the message is larger than the size limit of this site"
KEPT = 16384
"""Bytes of a message that is too large that go back."""

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Intake:
    """``add`` makes each message safe, ``hand_over`` gives all to the gateway, ``withdraw`` none.  Made only if the
    neighbour, whom uuxqt names in $UU_MACHINE, may come in now (Wait) and the user may hand in mail (Fatal)."""

    def __init__(self, directory: Path | None) -> None:
        self.settings = load_configuration(directory).settings
        refuse_unauthorized(self.settings, None)
        self.machine = os.environ.get("UU_MACHINE", "")
        self._neighbour = site_name(self.machine)
        self._queue = Path(self.settings.text("queue_directory"))
        self._limit = self.settings.number("message_size_limit")
        self._door = Door(self.settings, self._neighbour)
        self._door.enter()
        if not (self._queue / submission.MAILDROP).is_dir():
            submission.prepare(self._queue)
        self.staged: list[str] = []
        self._size = 0

    def unpacked(self, stream: Readable) -> io.BufferedReader:
        return unpacked(stream, self.settings.number("uucp_batch_size_limit"))

    def add(self, said: Submission, content: Iterable[bytes]) -> None:
        """Raises SubmissionError for a sender that is none."""
        said = replace(said, remote=True, neighbour=self._neighbour)
        try:
            submission.validate(said)
        except SubmissionError as error:
            said = _turned_away(said, f"5.1.3 {error}")
            submission.validate(said)
        beginning = bytearray()
        try:
            name = submission.stage(self._queue, said, self._limited(content, beginning))
        except _TooLarge:
            name = submission.stage(self._queue, _turned_away(said, TOO_LARGE), [bytes(beginning)])
        self.staged.append(name)

    def hand_over(self) -> None:
        for one in _SIGNALS:  # it must not end half done, nor be said to have failed when it has not
            signal.signal(one, signal.SIG_IGN)
        for name in self.staged:
            submission.publish(self._queue, name)
        if self.staged:
            submission.poke(self._queue)
            self._door.count(len(self.staged), self._size)

    def withdraw(self) -> None:
        for name in self.staged:
            submission.withdraw(self._queue, name)

    def _limited(self, blocks: Iterable[bytes], beginning: bytearray) -> Iterator[bytes]:
        size = 0
        for block in blocks:
            size += len(block)
            self._size += len(block)
            beginning += block[: max(0, KEPT - len(beginning))]
            if size > self._limit > 0:
                raise _TooLarge
            yield block


class _TooLarge(Exception):
    pass


def _turned_away(said: Submission, reason: str) -> Submission:
    """The same for nobody: all recipients are told of in a notice.  ``reason``: status code and text."""
    away = [*said.turned_away, *(printable(one)[:LONGEST_SHOWN] for one in said.recipients)]
    reasons = [*said.reasons, *[reason] * len(said.recipients)]
    return replace(said, recipients=[], notifies=[], orcpts=[], turned_away=away, reasons=reasons)


def take(program: str, directory: Path | None, work: Callable[[Intake], None]) -> int:
    """The exit status.  If ``work`` fails nothing is handed over, but if its input is broken, what is whole of it."""
    handlers = {one: signal.signal(one, _ended) for one in _SIGNALS}
    intake: Intake | None = None
    try:
        intake = Intake(directory)
        try:
            work(intake)
        except (BadBatch, BadInput, PackError, SubmissionError) as error:
            intake.hand_over()
            before = f"; {len(intake.staged)} messages before that are queued" if intake.staged else ""
            return _say(program, f"{error}{before}", EX_DATAERR)
        intake.hand_over()
        return 0
    except Exception as error:
        if intake is not None:
            intake.withdraw()
        if isinstance(error, Fatal):
            return _say(program, str(error), error.status)
        reason = str(error) if isinstance(error, Wait) else f"{type(error).__name__}: {error}"
        return _say(program, f"will be tried again: {reason}", EX_TEMPFAIL)
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)


def _say(program: str, text: str, status: int) -> int:
    print(f"{program}: {text}".encode(errors="replace").decode(), file=sys.stderr)
    return status


def _ended(number: int, frame: FrameType | None) -> None:
    raise Fatal(f"ended by {signal.Signals(number).name}, will be tried again", EX_TEMPFAIL)
