"""How much a UUCP neighbour hands in: messages and bytes in anvil_rate_time_unit, counted by the running gateway.

rmail and rsmtp (gateway.uucp.door) ask before they begin (``refusal``) and say afterwards what they have queued
(``count``): a batch that was begun is taken whole, and one that is larger than a limit gets through when nothing else
has come.  Who has used up a limit has to wait: the commands end with 75, and uuxqt keeps the job.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import Settings
from gateway.interfaces import Log
from gateway.smtpd.limits import MESSAGES, ClientLimits
from gateway.uucp.door import BYTE_LIMIT, MESSAGE_LIMIT

BYTES = "bytes"
SERVICE = "uucp"
PROGRAM = "rmail"


class Rates:
    """``seconds``: the clock's."""

    def __init__(self, settings: Settings, log: Log, seconds: Callable[[], float]) -> None:
        self._unit = settings.seconds("anvil_rate_time_unit")
        self._limits = {MESSAGES: settings.number(MESSAGE_LIMIT), BYTES: settings.number(BYTE_LIMIT)}
        self._counts = ClientLimits(seconds, self._unit)
        self._log = log
        self._seconds = seconds
        self._told: dict[str, float] = {}

    def refusal(self, neighbour: str) -> str:
        """Why it has to wait; "" if it need not."""
        for what, limit in self._limits.items():
            if 0 < limit <= self._counts.counted(SERVICE, neighbour, what):
                text = f"{neighbour} has sent {limit} {what} within {self._unit:.0f} seconds, as many as it may"
                self._complain(neighbour, text)
                return text
        return ""

    def count(self, neighbour: str, messages: int, size: int) -> None:
        if any(self._limits.values()):
            self._counts.event(SERVICE, neighbour, MESSAGES, messages)
            self._counts.event(SERVICE, neighbour, BYTES, size)

    def _complain(self, neighbour: str, text: str) -> None:
        """Not for each job that waits."""
        now = self._seconds()
        self._told = {name: when for name, when in self._told.items() if now - when < self._unit}
        if neighbour not in self._told:
            self._told[neighbour] = now
            self._log.warning(PROGRAM, f"rate limit exceeded: {text}: its mail waits in UUCP's queue")
