"""The system's accounts and groups, with the difference that Python's pwd and grp do not make: somebody who does not
exist is None; a directory service (LDAP, NIS, SSSD) that is away is an OSError, so that his mail waits.

These calls may block: they are for threads, and for commands.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
from typing import Any

_NOT_FOUND = (0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM)
"""What getpwnam_r(3) answers for somebody who does not exist."""


def user_by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(os.fsencode(name).decode("utf-8"))
    except ValueError:  # such a name cannot be
        return None
    except KeyError:
        _must_be_missing("getpwnam_r", ctypes.c_char_p(os.fsencode(name)))
        return None


def user_by_id(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        _must_be_missing("getpwuid_r", ctypes.c_uint(uid))
        return None


def group_by_name(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(os.fsencode(name).decode("utf-8"))
    except ValueError:
        return None
    except KeyError:
        _must_be_missing("getgrnam_r", ctypes.c_char_p(os.fsencode(name)))
        return None


def _must_be_missing(function: str, key: Any) -> None:
    """Ask once more, for the reason.  Raises OSError."""
    entry, text = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(65536)
    found = ctypes.c_void_p()
    status = getattr(ctypes.CDLL(None), function)(key, entry, text, len(text), ctypes.byref(found))
    if found:
        raise OSError(errno.EAGAIN, "the directory service has been away")
    if status not in _NOT_FOUND:
        raise OSError(status, os.strerror(status))
