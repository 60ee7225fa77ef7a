"""What the queue commands share: the way to the queue, and the way to speak.

The way goes through the gateway when it runs (gateway.control), for it knows what is being delivered; else straight to
the spool, for those who may read it.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.config import Settings
from gateway.control import Control, Down, listed_object
from gateway.log import MailLog, file_writer
from spool.changes import change
from spool.names import INCOMING
from spool.store import QUEUES, Store

MEDIA = ("uucp", "fax")
"""Folders of the queue with records of jobs (transports.following.register)."""
AT_ONCE = 500
"""IDs in one request."""


class Voice:
    """Says things on standard error as Postfix's commands do, and in the mail log if there is one."""

    def __init__(self, program: str, settings: Settings | None = None) -> None:
        self.program = program
        self._log: MailLog | None = None
        path = settings.text("maillog_file") if settings is not None else ""
        if settings is not None and path and os.access(path, os.W_OK):
            try:
                write = file_writer(path)
            except OSError:
                return
            as_json = settings.text("log_format") == "json" if settings.is_set("log_format") else False
            self._log = MailLog(settings.text("syslog_name"), write, host=settings.text("myhostname"), as_json=as_json)

    def info(self, text: str) -> None:
        self._say(text)
        if self._log is not None:
            self._log.info(self.program, text)

    def warning(self, text: str) -> None:
        self._say(f"warning: {text}")
        if self._log is not None:
            self._log.warning(self.program, text)

    def fatal(self, text: str) -> None:
        self._say(f"fatal: {text}")
        if self._log is not None:
            self._log.fatal(self.program, text)

    def _say(self, text: str) -> None:
        print(f"{self.program}: {text}".encode(errors="replace").decode(), file=sys.stderr, flush=True)


class Fatal(Exception):
    """Ends a command with one line."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class DirectQueue:
    """The spool itself, while no gateway runs."""

    def __init__(self, settings: Settings, voice: Voice) -> None:
        self._voice = voice
        self.store = Store(settings.text("queue_directory"), report=voice.warning)

    def listing(self) -> Iterator[dict[str, Any]]:
        if not os.path.isdir(f"{self.store.directory}/{INCOMING}"):
            return
        for some in self.store.listing():
            for one in some:
                yield listed_object(one)
        yield from self._jobs()

    def _jobs(self) -> Iterator[dict[str, Any]]:
        """What has been handed on and waits elsewhere."""
        from transports.following.register import read_new  # only here: loads Twisted

        for medium in MEDIA:
            records, _ = read_new(Path(self.store.directory) / medium, ())
            for record in sorted(records, key=lambda record: record.queued):
                yield record.listed(medium)

    def change(self, action: str, ids: Sequence[str] | None, queues: Sequence[str]) -> tuple[int, list[str]]:
        """How many messages were changed, and which of those that were asked for by ID."""
        folders = [folder for folder in QUEUES if folder in queues]
        changed = change(self.store, action, ids, folders)
        if changed.error is not None:
            raise changed.error
        if action == "delete":
            wait = [job["queue_id"] for job in self._jobs() if ids is None or job["queue_id"] in ids]
            if wait:
                self._voice.warning(f"{len(wait)} messages wait elsewhere: only a running gateway takes them back")
        return changed.count, list(changed.places)


class RunningQueue:
    """The queue of a gateway that runs."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def listing(self) -> Iterator[dict[str, Any]]:
        return self._control.items("list")

    def change(self, action: str, ids: Sequence[str] | None, queues: Sequence[str]) -> tuple[int, list[str]]:
        if ids is None:
            return self._control.call(action, ids=None, queues=list(queues))["count"], []
        count: int = 0
        changed: list[str] = []
        for start in range(0, len(ids), AT_ONCE):
            some = self._control.call(action, ids=list(ids[start : start + AT_ONCE]), queues=list(queues))
            count += some["count"]
            changed += some["ids"]
        return count, changed


def owns_spool(settings: Settings) -> bool:
    """Whether this user may deal with the spool's files: root, and the mail owner."""
    if os.geteuid() == 0:
        return True
    try:
        return os.stat(f"{settings.text('queue_directory')}/{INCOMING}").st_uid == os.geteuid()
    except OSError:
        return False


def user_text() -> str:
    """Who runs the command, as in "User joe(2001) is not allowed …"."""
    uid = os.getuid()
    try:
        return f"{pwd.getpwuid(uid).pw_name}({uid})"
    except KeyError:
        return f"unknown({uid})"


__all__ = ["AT_ONCE", "DirectQueue", "Down", "Fatal", "RunningQueue", "Voice", "owns_spool", "user_text"]
