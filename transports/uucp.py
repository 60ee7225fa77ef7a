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

import ctypes
import os
import re
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred

from gateway.interfaces import BOUNCED, DEFERRED
from transports.guard import Guard, Refusal
from transports.process import Ending, Outcome
from transports.verdict import EX_UNAVAILABLE, Verdict, deferred

SPOOL = "/var/spool/uucp"
NULL_SENDER = "MAILER-DAEMON"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:![A-Za-z0-9][A-Za-z0-9._-]*)*\Z")
_UNKNOWN_SYSTEM = "System not found"


class UuxGuard(Guard):
    """``sync``: brings the spool to disk; see GroupSync."""

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

    def refuse_recipient(self, recipient: str) -> Refusal | None:
        if _CONTROL.search(recipient):
            return Refusal("5.1.3", "recipient address with a control character cannot go by UUCP")
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


def spool_of(argv: Sequence[str]) -> str:
    """The spool folder of the configuration that uux is told to use (-I FILE, --config FILE), or the usual one."""
    for option, value in zip(argv, [*argv[1:], ""], strict=True):
        if option in ("-I", "--config"):
            return _spool_in(value)
        if option.startswith("-I"):
            return _spool_in(option[2:])
        if option.startswith("--config="):
            return _spool_in(option.partition("=")[2])
    return SPOOL


def _spool_in(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) == 2 and words[0].lower() == "spool":
                    return words[1]
    except OSError:
        pass
    return SPOOL


class GroupSync:
    """Brings the file system under a folder to disk, in a thread; callers that come while one sync runs share the next.

    ``in_thread``: runs a function in some thread pool; its failures are the callers'.  A folder that cannot be opened
    means a sync of everything.
    """

    def __init__(self, folder: str, in_thread: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._folder = folder
        self._in_thread = in_thread
        self._running = False
        self._waiting: list[Deferred[None]] = []

    async def __call__(self) -> None:
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._work())
        await turn

    async def _work(self) -> None:
        while self._waiting:
            served, self._waiting = self._waiting, []
            try:
                await self._in_thread(self._sync)
            except Exception as error:
                for turn in served:
                    turn.errback(error)
            else:
                for turn in served:
                    turn.callback(None)
        self._running = False

    def _sync(self) -> None:
        sync_file_system(self._folder)


def sync_file_system(folder: str) -> None:
    """syncfs(2) where the folder lies; sync(2) if that is not possible."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.sync()
        return
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)
