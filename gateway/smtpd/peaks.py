"""The highest numbers of a while, for the log; anvil_status_update_time in postconf(5), anvil(8).

    statistics: max connection rate 12/60s for (smtp:192.0.2.1) at Nov 25 01:12:31
    statistics: max connection count 3 for (smtp:192.0.2.1) at Nov 25 01:12:31

A process speaks for itself: where several serve the same clients, each has lines of its own.  ``note`` begins a while,
at whose end they are logged; nothing is timed where nobody comes.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime

from gateway.clock import time_of_day
from gateway.interfaces import Log
from gateway.smtpd.limits import CONNECTIONS, LOGINS, MESSAGES, OPEN, RECIPIENTS, SIZE, TLS_SESSIONS

PROGRAM = "anvil"
_NAMES = {
    CONNECTIONS: "connection rate", OPEN: "connection count", MESSAGES: "message rate",
    RECIPIENTS: "recipient rate", TLS_SESSIONS: "newtls rate", LOGINS: "auth rate", SIZE: "cache size",
}  # fmt: skip
"""In the order in which they are told."""


class _Peak(NamedTuple):
    number: int
    who: str
    when: float


class Peaks:
    """``period``: seconds of a while; ``unit``: those that a rate is counted over."""

    def __init__(self, clock: IReactorTime, period: float, unit: float, log: Log) -> None:
        self._clock = clock
        self._period = period
        self._unit = round(unit)
        self._log = log
        self._peaks: dict[str, _Peak] = {}
        self._end: Any = None

    def note(self, what: str, count: int, service: str = "", network: str = "") -> None:
        peak = self._peaks.get(what)
        if peak is not None and count <= peak.number:
            return
        self._peaks[what] = _Peak(count, f"{service}:{network}", time_of_day(self._clock))
        if self._end is None:
            self._end = self._clock.callLater(self._period, self.report)

    def report(self) -> None:
        """The while is over."""
        end, self._end = self._end, None
        if end is not None and end.active():
            end.cancel()
        peaks, self._peaks = self._peaks, {}
        for what, name in _NAMES.items():
            if what in peaks:
                self._log.info(PROGRAM, f"statistics: max {name} {self._text(what, peaks[what])}")

    def _text(self, what: str, peak: _Peak) -> str:
        rate = "" if what in (OPEN, SIZE) else f"/{self._unit}s"
        who = "" if what == SIZE else f" for ({peak.who})"
        return f"{peak.number}{rate}{who} at {time.ctime(peak.when)[4:19]}"
