"""Writes mailboxes: mbox with locks, Maildir; and reads users' files.  Runs in a worker, as the user.

Each task takes its arguments (``spec``) and gives an answer, both JSON-able; see transports.worker.  The answer of a
delivery is ``{"at": …}``, where in the file the message begins, or ``{"dsn": …, "text": …}`` with what went wrong.  Of
a message that was cut short (the gateway went away) nothing is kept.

mbox: dot lock (``path.lock``, O_EXCL; stale ones are removed) and kernel lock, as mailbox_delivery_lock says; the
file is opened only if it is what it seems (no symbolic link of a user's, one name only), appended to, forced to disk,
and cut back to its former length if anything fails.  Maildir: tmp → new by rename, file and folder forced to disk.

Rules: local(8) MAILBOX DELIVERY, postconf(5) mailbox_delivery_lock, deliver_lock_attempts, strict_mailbox_ownership.
Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

Spec = dict[str, Any]
Answer = dict[str, Any]
Source = Iterator[bytes]
"""The message, ready to be stored, in blocks; raises Refused if it is cut short."""
Sink = Callable[[bytes], None]
"""Takes what is read."""

BLOCK = 65536

_DSN = {
    errno.EFBIG: "5.2.2",
    errno.EDQUOT: "5.2.2",
    errno.ENOSPC: "4.3.0",
}
"""A full mailbox is the recipient's affair, a full disk ours; whatever else goes wrong may go away."""


_LASTING = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
"""Why a file cannot be opened now nor later; for anything else the disk or a file server may be to blame."""


class Refused(Exception):
    """Not delivered, for a reason that has no errno."""

    def __init__(self, dsn: str, text: str) -> None:
        super().__init__(text)
        self.dsn, self.text = dsn, text


# --- mbox --------------------------------------------------------------------------------------------------------


def append_mbox(spec: Spec, message: Source, sink: Sink) -> Answer:
    """spec: path; locks (fcntl, flock, dotlock), attempts, delay, stale; limit (bytes of the mailbox, 0 = none);
    devices (anything but a regular file is allowed), lenient (go on without a dot lock that may not be made);
    unusable: the code for a file that cannot be opened as it is;
    owner: uid that the file must have, or None; user: (uid, gid) that owns a new file and writes, when run as root."""
    try:
        with _dot_lock(spec):
            return {"at": _append_locked(spec, message)}
    except Refused as refusal:
        return {"dsn": refusal.dsn, "text": refusal.text}


def _append_locked(spec: Spec, message: Source) -> int:
    """Where the message begins."""
    path: str = spec["path"]
    descriptor = _open(spec)
    try:
        found = os.fstat(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        if not regular and not spec["devices"]:
            raise Refused("5.2.0", f"destination {path} is not a regular file")
        if spec["owner"] is not None and found.st_uid != spec["owner"]:
            raise Refused("4.2.0", f"destination {path} is not owned by recipient")
        end = 0
        if regular:
            _kernel_lock(descriptor, spec)
            end = os.lseek(descriptor, 0, os.SEEK_END)
        with _writing_as(spec):
            try:
                _copy(descriptor, message, spec["limit"] - end if regular and spec["limit"] else None)
                if regular:
                    _to_disk(descriptor)
            except BaseException:
                if regular:
                    with suppress(OSError):
                        os.ftruncate(descriptor, end)
                raise
        return end
    finally:
        os.close(descriptor)


def _to_disk(descriptor: int) -> None:
    """Only now a file server or a quota may say that there was no room.  Raises Refused."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _trouble("error writing message", error) from None


def _open(spec: Spec) -> int:
    path: str = spec["path"]
    for _ in range(10):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            try:
                return _create(spec)
            except FileExistsError:
                continue
            except OSError as error:
                raise _not_opened("cannot create file exclusively", error, spec) from None
        except OSError as error:
            raise _not_opened("cannot open file", error, spec) from None
        trusted_link = stat.S_ISLNK(found.st_mode) and found.st_uid == 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (0 if trusted_link else os.O_NOFOLLOW)
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not trusted_link:
                continue
            raise _not_opened("cannot open file", error, spec) from None
        opened = os.fstat(descriptor)
        same = trusted_link or (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino)
        if same and (opened.st_nlink == 1 or not stat.S_ISREG(opened.st_mode)):
            return descriptor
        os.close(descriptor)
        if same:
            raise Refused(spec["unusable"], f"file has {opened.st_nlink} hard links")
    raise Refused("4.2.0", f"file {path} keeps changing")


def _create(spec: Spec) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(spec["path"], flags, 0o600)
    if spec.get("user") and os.geteuid() == 0:
        os.fchown(descriptor, *spec["user"])
    return descriptor


@contextmanager
def _writing_as(spec: Spec) -> Iterator[None]:
    """Root opens a mailbox in a folder that only root may change; the user writes it, so that quotas count."""
    if not spec.get("user") or os.geteuid() != 0:
        yield
        return
    uid, gid = spec["user"]
    os.setresgid(-1, gid, -1)
    os.setresuid(-1, uid, -1)
    try:
        yield
    finally:
        os.setresuid(-1, 0, -1)
        os.setresgid(-1, 0, -1)


@contextmanager
def _dot_lock(spec: Spec) -> Iterator[None]:
    if "dotlock" not in spec["locks"] or _is_device(spec["path"]):
        yield
        return
    lock = spec["path"] + ".lock"
    for attempt in range(max(1, spec["attempts"])):
        if attempt:
            time.sleep(spec["delay"])
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            break
        except FileExistsError:
            _remove_stale(lock, spec["stale"])
        except OSError as error:
            if spec["lenient"]:
                yield
                return
            raise _trouble(f"unable to create lock file {lock}", error) from None
    else:
        raise Refused("4.2.0", f"unable to create lock file {lock}: File exists")
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock)


def _is_device(path: str) -> bool:
    with suppress(OSError):
        return not stat.S_ISREG(os.stat(path).st_mode)
    return False


def _remove_stale(lock: str, age: float) -> None:
    with suppress(OSError):
        if time.time() - os.lstat(lock).st_mtime > age:
            os.unlink(lock)


def _kernel_lock(descriptor: int, spec: Spec) -> None:
    for style in spec["locks"]:
        take = {"fcntl": fcntl.lockf, "flock": fcntl.flock}.get(style)
        if take is None:
            continue
        for attempt in range(max(1, spec["attempts"])):
            if attempt:
                time.sleep(spec["delay"])
            try:
                take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                continue
        else:
            raise Refused("4.2.0", f"unable to lock for exclusive access: {style} lock on {spec['path']} is held")


# --- Maildir -----------------------------------------------------------------------------------------------------


def deliver_maildir(spec: Spec, message: Source, sink: Sink) -> Answer:
    """spec: path (the folder), limit (bytes of the message, 0 = none).  Folders that are missing are made."""
    folder: str = spec["path"].rstrip("/")
    now = time.time()
    unique = f"{int(now)}.R{secrets.token_hex(8)}P{os.getpid()}M{int(now * 1e6) % 1_000_000}.{_host()}"
    temporary, final = f"{folder}/tmp/{unique}", f"{folder}/new/{unique}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            for name in ("tmp", "new", "cur"):
                os.makedirs(f"{folder}/{name}", 0o700, exist_ok=True)
            descriptor = os.open(temporary, flags, 0o600)
    except OSError as error:
        return {"dsn": "4.2.0", "text": f"create maildir file {temporary}: {error.strerror}"}
    try:
        try:
            _copy(descriptor, message, spec["limit"] or None)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, final)
        _sync_folder(f"{folder}/new")
    except Refused as refusal:
        _forget(temporary)
        return {"dsn": refusal.dsn, "text": refusal.text}
    except OSError as error:
        _forget(temporary)
        return {"dsn": _DSN.get(error.errno or 0, "4.2.0"), "text": f"error writing message: {error.strerror}"}
    return {"at": 0}


@cache
def _host() -> str:
    return socket.gethostname().replace("/", "\\057").replace(":", "\\072")


def _forget(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading as a user ---------------------------------------------------------------------------------------------


def read_file(spec: Spec, message: Source, sink: Sink) -> Answer:
    """spec: path, limit, links (a symbolic link is followed), and when run as root, ``instead`` (see _lay_down_rights)
    or None.  The text goes to ``sink``; the answer says what the
    file is: {"found": False}, or found, uid, mode, regular, size; or {"text": …, "may_pass": …} if it cannot be opened.
    Nothing is read that is not a regular file."""
    path = spec["path"]
    try:
        if spec["instead"] and os.geteuid() == 0:
            _lay_down_rights(path, *spec["instead"])
        if not spec["links"] and stat.S_ISLNK(os.lstat(path).st_mode):
            return {"found": True, "regular": False}
        follow = 0 if spec["links"] else os.O_NOFOLLOW
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except (FileNotFoundError, NotADirectoryError):
        return {"found": False}
    except OSError as error:
        return {"text": error.strerror, "may_pass": error.errno not in _LASTING}
    found = os.fstat(descriptor)
    regular = stat.S_ISREG(found.st_mode)
    answer = {"found": True, "uid": found.st_uid, "mode": stat.S_IMODE(found.st_mode), "regular": regular}
    if regular and found.st_size <= spec["limit"]:
        while block := os.read(descriptor, BLOCK):
            sink(block)
    return {**answer, "size": found.st_size}


def _lay_down_rights(path: str, uid: int, gid: int) -> None:
    """Root reads only where nobody else can make a path lead elsewhere.  Else: who owns the file or the link; and what
    seems to be root's, but lies in somebody's folder, is read as ``uid`` and ``gid``."""
    found = os.lstat(path)
    folders = [os.path.dirname(path), os.path.dirname(os.path.realpath(path))]
    if all(map(_is_roots, folders)) and not (stat.S_ISLNK(found.st_mode) and found.st_uid):
        return
    if found.st_uid:
        uid, gid = found.st_uid, found.st_gid
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _is_roots(folder: str) -> bool:
    """Whether only root can change it and all above it."""
    while True:
        found = os.lstat(folder)
        if found.st_uid or not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022:
            return False
        if folder in ("/", ""):
            return True
        folder = os.path.dirname(folder)


# --- the message -----------------------------------------------------------------------------------------------------


def _copy(descriptor: int, message: Source, room: int | None) -> None:
    """To the file.  Raises Refused; OSErrors of the file become one too."""
    for block in message:
        if room is not None:
            room -= len(block)
            if room < 0:
                raise _trouble("error writing message", OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
        try:
            _write(descriptor, block)
        except OSError as error:
            raise _trouble("error writing message", error) from None


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _not_opened(what: str, error: OSError, spec: Spec) -> Refused:
    """What must not or cannot be has the code that spec says; of other trouble a server may be the cause."""
    trouble = _trouble(what, error)
    if error.errno in (*_LASTING, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        trouble.dsn = spec["unusable"]
    return trouble


def _trouble(what: str, error: OSError) -> Refused:
    return Refused(_DSN.get(error.errno or 0, "4.2.0"), f"{what}: {error.strerror}")
