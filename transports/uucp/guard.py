"""uux: a guard for the program that queues mail for UUCP neighbours.

The recipe is pipe(8)'s ``argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient)``.  Taylor's uux gives its
arguments on as lines and words of a job file, so
- a control character in an argument would write a line of its own there (the neighbour could be sent any file):
  refused;
- white space and single parentheses in a recipient make other recipients of it: refused, as is a leading dash;
- an empty value behind -a swallows the "-" that stands for standard input, and the mail: the empty sender is
  MAILER-DAEMON;
- without a system's name in front of "!" the job runs here: refused.
Status 69 is "no such system" and everything else that can go wrong, a full disk too: only the first bounces.
uux syncs nothing to disk: ``settle`` does, once for all deliveries that wait at that time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Sequence

from gateway.interfaces import BOUNCED, DEFERRED
from transports.guard import Guard, Refusal
from transports.process import Ending, Outcome
from transports.uucp.taylor import spool_of
from transports.verdict import EX_UNAVAILABLE, Verdict, deferred

NULL_SENDER = "MAILER-DAEMON"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:![A-Za-z0-9][A-Za-z0-9._-]*)*\Z")
_UNKNOWN_SYSTEM = "System not found"


class UuxGuard(Guard):
    """``sync``: brings the spool to disk; see transports.uucp.sync."""

    def __init__(self, sync: Callable[[], Awaitable[None]]) -> None:
        self._sync = sync

    def refuse_delivery(self, sender: str, nexthop: str) -> Refusal | None:
        if not nexthop:
            return Refusal("4.3.5", "mail system configuration error: UUCP needs a next hop", DEFERRED)
        if not _SYSTEM.match(nexthop):
            return Refusal("5.1.2", f'"{nexthop}" is no name of a UUCP system')
        if _CONTROL.search(sender):
            return Refusal("5.1.7", "sender address with a control character cannot go by UUCP")
        return None

    def refuse_control(self, recipient: str) -> Refusal | None:
        """What can go by no way at all."""
        if _CONTROL.search(recipient):
            return Refusal("5.1.3", "recipient address with a control character cannot go by UUCP")
        return None

    def refuse_recipient(self, recipient: str) -> Refusal | None:
        if refusal := self.refuse_control(recipient):
            return refusal
        if re.search(r"\s", recipient):
            return Refusal("5.1.3", "recipient address with white space cannot go by UUCP")
        if recipient.startswith("-"):
            return Refusal("5.1.3", "recipient address that begins with a dash cannot go by UUCP")
        if not recipient or not _balanced(recipient):
            return Refusal("5.1.3", "recipient address with unbalanced parentheses cannot go by UUCP")
        return None

    def arguments(self, argv: Sequence[str]) -> list[str] | Refusal:
        if any(_CONTROL.search(word) for word in argv):
            return Refusal("5.1.3", "address with a control character cannot go by UUCP")
        words = list(argv)
        for at in range(1, len(words)):
            if words[at] == "-a":
                if at + 1 < len(words) and words[at + 1] == "":
                    words[at + 1] = NULL_SENDER
                elif at + 1 == len(words) or words[at + 1] == "-":
                    words[at] = f"-a{NULL_SENDER}"
        if not any("!" in word and not word.startswith(("!", "(", "-")) for word in words[1:]):
            return Refusal("4.3.5", "mail system configuration error: uux needs SYSTEM!COMMAND", DEFERRED)
        return words

    def judge(self, outcome: Outcome, verdict: Verdict) -> Verdict:
        if outcome.ending is Ending.EXITED and outcome.code == EX_UNAVAILABLE and verdict.status == BOUNCED:
            return verdict if _UNKNOWN_SYSTEM in verdict.reason else deferred(verdict)
        return verdict

    async def settle(self) -> None:
        await self._sync()


def _balanced(text: str) -> bool:
    level = 0
    for letter in text:
        level += {"(": 1, ")": -1}.get(letter, 0)
        if level < 0:
            return False
    return level == 0


def guard_for(argv: Sequence[str], sync: Callable[[str], Callable[[], Awaitable[None]]]) -> UuxGuard | None:
    """A guard if the command is uux.  ``sync``: from a folder to what brings it to disk."""
    if os.path.basename(argv[0]) != "uux":
        return None
    return UuxGuard(sync(spool_of(argv)))
