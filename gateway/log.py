"""The mail log: Postfix's lines, written fast and safe.

    Nov 24 12:00:00 HOST postfix/smtpd[PID]: connect from NAME[IP]

Lines go to ``maillog_file``, to standard error, or to syslog, as they are or as JSON objects (``log_format = json``).
They are gathered and written once a reactor turn (or at once without a reactor), so that a line costs less than a
microsecond of formatting and a share of one write.  Whatever stands in a line has been made printable: bytes below 32,
127 and the C1 range become "?" (printable(), as in Postfix), and so does what changes the direction of text.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import syslog
import time
from collections.abc import Callable
from typing import Any

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Controls, halves of characters, line ends, and what makes text run in another direction than it stands."""


def printable(text: str) -> str:
    """The text with everything that a terminal or a log reader could take for more than text as "?"."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub("?", text)


class MailLog:
    """Writes log lines; provides gateway.interfaces.Log.

    ``tag``: syslog_name.  ``write``: takes bytes of whole lines.  ``later``: schedules a call for the end of this
    reactor turn (``reactor.callLater(0, …)`` will do); None writes each line at once.
    """

    def __init__(
        self,
        tag: str,
        write: Callable[[bytes], Any],
        later: Callable[[Callable[[], None]], Any] | None = None,
        *,
        host: str = "",
        as_json: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tag = tag
        self._write = write
        self._later = later
        self._host = (host or socket.gethostname()).split(".")[0]
        self._json = as_json
        self._clock = clock
        self._second = -1
        self._stamp = ""
        self._lines: list[str] = []
        self._pid = os.getpid()
        self._tags: dict[str, str] = {}
        self._heads: dict[str, str] = {}
        """What stands in front of the lines of a program in this second."""

    def info(self, program: str, text: str) -> None:
        self._put(program, text, "info")

    def warning(self, program: str, text: str) -> None:
        self._put(program, "warning: " + text, "warning")

    def error(self, program: str, text: str) -> None:
        self._put(program, "error: " + text, "error")

    def fatal(self, program: str, text: str) -> None:
        self._put(program, "fatal: " + text, "fatal")
        self.flush()

    def set_tag(self, program: str, tag: str) -> None:
        """Use another syslog_name for one service (master.cf: -o syslog_name=…): lines of ``program`` are tagged
        ``tag``, which includes the program name."""
        self._heads.clear()
        self._tags[program] = tag

    def _put(self, program: str, text: str, level: str) -> None:
        now = self._clock()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%b %d %H:%M:%S", time.localtime(now))
            if self._stamp[4] == "0":
                self._stamp = f"{self._stamp[:4]} {self._stamp[5:]}"
            self._heads.clear()
        text = printable(text)
        if self._json:
            fact = {"time": round(now, 6), "host": self._host, "program": self._tag(program), "pid": self._pid}
            line = json.dumps({**fact, "level": level, "text": text})
        else:
            head = self._heads.get(program)
            if head is None:
                head = self._heads[program] = f"{self._stamp} {self._host} {self._tag(program)}[{self._pid}]: "
            line = head + text
        self._lines.append(line)
        if self._later is None:
            self.flush()
        elif len(self._lines) == 1:
            self._later(self.flush)

    def _tag(self, program: str) -> str:
        return self._tags.get(program) or f"{self.tag}/{program}"

    def flush(self) -> None:
        """Write what has gathered.  Never raises: a full disk must not stop the mail."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode("utf-8", "replace")
        self._lines.clear()
        try:
            self._write(data)
        except OSError:
            pass


def file_writer(path: str) -> Callable[[bytes], Any]:
    """Appends to a file, which is made if need be, and so is its folder.  Raises OSError at once if that cannot be
    done."""
    os.makedirs(os.path.dirname(path) or ".", 0o755, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    return lambda data: os.write(descriptor, data)


def stderr_writer(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def syslog_writer(facility: str = "mail") -> Callable[[bytes], Any]:
    """Sends to the local syslog daemon; the stamp and host in front of each line are its own affair."""
    number = getattr(syslog, f"LOG_{facility.upper()}", syslog.LOG_MAIL)
    head = re.compile(rb"^\S+ +\S+ \S+ \S+ ")

    def write(data: bytes) -> None:
        for line in data.splitlines():
            syslog.syslog(number | syslog.LOG_INFO, head.sub(b"", line, count=1).decode("utf-8", "replace"))

    return write


class MemoryLog:
    """Keeps lines as (program, text), for tests."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, program: str, text: str) -> None:
        self.lines.append((program, printable(text)))

    def warning(self, program: str, text: str) -> None:
        self.info(program, "warning: " + text)

    def error(self, program: str, text: str) -> None:
        self.info(program, "error: " + text)

    @property
    def text(self) -> str:
        return "\n".join(f"{program}: {text}" for program, text in self.lines)
