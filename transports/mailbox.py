"""Writes mboxes, with their locks.  Runs in a worker, as the user.

Dot lock (``path.lock``, O_EXCL; stale ones are removed) and kernel lock, as mailbox_delivery_lock says; the file is
opened only if it is what it seems (no symbolic link of a user's, one name only), appended to, forced to disk, and cut
back to its former length if anything fails.  Several messages for one mailbox are written under one lock and forced to
disk together; if that fails, all are taken back and each is tried by itself.

On NFS the dot lock holds for all clients (O_EXCL is exclusive there since version 3), fcntl and flock as far as the
server keeps locks; that there is no room may be told no earlier than by fsync, which is looked at.

Rules: local(8) MAILBOX DELIVERY, postconf(5) mailbox_delivery_lock, deliver_lock_attempts, strict_mailbox_ownership.
Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from transports.tasks import LASTING, Refused, Spec, Task, copy, trouble


class Locked(Exception):
    """Somebody else holds a lock now; which, the text says."""


def append(tasks: Sequence[Task], *, last: bool) -> bool:
    """All tasks have the same spec: path; locks (fcntl, flock, dotlock), stale; limit (bytes of the mailbox, 0 = none);
    devices (anything but a regular file is allowed), lenient (go on without a dot lock that may not be made; but take
    no executable file); unusable: the code for a file that cannot be opened as it is; owner: uid that the file must
    have, or None; user: (uid, gid) that owns a new file and writes, when run as root.

    False if the mailbox is locked and this is not the ``last`` attempt: then nothing was done, and nothing taken from
    the messages."""
    spec = tasks[0].spec
    try:
        with _dot_lock(spec):
            _append_locked(spec, tasks)
    except Locked as lock:
        if not last:
            return False
        for task in tasks:
            task.refuse(Refused("4.2.0", str(lock)))
    except Refused as refusal:
        for task in tasks:
            task.answer = task.answer or refusal.answer
    return True


def _append_locked(spec: Spec, tasks: Sequence[Task]) -> None:
    path: str = spec["path"]
    descriptor = _open(spec)
    try:
        found = os.fstat(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        if not regular and not spec["devices"]:
            raise Refused("5.2.0", f"destination {path} is not a regular file")
        if spec["owner"] is not None and found.st_uid != spec["owner"]:
            raise Refused("4.2.0", f"destination {path} is not owned by recipient")
        if regular and spec["lenient"] and found.st_mode & 0o111:
            raise Refused("5.7.1", "file is executable")
        if regular:
            _kernel_lock(descriptor, spec)
        with _writing_as(spec):
            if regular:
                _write(descriptor, spec, tasks)
            else:
                for task in tasks:
                    copy(descriptor, task.message, None)
                    task.answer = {"at": 0}
    finally:
        os.close(descriptor)


def _write(descriptor: int, spec: Spec, tasks: Sequence[Task]) -> None:
    """At the end of a regular file, and to the disk."""
    begin = end = os.lseek(descriptor, 0, os.SEEK_END)
    for task in tasks:
        try:
            count = copy(descriptor, task.message, max(spec["limit"] - end, 0) if spec["limit"] else None)
        except BaseException as error:
            _cut_back(descriptor, end)
            if not isinstance(error, Refused):
                raise
            task.refuse(error)
        else:
            task.answer = {"at": end}
            end += count
    try:
        os.fsync(descriptor)
    except OSError as error:  # only now a file server or a quota may say that there was no room
        _cut_back(descriptor, begin)
        written = [task for task in tasks if "at" in task.answer]
        for task in written:
            if len(written) > 1:
                _write(descriptor, spec, [task])
            else:
                task.refuse(trouble("error writing message", error))


def _cut_back(descriptor: int, end: int) -> None:
    with suppress(OSError):
        os.ftruncate(descriptor, end)


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
        trusted_link = stat.S_ISLNK(found.st_mode) and _is_roots(path, found)
        if stat.S_ISLNK(found.st_mode) and not trusted_link:
            raise Refused(spec["unusable"], "file is a symbolic link")
        # O_NONBLOCK: a pipe without a reader must not hold us up.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | (0 if trusted_link else os.O_NOFOLLOW)
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not trusted_link:
                continue
            if error.errno == errno.ENXIO and stat.S_ISFIFO(found.st_mode) and spec["devices"]:
                raise Refused("4.2.0", "nobody reads from the named pipe") from None
            raise _not_opened("cannot open file", error, spec) from None
        os.set_blocking(descriptor, True)
        opened = os.fstat(descriptor)
        same = trusted_link or (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino)
        if same and (opened.st_nlink == 1 or not stat.S_ISREG(opened.st_mode)):
            return descriptor
        os.close(descriptor)
        if same:
            raise Refused(spec["unusable"], f"file has {opened.st_nlink} hard links")
    raise Refused("4.2.0", f"file {path} keeps changing")


def _is_roots(path: str, link: os.stat_result) -> bool:
    """Whether nobody but root can have made that link."""
    folder = os.stat(os.path.dirname(path) or ".")
    return link.st_uid == folder.st_uid == 0 and not folder.st_mode & 0o022


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
    """Raises Locked, Refused."""
    if "dotlock" not in spec["locks"] or _is_device(spec["path"]):
        yield
        return
    lock = spec["path"] + ".lock"
    try:
        try:
            _create_lock(lock)
        except FileExistsError:
            if not _is_stale(lock, spec["stale"]):
                raise
            os.unlink(lock)
            _create_lock(lock)
    except FileExistsError as error:
        raise Locked(f"unable to create lock file {lock}: {error.strerror}") from None
    except OSError as error:
        if not spec["lenient"]:
            raise _not_opened(f"unable to create lock file {lock}", error, spec) from None
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(lock)


def _create_lock(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _is_device(path: str) -> bool:
    with suppress(OSError):
        return not stat.S_ISREG(os.stat(path).st_mode)
    return False


def _is_stale(lock: str, age: float) -> bool:
    with suppress(OSError):
        return time.time() - os.lstat(lock).st_mtime > age
    return False


def _kernel_lock(descriptor: int, spec: Spec) -> None:
    """Raises Locked."""
    for style in spec["locks"]:
        take = {"fcntl": fcntl.lockf, "flock": fcntl.flock}.get(style)
        try:
            if take is not None:
                take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise Locked(f"unable to lock for exclusive access: {style} lock on {spec['path']} is held") from None


def _not_opened(what: str, error: OSError, spec: Spec) -> Refused:
    """What must not or cannot be has the code that spec says; of other trouble a server may be the cause."""
    refusal = trouble(what, error)
    if error.errno in (*LASTING, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        refusal.dsn = spec["unusable"]
    return refusal
