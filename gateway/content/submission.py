"""Mail on its way from `mailgateway sendmail` to the gateway: a file in ``maildrop/`` below queue_directory.

Nobody's program needs a set-uid bit: the folder has mode 1733, so that anybody may put a file there, and nobody but
its owner (mail_owner) can list it.  Names have 160 random bits, and are told to nobody (shown()): who knows one can
read the file.  Who submitted is the file's owner, which no one can forge; all else in the file is what that user says
and is checked when it is read.

    mailgateway-submission 1 SIZE LENGTH          fixed width: bytes of the content, bytes of the JSON object
    {"sender": …, "recipients": [ … ], …}
    content, LF line ends

A file is written under a name that begins with "tmp-", made durable (fdatasync), and renamed.  SIZE is filled in
last: a file whose SIZE does not agree was cut off.  Standard library only: sendmail must start fast.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

MAILDROP = "maildrop"
PUBLIC = "public"
POKE = "pickup"

NAME = re.compile(r"[0-9a-f]{40}\Z")
TEMPORARY = re.compile(r"tmp-[0-9a-f]{40}\Z")

_MAGIC = "mailgateway-submission 1"
_FIRST = re.compile(rb"mailgateway-submission 1 (\d{20}) (\d{10})\n")
_FIRST_LENGTH = len(_MAGIC) + 1 + 20 + 1 + 10 + 1
LONGEST_ENVELOPE = 32 * 1024 * 1024
MOST_RECIPIENTS = 100_000
"""All of them are in memory while the message is dealt with; who has more sends it several times."""
LONGEST_ADDRESS = 10_000

_TYPES = {"str": str, "int": int, "bool": bool}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")
"""Control characters, and halves of characters that no bytes stand behind."""
_REASON = re.compile(r"5\.\d{1,3}\.\d{1,3} .")


class SubmissionError(ValueError):
    """The file is no submission; the text says why."""


@dataclass(slots=True)
class Submission:
    """What the submitter says of a message; as in Envelope."""

    sender: str
    recipients: list[str]
    full_name: str = ""
    notify: int = 0
    notifies: list[int] = field(default_factory=list)
    """If not empty: NOTIFY of each recipient, in the place of ``notify``; and so with ``orcpts``."""
    orcpts: list[str] = field(default_factory=list)
    ret: str = ""
    envid: str = ""
    encoding: str = ""
    verp: str = ""
    trace: str = ""
    smtputf8: bool = False
    remote: bool = False
    """The header is not this site's to complete or rewrite (sendmail -G)."""
    neighbour: str = ""
    """The UUCP neighbour that it came from; believed of uucp_owner and root only."""
    turned_away: list[str] = field(default_factory=list)
    """Recipients, made printable, for whom it was not taken: it goes back to its sender …"""
    reasons: list[str] = field(default_factory=list)
    """… and why, of each: an enhanced status code and a text."""
    size: int = field(default=0, compare=False)
    """Bytes of content; known when the file is complete."""


def prepare(queue: Path, uid: int = -1, gid: int = -1) -> None:
    """Make the folders that submission needs.  ``uid``, ``gid``: whom they are given (root only).  Raises OSError."""
    for name, mode in ((MAILDROP, 0o1733), (PUBLIC, 0o711)):
        folder = queue / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            pass
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{folder} is not a folder")
        if uid >= 0 and (status.st_uid, status.st_gid) != (uid, gid) and os.geteuid() == 0:
            os.chown(folder, uid, gid, follow_symlinks=False)
        if stat.S_IMODE(status.st_mode) != mode and status.st_uid in (os.geteuid(), uid):
            folder.chmod(mode)


def new_name() -> str:
    return os.urandom(20).hex()


def shown(name: str) -> str:
    """What people may see of a file's name: its beginning."""
    return name[:12]


def validate(submission: Submission) -> None:
    """Raises SubmissionError for what read_submission would refuse: said before the file is left to the gateway, its
    author hears of it."""
    try:
        _submission(asdict(submission))
    except ValueError as error:
        raise SubmissionError(str(error)) from None


def drop(queue: Path, submission: Submission, content: Iterable[bytes], name: str = "") -> str:
    """Put a message into the maildrop folder of a queue directory; durable when this returns.  The file's name.
    Raises OSError; nothing is left behind then."""
    name = stage(queue, submission, content, name)
    try:
        publish(queue, name)
    except BaseException:
        withdraw(queue, name)
        raise
    return name


def stage(queue: Path, submission: Submission, content: Iterable[bytes], name: str = "") -> str:
    """The first half of ``drop``: all of it is on disk, and nobody takes it yet.  Raises OSError."""
    name = name or new_name()
    temporary = queue / MAILDROP / f"tmp-{name}"
    facts = json.dumps(asdict(submission)).encode("ascii") + b"\n"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "r+b") as file:
            file.write(_first_line(0, len(facts)) + facts)
            size = 0
            for block in content:
                file.write(block)
                size += len(block)
            file.seek(0)
            file.write(_first_line(size, len(facts)))
            file.flush()
            os.fchmod(descriptor, 0o644)  # the gateway reads it as mail_owner
            os.fdatasync(descriptor)
    except BaseException:
        withdraw(queue, name)
        raise
    return name


def publish(queue: Path, name: str) -> None:
    """The second half.  Raises OSError."""
    folder = queue / MAILDROP
    descriptor = os.open(folder / f"tmp-{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.rename(folder / f"tmp-{name}", folder / name)
        os.fsync(descriptor)  # the name, too: the folder itself cannot be opened by us
    finally:
        os.close(descriptor)


def withdraw(queue: Path, name: str) -> None:
    """Take a message back that was staged, or published in vain."""
    for leftover in (queue / MAILDROP / f"tmp-{name}", queue / MAILDROP / name):
        try:
            os.unlink(leftover)
        except OSError:
            pass


def _first_line(size: int, length: int) -> bytes:
    return f"{_MAGIC} {size:020d} {length:010d}\n".encode("ascii")


def poke(queue: Path) -> None:
    """Tell a running gateway that there is mail.  If none is running it will look when it starts."""
    import socket

    try:
        folder = os.open(queue / PUBLIC, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
            line.sendto(b"W", f"/proc/self/fd/{folder}/{POKE}")  # the path itself may be longer than a socket's name
    except OSError:
        pass
    finally:
        os.close(folder)


def open_submission(path: Path) -> tuple[BinaryIO, int]:
    """Open a file of the maildrop folder; the file and the uid of who put it there.  Raises SubmissionError for what no
    submission is (a link, a pipe, a second name of a file), OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise SubmissionError(f"not a file that can be read: {error.strerror}") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SubmissionError("not a regular file")
        if status.st_nlink != 1:
            raise SubmissionError("the file has another name elsewhere")
        return open(descriptor, "rb"), status.st_uid
    except BaseException:
        os.close(descriptor)
        raise


def read_submission(file: BinaryIO) -> Submission:
    """What the file says; it then stands at the first byte of the content.  Raises SubmissionError."""
    first = _FIRST.fullmatch(file.read(_FIRST_LENGTH))
    if not first:
        raise SubmissionError("not a submission")
    size, length = int(first[1]), int(first[2])
    if length > LONGEST_ENVELOPE:
        raise SubmissionError("the envelope is too long")
    data = file.read(length)
    if os.fstat(file.fileno()).st_size != _FIRST_LENGTH + length + size:
        raise SubmissionError("the file is cut off, or longer than it says")
    try:
        facts = json.loads(data)
        submission = _submission(facts)
    except (ValueError, RecursionError, TypeError) as error:
        raise SubmissionError(f"bad envelope: {error}") from None
    submission.size = size
    return submission


def _submission(facts: Any) -> Submission:
    """A Submission of these facts, which anybody may have written."""
    if not isinstance(facts, dict):
        raise ValueError("no object")
    values: dict[str, Any] = {}
    for one in fields(Submission):
        if one.name not in facts:
            continue
        value = facts[one.name]
        kind = str(one.type)
        members = value if kind.startswith("list[") else [value]
        wanted = _TYPES[kind.removeprefix("list[").removesuffix("]")]
        if type(members) is not list or any(type(member) is not wanted for member in members):
            raise ValueError(f"{one.name} is of the wrong type")
        if wanted is str and not all(map(_is_plain, members)):
            raise ValueError(f"bad characters in {one.name}, or too long")
        values[one.name] = value
    submission = Submission(**values)
    if submission.trace not in ("", "verify", "record") or submission.ret not in ("", "FULL", "HDRS"):
        raise ValueError("unknown trace or ret")
    if submission.encoding not in ("", "7bit", "8bit"):
        raise ValueError("unknown encoding")
    if len(submission.recipients) + len(submission.turned_away) > MOST_RECIPIENTS:
        raise ValueError(f"more than {MOST_RECIPIENTS} recipients")
    if not all(0 <= notify <= 15 for notify in [submission.notify, *submission.notifies]):
        raise ValueError("unknown notify")
    for each in (submission.notifies, submission.orcpts):
        if each and len(each) != len(submission.recipients):
            raise ValueError("not one for each recipient")
    if len(submission.turned_away) != len(submission.reasons):
        raise ValueError("not one reason for each recipient")
    if not all(_REASON.match(reason) for reason in submission.reasons):
        raise ValueError("a reason without an enhanced status code")
    return submission


def _is_plain(text: str) -> bool:
    return len(text) <= LONGEST_ADDRESS and not _UNSAFE.search(text)
