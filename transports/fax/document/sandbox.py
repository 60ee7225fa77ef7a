"""Shuts the worker in before it looks at what a stranger has sent.

``shut_in`` takes away, for this process and all that it starts: processor time, memory, size of files, processes
(setrlimit(2)); the network (a name space of its own, where the kernel lets ordinary users have one; see
user_namespaces(7)); and every file but the programs, fonts and libraries, which can be read, and its own folder
(landlock(7), Linux 5.13 and later).  The limits always hold; the other two are done where the kernel can, beside the
rights of the user it runs as.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

PROCESSES = 64
"""That may run beside those that the user has already: LibreOffice takes some twenty threads."""
POLITENESS = 10
"""So much the worker stands back behind those who talk to clients."""
OFFICE_MEMORY = 4
"""LibreOffice reserves several times the addresses that it uses."""

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_USER, _NEW_NET, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_NO_NEW_PRIVILEGES = 38
# System calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE, _READ, _READ_FOLDER, _REMOVE_FILE, _MAKE_SOCKET = 1, 2, 4, 8, 0x20, 0x200
_RIGHTS_BY_VERSION = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_TCP_SINCE, _TCP = 4, 3


def shut_in(folder: Path, readable: Iterable[str], *, seconds: int, memory: int, file_size: int) -> None:
    """``folder``: where it may write.  ``readable``: files and folders whose contents it may read and run."""
    limit(seconds=seconds, memory=memory, file_size=file_size)
    leave_network()
    confine(folder, readable)


def limit(*, seconds: int, memory: int, file_size: int) -> None:
    processes = _own_threads() + PROCESSES
    for what, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 5),
        (resource.RLIMIT_AS, memory, memory * OFFICE_MEMORY),
        (resource.RLIMIT_FSIZE, file_size, file_size),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 256, 256),
    ):
        _, most = resource.getrlimit(what)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(what, (soft, hard))
    os.nice(POLITENESS)


def leave_network() -> bool:
    """Into a name space without any network, not even a loopback that is up.  Whether it worked."""
    child = os.fork()
    if child == 0:  # tried there first: half of it would leave us nobody's process
        os._exit(0 if _unshare() else 1)
    return os.waitpid(child, 0)[1] == 0 and _unshare()


def _unshare() -> bool:
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_USER | _NEW_NET | _NEW_IPC) != 0:
        return False
    try:
        # Without these it could not open its own files.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError:
        return False
    return True


def confine(folder: Path, readable: Iterable[str]) -> bool:
    """Landlock: no files but these, no TCP.  Whether it worked."""
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    rights = _RIGHTS_BY_VERSION[max(one for one in _RIGHTS_BY_VERSION if one <= version)]
    attributes = struct.pack("=QQ", rights, _TCP) if version >= _TCP_SINCE else struct.pack("=Q", rights)
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow(ruleset, path, _EXECUTE | _READ | _READ_FOLDER)
        for path in ("/dev/null", "/dev/zero"):
            _allow(ruleset, path, _READ | _WRITE)
        _allow(ruleset, "/tmp", _MAKE_SOCKET | _REMOVE_FILE)  # where LibreOffice puts one, whatever TMPDIR says
        _allow(ruleset, str(folder), rights & ~_EXECUTE)
        return _libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _READ | _WRITE
        rule = struct.pack("=Qi", rights, descriptor)
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _own_threads() -> int:
    """Of this user, wherever: RLIMIT_NPROC counts them all."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if process.stat().st_uid == os.getuid():
                    count += len(os.listdir(process / "task"))
            except OSError:
                continue  # it has ended
    return count
