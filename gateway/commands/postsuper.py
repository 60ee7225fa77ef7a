"""postsuper: remove, hold, release, requeue, expire mail, clean up the spool; postsuper(1).

    postsuper [-psSv] [-d ID] [-e ID] [-f ID] [-h ID] [-H ID] [-r ID] [QUEUE…]

ID may be "ALL", or "-" for IDs on standard input, one a line.  With the gateway running the changes are its own, and
safe while mail is being delivered; else they are made in the spool itself.  Without options -s and -p: folders and
ownership are put right, what is no message goes to "corrupt", what crashes left behind is removed.  Both are harmless
while the gateway runs, also right after a spool was copied in from elsewhere.

For root and the mail owner.  Reports go to standard error and the mail log.  Exit status 1 for a fatal error, else 0.
"""

from __future__ import annotations

import getopt
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from gateway.commands.queue_access import DirectQueue, Down, Fatal, RunningQueue, Voice, owns_spool
from gateway.config import Settings
from gateway.config.builtin import load_configuration
from gateway.control import Control, Refused
from spool import upkeep
from spool.ids import valid
from spool.interfaces import SpoolError
from spool.store import Store

SUMMARY = "remove, hold, release, requeue and expire queued mail; clean up the spool"

_USAGE = (
    "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] "
    "[-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] "
    "[-r queue_id (requeue)] [-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]"
)

_DIRECTORIES = frozenset(["maildrop", "incoming", "active", "deferred", "hold", "flush", "bounce", "defer", "trace"])

# Option → actions, each with the word for one message and the queues where it looks unless told otherwise.
_EVERYWHERE = ("hold", "incoming", "active", "deferred")
_ACTIONS = {
    "d": ("delete",),
    "e": ("expire",),
    "f": ("expire", "release"),
    "h": ("hold",),
    "H": ("release",),
    "r": ("requeue",),
}
_QUEUES = {"hold": ("incoming", "active", "deferred"), "release": ("hold",)}
_WORDS = {
    "requeue": ("requeued", "Requeued"),
    "delete": ("removed", "Deleted"),
    "expire": ("expired", "Force-expired"),
    "hold": ("placed on hold", "Placed on hold"),
    "release": ("released from hold", "Released from hold"),
}

_AT_ONCE = 5000
"""IDs from standard input that are dealt with together."""


def main(arguments: list[str], directory: Path | None) -> int:
    voice = Voice("postsuper")
    try:
        options, queues, directory = _parse(arguments, directory)
        settings = load_configuration(directory).settings
        if not owns_spool(settings):
            raise Fatal("use of this command is reserved for the superuser", 1)
        voice = Voice("postsuper", settings)
        _run(options, queues, settings, voice)
        return 0
    except Fatal as error:
        voice.fatal(str(error))
        return error.status
    except (SpoolError, Refused, Down, OSError) as error:
        voice.fatal(str(error))
        return 1


def _parse(arguments: list[str], directory: Path | None) -> tuple[list[tuple[str, str]], list[str], Path | None]:
    try:
        options, queues = getopt.gnu_getopt(arguments, "c:d:e:f:h:H:pr:sSv")
    except getopt.GetoptError as error:
        what = "invalid option" if error.msg.endswith("not recognized") else "option requires an argument"
        print(f"postsuper: {what} -- '{error.opt}'", file=sys.stderr)
        raise Fatal(_USAGE, 1) from None
    directory = next((Path(value) for option, value in options if option == "-c"), directory)
    for queue in queues:
        if queue not in _DIRECTORIES:
            raise Fatal(f"invalid directory name: {queue}", 1)
    return [(option[1], value) for option, value in options if option not in ("-c", "-v")], queues, directory


def _run(options: Sequence[tuple[str, str]], queues: Sequence[str], settings: Settings, voice: Voice) -> None:
    letters = {letter for letter, _ in options}
    changes = [(letter, value) for letter, value in options if letter in _ACTIONS]
    if not options or letters & {"s", "S", "p"}:
        _mend(settings, voice, purge=not options or "p" in letters, repair=not options or bool(letters & {"s", "S"}))
    if not changes:
        return
    try:
        with Control(settings.text("queue_directory")) as control:
            _Changer(RunningQueue(control), queues, voice).carry_out(changes)
    except Down:
        _Changer(DirectQueue(settings, voice), queues, voice).carry_out(changes)


def _mend(settings: Settings, voice: Voice, *, purge: bool, repair: bool) -> None:
    store = Store(settings.text("queue_directory"), report=voice.warning)
    try:
        count = upkeep.repair(store) if repair else 0
        if purge:
            upkeep.purge(store)
    except OSError as error:
        raise Fatal(str(error), 1) from error
    if count:
        voice.info(f"Repaired: {count} file{'' if count == 1 else 's'}")


class _Changer:
    """Carries out what the options ask for, in their order, what is for ALL at the end."""

    def __init__(self, queue: RunningQueue | DirectQueue, queues: Sequence[str], voice: Voice) -> None:
        self._queue = queue
        self._queues = queues
        self._voice = voice
        self._counts: dict[str, int] = {}

    def carry_out(self, options: Sequence[tuple[str, str]]) -> None:
        for letter, _ in options:
            for action in _ACTIONS[letter]:
                self._counts.setdefault(action, 0)
        singles = [(letter, value) for letter, value in options if value != "ALL"]
        for letter, pairs in groupby(_ids(singles), key=lambda pair: pair[0]):
            self._by_id(letter, (value for _, value in pairs))
        for letter, value in options:
            if value == "ALL":
                for action in _ACTIONS[letter]:
                    count, _ = self._queue.change(action, None, self._where(action))
                    self._counts[action] += count
        for action, (_, word) in _WORDS.items():
            if action in self._counts:
                count = self._counts[action]
                self._voice.info(f"{word}: {count} message{'' if count == 1 else 's'}")

    def _by_id(self, letter: str, values: Iterable[str]) -> None:
        some: list[str] = []
        for value in values:
            if valid(value):
                some.append(value)
            else:
                self._change(letter, some)
                some = []
                self._voice.warning(f"invalid mail queue id: {value}")
            if len(some) >= _AT_ONCE:
                self._change(letter, some)
                some = []
        self._change(letter, some)

    def _change(self, letter: str, ids: list[str]) -> None:
        if not ids:
            return
        for action in _ACTIONS[letter]:
            count, changed = self._queue.change(action, list(dict.fromkeys(ids)), self._where(action))
            self._counts[action] += count
            done = set(changed)
            for id in ids:
                if id in done:
                    done.discard(id)
                    self._voice.info(f"{id}: {_WORDS[action][0]}")

    def _where(self, action: str) -> list[str]:
        usual = _QUEUES.get(action, _EVERYWHERE)
        return [queue for queue in usual if not self._queues or queue in self._queues]


def _ids(options: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Options with "-" replaced by what stands on standard input."""
    for letter, value in options:
        if value != "-":
            yield letter, value
            continue
        for line in sys.stdin:
            yield letter, line.rstrip("\r\n")
