"""What was said in a session, for the postmaster: notify_classes, smtpd_history_flush_threshold.

Commands and replies are kept while there is somebody to be told of errors; passwords never.  The memory that it takes
is bounded by KEPT lines of LONGEST characters.  ``errors`` are the classes of what went wrong, by the replies given.
"""

from __future__ import annotations

import re

KEPT = 500
LONGEST = 500

_LOGIN = re.compile(r"\s*auth\b", re.IGNORECASE)
_PROTOCOL = ("500", "501", "502", "503", "504", "521", "555")

POLICY, PROTOCOL, RESOURCE, SOFTWARE, DATA = "policy", "protocol", "resource", "software", "data"
CLASSES = frozenset((POLICY, PROTOCOL, RESOURCE, SOFTWARE, DATA))


def error_class(reply: str) -> str:
    """The class of notify_classes that a refusal belongs to."""
    code, status = reply[:3], reply[4:9]
    if status == "4.3.1" or reply.endswith("queue file write error"):
        return RESOURCE
    if status == "4.3.5" or reply.endswith("internal error"):
        return SOFTWARE
    if status == "4.3.0":
        return DATA
    if code in _PROTOCOL and status[2:] != "7.1" and (status[:1] != "5" or status[2:3] == "5" or code == "501"):
        return PROTOCOL
    return POLICY


class Transcript:
    def __init__(self) -> None:
        self.errors: set[str] = set()
        self._kept: list[tuple[str, str]] = []
        self._length = 0

    def __len__(self) -> int:
        """In lines."""
        return self._length

    @property
    def lines(self) -> list[str]:
        return [f"{mark}{line[:LONGEST]}" for mark, text in self._kept for line in text.split("\n")]

    def heard(self, line: str) -> None:
        """A command of the client's."""
        if self._length < KEPT:
            # Few commands begin like AUTH: the others are spared the search.
            login = line[:1] in "aA" or line[0].isspace()
            self._kept.append((" In:  ", "AUTH *" if login and _LOGIN.match(line) else line[:LONGEST]))
            self._length += 1

    def said(self, reply: str) -> None:
        """A reply; its lines are parted by LF."""
        if reply[0] in "45":
            self.errors.add(error_class(reply))
        if self._length < KEPT:
            self._kept.append((" Out: ", reply))
            self._length += 1 + reply.count("\n")

    def forget(self) -> None:
        self._kept.clear()
        self._length = 0
        self.errors.clear()
