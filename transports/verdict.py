"""What a program's end means for the mail: the one table from exit status to result.

sysexits as in pipe(8) and local(8); an enhanced status code (RFC 3463) in front of the output counts more than the
status. A program that could not be started, or was given up, never bounces mail: it is deferred, and
``Verdict.warning`` says why, for the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gateway.interfaces import BOUNCED, DEFERRED, SENT, Result
from transports.process import Ending, Outcome

NO_TEXT = "(description unavailable)"
"""What notifications say of a failure without a text."""

OK = 0
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75

SYSEXITS: dict[int, tuple[str, str]] = {
    64: ("5.3.0", "command line usage error"),
    65: ("5.6.0", "data format error"),
    66: ("5.3.0", "cannot open input"),
    67: ("5.1.1", "user unknown"),
    68: ("5.1.2", "host name unknown"),
    69: ("5.3.0", "service unavailable"),
    70: ("5.3.0", "internal software error"),
    71: ("4.3.0", "system resource problem"),
    72: ("5.3.0", "critical OS file missing"),
    73: ("5.2.0", "can't create user output file"),
    74: ("5.3.0", "input/output error"),
    75: ("4.3.0", "temporary failure"),
    76: ("5.5.0", "remote error in protocol"),
    77: ("5.7.0", "permission denied"),
    78: ("5.3.5", "local configuration error"),
}

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|\Z)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd\u2028\u2029]")


@dataclass(slots=True, frozen=True)
class Verdict:
    status: str
    dsn: str
    reason: str
    """SENT: what the program said, "" = nothing."""
    diagnostic: str = ""
    """For the notification."""
    warning: str = ""
    """What the postmaster should know, for the log."""

    def result(self, relay: str, *, sent: str, action: str, connected: float = 0.0) -> Result:
        """As a recipient's result.  ``sent``: the text of success; ``action``: what success is in a notification."""
        if self.status == SENT:
            return Result(SENT, self.dsn, sent, relay, connected, details={"action": action})
        details = {"diagnostic_type": "x-unix", "diagnostic": self.diagnostic or self.reason or NO_TEXT}
        return Result(self.status, self.dsn, self.reason, relay, connected, details=details)


def judge(outcome: Outcome, command: str) -> Verdict:
    """``command``: as it is named in reasons."""
    said = readable(outcome.output)
    behind = f". Command output: {said}" if said else ""
    if outcome.ending is Ending.NOT_STARTED or outcome.ending is Ending.GIVEN_UP:
        dsn, text = SYSEXITS[EX_TEMPFAIL]
        return Verdict(DEFERRED, dsn, text, warning=f"{command}: {outcome.text}")
    if outcome.ending is Ending.NOT_ALLOWED:
        return Verdict(DEFERRED, "4.3.5", outcome.text, warning=f"{command}: {outcome.text}")
    if outcome.ending is Ending.TIMED_OUT:
        reason = f'Command time limit exceeded: "{command}"{behind}'
        return Verdict(BOUNCED, "5.3.0", reason, said or SYSEXITS[70][1])
    if outcome.ending is Ending.SIGNALED:
        reason = f'Command died with signal {outcome.code}: "{command}"{behind}'
        return Verdict(DEFERRED, "4.3.0", reason, said or SYSEXITS[70][1])
    if outcome.code == OK:
        return Verdict(SENT, "2.0.0", said.rstrip())
    enhanced = _ENHANCED.match(said)
    if enhanced:
        dsn, text = enhanced[1], said[enhanced.end() :]
        if dsn.startswith("2"):  # it has failed, whatever it says
            dsn = "5.0.0"
        return Verdict(_status(dsn), dsn, text, text)
    if outcome.code in SYSEXITS:
        dsn, text = SYSEXITS[outcome.code]
        return Verdict(_status(dsn), dsn, text + behind, said or text)
    reason = f'Command died with status {outcome.code}: "{command}"{behind}'
    return Verdict(BOUNCED, "5.3.0", reason, said or f"unknown mail system error {outcome.code}")


def deferred(verdict: Verdict) -> Verdict:
    """The same trouble as one that may go away."""
    return replace(verdict, status=DEFERRED, dsn="4.3.0")


def readable(output: bytes) -> str:
    """A program's output as one line: blanks for line ends and tabs, "_" for what cannot be printed."""
    text = output.decode("utf-8", "replace").replace("\n", " ").replace("\t", " ")
    return _CONTROL.sub("_", text)


def _status(dsn: str) -> str:
    return DEFERRED if dsn.startswith("4") else BOUNCED
