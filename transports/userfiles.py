"""Reads users' files, .forward and :include:; runs in a worker, as the user.  Standard library only."""

from __future__ import annotations

import os
import stat

from transports.tasks import BLOCK, LASTING, Answer, Task


def read_file(task: Task) -> Answer:
    """spec: path, limit, links (a symbolic link is followed), and when run as root, ``instead`` (see _lay_down_rights)
    or None.  The text goes to ``task.data``; the answer says what the
    file is: {"found": False}, or found, uid, mode, regular, size; or {"text": …, "may_pass": …} if it cannot be opened.
    Nothing is read that is not a regular file."""
    spec = task.spec
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
        return {"text": error.strerror, "may_pass": error.errno not in LASTING}
    try:
        found = os.fstat(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        if regular and found.st_size <= spec["limit"]:
            while block := os.read(descriptor, BLOCK):
                task.data.append(block)
    except OSError as error:
        return {"text": error.strerror, "may_pass": True}
    finally:
        os.close(descriptor)
    mode, size = stat.S_IMODE(found.st_mode), found.st_size
    return {"found": True, "uid": found.st_uid, "mode": mode, "regular": regular, "size": size}

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
