"""Takes in what users have put into the maildrop folder; pickup(8), gateway.content.submission.

The folder is looked through at start, when somebody pokes (a datagram to ``public/pickup``), and every minute.  Each
file goes through cleanup and is removed when the message is durable; a crash in between makes a second copy, never
none.  Who submitted is the owner of the file.  A file that is no submission is renamed to "broken-…", logged, and
stays; one that cannot be taken now (full disk, table away) waits; one that cleanup refuses for good goes back to its
sender.  For mail from UUCP neighbours gateway.uucp.neighbours is asked first.
"""

from __future__ import annotations

import io
import itertools
import os
import pwd
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from gateway.addresses.basis import Tables
from gateway.addresses.login_senders import LoginSenders
from gateway.addresses.verp import Delimiters
from gateway.clock import time_of_day
from gateway.config import Settings
from gateway.content import submission
from gateway.content.options import IntakeOptions
from gateway.content.received import local_received, uucp_received
from gateway.content.submission import Submission, SubmissionError
from gateway.interfaces import ICleanup, Log, Rejected
from gateway.uucp.neighbours import Judgement, Neighbours, client_of
from spool.envelope import Client, Envelope, Recipient

PROGRAM = "pickup"
INTERVAL = 60.0
AT_ONCE = 10
BLOCK = 256 * 1024
BROKEN = "broken-"
ABANDONED = 36 * 3600.0
"""Seconds after which a file under a temporary name has nobody who will finish it."""

InThread = Callable[..., Awaitable[Any]]
Refused = Callable[[str, Envelope, BinaryIO, Rejected], Awaitable[None]]


def authorized_users(
    settings: Settings, tables: Tables, in_thread: InThread
) -> Callable[[int], Awaitable[bool]] | None:
    """What authorized_submit_users says of a user ID; None: everybody may.  Asking raises TableError."""
    if settings.text("authorized_submit_users") == "static:anyone":
        return None
    users = tables.string_list("authorized_submit_users", settings)

    async def authorized(uid: int) -> bool:
        return await users.match(await in_thread(login_name, uid))

    return authorized


@dataclass(slots=True)
class Taken:
    """A file, opened and read as far as its first block."""

    file: BinaryIO
    uid: int
    submitted: float
    submission: Submission
    block: bytes


class Pickup:
    """``directory``: queue_directory.  ``in_thread(function, *arguments)``: runs what blocks elsewhere.
    ``refused``: returns to its sender what cleanup refuses (gateway.notices).  ``authorized``: whether a user may
    submit mail (authorized_users), asked with the user ID.  ``senders``: whom a user may name.  ``neighbours``: which
    mail from UUCP is taken."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        cleanup: ICleanup,
        log: Log,
        clock: IReactorTime,
        in_thread: InThread,
        *,
        refused: Refused | None = None,
        authorized: Callable[[int], Awaitable[bool]] | None = None,
        senders: LoginSenders | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._folder = directory / submission.MAILDROP
        self._cleanup = cleanup
        self._log = log
        self._clock = clock
        self._in_thread = in_thread
        self._refused = refused
        self._authorized = authorized
        self._senders = senders
        self._neighbours = neighbours
        self._host = settings.text("myhostname")
        self._mail_name = settings.text("mail_name")
        self._content_filter = settings.text("content_filter")
        self._verp = Delimiters.of(settings)
        self._size_limit = settings.number("message_size_limit")
        self._options = replace(IntakeOptions.of(settings), keep_header=True)
        self._timer = LoopingCall(self.poke)
        self._timer.clock = clock
        self._working: Deferred[None] | None = None
        self._again = False
        self._stopped = False
        self._left_alone: set[str] = set()
        self._told: set[str] = set()

    def start(self) -> None:
        self._timer.start(INTERVAL)

    def stop(self) -> Deferred[None]:
        """Fires when what is being taken in has been."""
        self._stopped = True
        if self._timer.running:
            self._timer.stop()
        done: Deferred[None] = Deferred()
        if self._working is None:
            done.callback(None)
        else:
            self._working.chainDeferred(done)
        return done

    def poke(self) -> None:
        """There may be new mail."""
        self._again = True
        if self._working is None and not self._stopped:
            working = Deferred.fromCoroutine(self._work())
            if not working.called:
                self._working = working

    # --- one look ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._again and not self._stopped:
                self._again = False
                names = await self._in_thread(list_submissions, self._folder, time_of_day(self._clock) - ABANDONED)
                waiting = iter([name for name in names if name not in self._left_alone])
                await gatherResults([Deferred.fromCoroutine(self._take_each(waiting)) for _ in range(AT_ONCE)])
        except Exception as error:
            self._log.warning(PROGRAM, f"cannot read the {submission.MAILDROP} folder: {error}")
        finally:
            self._working = None

    async def _take_each(self, names: Any) -> None:
        for name in names:
            if self._stopped:
                return
            try:
                await self._take(name)
            except FileNotFoundError:
                continue  # somebody else has taken or removed it
            except SubmissionError as error:
                await self._put_aside(name, str(error))
            except Exception as error:
                why = str(error).replace(name, f"{submission.shown(name)}*")
                self._log.warning(PROGRAM, f"{_shown(name)}: stays for now: {why}")

    async def _take(self, name: str) -> None:
        taken: Taken = await self._in_thread(open_taken, self._folder / name)
        try:
            if self._authorized is not None and not await self._authorized(taken.uid):
                raise SubmissionError(f"user ID {taken.uid} is not authorized to submit mail")
            if self._senders is not None:
                login = await self._in_thread(login_name, taken.uid, f"uid:{taken.uid}")
                if not await self._senders.allow(login, taken.submission.sender):
                    raise SubmissionError(f"{login} is not authorized to use sender='{taken.submission.sender}'")
            if taken.submission.verp and not self._verp.acceptable(taken.submission.verp):
                raise SubmissionError(f"VERP delimiters that are not {self._verp.wanted}")
            envelope = self._envelope(taken)
            judged = await self._judge(taken, envelope)
            received = [*map(_line, judged.decisions.prepend), *self._received(taken, envelope)]
            intake = await self._cleanup.begin(PROGRAM, envelope, received, self._options_of(judged))
            self._log.info(PROGRAM, f"{intake.id}: uid={taken.uid} from=<{taken.submission.sender}>")
            try:
                if judged.refused and name not in self._told:
                    await self._turn_away(intake.id, taken, judged)
                    self._told.add(name)  # if the rest cannot be queued now, they are not told each minute
                if envelope.recipients:
                    await self._pass(intake, taken)
                else:
                    intake.abort()
            except Rejected as why:
                if why.code < 500:
                    raise
                await self._return(intake.id, taken, envelope, why, intake.header)
            except BaseException:
                intake.abort()
                raise
        finally:
            taken.file.close()
        await self._in_thread(os.unlink, self._folder / name)
        self._told.discard(name)

    async def _pass(self, intake: Any, taken: Taken) -> None:
        """As much as was there when it was opened, and no more than it takes to be too much: its owner may go on
        writing, or have made a file of holes that nobody could read to its end."""
        left = taken.submission.size
        if self._size_limit:
            left = min(left, self._size_limit + 1)
        block = taken.block[:left]
        while block:
            left -= len(block)
            intake.write(block)
            if intake.full:
                await intake.drained()
            block = await self._in_thread(taken.file.read, min(BLOCK, left)) if left else b""
        await intake.finish()

    async def _judge(self, taken: Taken, envelope: Envelope) -> Judgement:
        """Who of the recipients is refused, by whoever handed the mail in or by us; they leave the envelope."""
        said, judged = taken.submission, Judgement()
        if said.neighbour and self._neighbours is not None:
            if self._neighbours.believes(taken.uid):
                envelope.client = client_of(said.neighbour)
                judged = await self._neighbours.judge(envelope)
                envelope.content_filter = judged.decisions.filter or envelope.content_filter
                envelope.redirect = judged.decisions.redirect
                away = {id(recipient) for recipient, _ in judged.refused}
                envelope.recipients = [one for one in envelope.recipients if id(one) not in away]
            else:
                self._log.warning(
                    PROGRAM, f"user ID {taken.uid} is no UUCP account: not believed to be neighbour {said.neighbour}"
                )
        for address, reason in zip(said.turned_away, said.reasons, strict=True):
            dsn, _, text = reason.partition(" ")
            judged.refused.append((Recipient(address), Rejected(550, dsn, text)))
        return judged

    def _options_of(self, judged: Judgement) -> IntakeOptions:
        decided = judged.decisions
        if not decided.any():
            return self._options
        return replace(
            self._options, hold=decided.hold, discard=decided.discard, copies=tuple(decided.copies)
        )

    def _received(self, taken: Taken, envelope: Envelope) -> list[bytes]:
        if envelope.client.protocol:
            return uucp_received(self._host, self._mail_name, envelope.arrival, envelope.client.name)
        return local_received(self._host, self._mail_name, envelope.arrival, taken.uid)

    async def _turn_away(self, queue_id: str, taken: Taken, judged: Judgement) -> None:
        """One notice for all that were refused for the same reason; then the file stands where it stood."""
        by_reason: dict[str, tuple[Rejected, list[Recipient]]] = {}
        for recipient, why in judged.refused:
            by_reason.setdefault(f"{why.dsn} {why.text}", (why, []))[1].append(recipient)
        for why, recipients in by_reason.values():
            await self._return(queue_id, taken, replace(self._envelope(taken), recipients=recipients), why)
        await self._in_thread(_rewind, taken.file)
        taken.block = await self._in_thread(taken.file.read, BLOCK)

    def _envelope(self, taken: Taken) -> Envelope:
        said = taken.submission
        return Envelope(
            sender=said.sender,
            recipients=[
                Recipient(address, orcpt=orcpt, notify=notify)
                for address, orcpt, notify in zip(
                    said.recipients,
                    said.orcpts or itertools.repeat(""),
                    said.notifies or itertools.repeat(said.notify),
                    strict=False,
                )
            ],
            arrival=min(taken.submitted, time_of_day(self._clock)),
            client=Client(rewrite_context="remote" if said.remote else "local"),
            full_name=said.full_name,
            encoding=said.encoding,
            smtputf8=said.smtputf8,
            envid=said.envid,
            ret=said.ret,
            verp=said.verp,
            trace=said.trace,
            content_filter=self._content_filter,
        )

    async def _return(
        self, queue_id: str, taken: Taken, envelope: Envelope, why: Rejected, header: bytes = b""
    ) -> None:
        """Give what was refused back to its sender; if cleanup has made a ``header``, only that."""
        if self._refused is None:
            raise SubmissionError(f"refused: {why}")
        if header:
            envelope = replace(envelope, ret="HDRS", size=len(header))
            await self._refused(queue_id, envelope, io.BytesIO(header), why)
            return
        await self._in_thread(_rewind, taken.file)
        envelope.size = taken.submission.size
        await self._refused(queue_id, envelope, taken.file, why)

    async def _put_aside(self, name: str, why: str) -> None:
        self._log.warning(PROGRAM, f"{_shown(name)}: {why}; renamed to {_shown(BROKEN + name)}")
        try:
            await self._in_thread(os.rename, self._folder / name, self._folder / f"{BROKEN}{name}")
        except OSError as error:
            self._log.warning(PROGRAM, f"{_shown(name)}: cannot be renamed: {error.strerror}")
            self._left_alone.add(name)


def _shown(name: str) -> str:
    """For the log, which others than root may read."""
    before = BROKEN if name.startswith(BROKEN) else ""
    return f"{submission.MAILDROP}/{before}{submission.shown(name.removeprefix(before))}*"


# --- what blocks: for a thread ------------------------------------------------------------------------------------


def login_name(uid: int, nobody: str = "unknown") -> str:
    """``nobody`` for a user ID without an account."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return nobody


def list_submissions(folder: Path, abandoned: float) -> list[str]:
    """Names of submissions, oldest first.  Temporary files older than ``abandoned`` (epoch) are removed."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if submission.NAME.match(entry.name):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
                elif _is_left_over(entry, abandoned):
                    os.unlink(entry.path)
            except OSError:
                continue
    return [name for _, name in sorted(found)]


def _is_left_over(entry: os.DirEntry[str], abandoned: float) -> bool:
    if not submission.TEMPORARY.match(entry.name):
        return False
    return entry.stat(follow_symlinks=False).st_mtime < abandoned


def open_taken(path: Path) -> Taken:
    file, uid = submission.open_submission(path)
    try:
        submitted = os.fstat(file.fileno()).st_ctime
        said = submission.read_submission(file)
        return Taken(file, uid, submitted, said, file.read(BLOCK))
    except BaseException:
        file.close()
        raise


def _line(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _rewind(file: BinaryIO) -> None:
    file.seek(0)
    submission.read_submission(file)


# --- pokes -----------------------------------------------------------------------------------------------------------


@implementer(IReadDescriptor)
class Pokes:
    """Calls ``poke`` for each datagram at a socket that is bound already, whatever it says: anybody may write there."""

    def __init__(self, reactor: IReactorFDSet, bound: socket.socket, poke: Callable[[], object]) -> None:
        self._reactor = reactor
        self._socket = bound
        self._socket.setblocking(False)
        self._poke = poke
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return PROGRAM

    def doRead(self) -> None:
        try:
            for _ in range(100):
                self._socket.recv(16)
        except OSError:
            pass
        self._poke()

    def connectionLost(self, reason: Any) -> None:
        self._socket.close()

    def stop(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()
