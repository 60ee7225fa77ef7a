"""Errors of the system and of Twisted in the words of strerror(3), as Postfix logs them."""

from __future__ import annotations

import errno
import os

from twisted.internet import error


def error_text(problem: BaseException, other: str = "") -> str:
    """``other``: for what the system has no words for."""
    number = getattr(problem, "osError", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    if isinstance(problem, (error.TimeoutError, error.TCPTimedOutError)):
        return os.strerror(errno.ETIMEDOUT)
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno)
    return other or str(problem).split("\n")[0][:200] or "failed"
