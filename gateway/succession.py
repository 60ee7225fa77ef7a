"""A new program in this one's place, in the same process: what "mailgateway restart" rests on.

    succeed(Estate(sockets, …), began_in)       the process becomes another run of its own command line (execve)
    estate = inherited()                        what the one before has left; None for the first one

The process ID stays, and so do its children.  What must not be closed meanwhile goes along as open files: listening
sockets, locks, the lines to the roles.  A file without a name says which is which; its number is in the environment
beside our process ID, so that a program that we start can't take it for its own.

twistd shall not go into the background a second time, nor take its own pid file for another gateway's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.python.usage import UsageError

VARIABLE = "MAILGATEWAY_ESTATE"


@dataclass(slots=True)
class Estate:
    """What passes from one to the other."""

    sockets: dict[str, socket.socket]
    locks: list[Any]
    """Open files; the locks on them stay."""
    texts: tuple[str, str]
    """main.cf and master.cf as they were checked."""
    roles: list[dict[str, Any]] = field(default_factory=list)
    """See gateway.master."""
    reload: bool = False
    """Somebody has asked for a reload meanwhile."""


def succeed(estate: Estate, began_in: str) -> None:
    """Does not come back.  ``began_in``: the working directory in which the command line was given.  Raises OSError if
    it can't be done."""
    descriptors = [one.fileno() for one in (*estate.sockets.values(), *estate.locks)]
    record = os.memfd_create("estate")
    with open(record, "w", closefd=False) as file:
        json.dump([[*estate.sockets], descriptors, estate.texts, estate.roles, estate.reload], file)
    os.lseek(record, 0, os.SEEK_SET)
    for one in (*descriptors, record):
        os.set_inheritable(one, True)
    os.chdir(began_in)
    command = [sys.executable, *command_line(sys.orig_argv, sys.argv)]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # or one that comes before the new program is ready for it would kill
    os.execve(sys.executable, command, {**os.environ, VARIABLE: f"{os.getpid()}:{record}"})


def inherited() -> Estate | None:
    """What the program before this one has left, once."""
    told = os.environ.pop(VARIABLE, "")
    process, _, number = told.partition(":")
    if process != str(os.getpid()):
        return None
    with open(int(number)) as file:
        names, descriptors, texts, roles, reload = json.load(file)
    for one in descriptors:
        os.set_inheritable(one, False)
    sockets = {name: socket.socket(fileno=one) for name, one in zip(names, descriptors, strict=False)}
    locks = [os.fdopen(one, "w") for one in descriptors[len(names) :]]
    return Estate(sockets, locks, tuple(texts), roles, reload)


def command_line(whole: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """What follows the interpreter, for the same program to go on in the foreground of its process.  ``whole``:
    sys.orig_argv; ``arguments``: sys.argv."""
    mine = list(arguments[1:])
    head = list(whole[1 : len(whole) - len(mine)])
    return [*head, *_options(mine), *mine]


def _options(arguments: Sequence[str]) -> list[str]:
    """What to tell twistd besides; removes its pid file, which it makes anew."""
    from twisted.scripts._twistd_unix import ServerOptions

    options = ServerOptions()
    try:
        options.parseOptions(list(arguments))
    except (UsageError, SystemExit):
        return []  # started by another program than twistd
    if options["pidfile"]:
        _remove(options["pidfile"])
    if options["nodaemon"] or options["debug"]:
        return []
    found = ["--nodaemon"]
    if options["umask"] is None:
        found.append("--umask=077")
    if not options["logfile"] and not options["syslog"]:
        found.append("--logfile=twistd.log")
    return found


def _remove(path: str) -> None:
    try:
        with open(path) as file:
            if file.read().strip() == str(os.getpid()):
                os.unlink(path)
    except (OSError, ValueError):
        pass
