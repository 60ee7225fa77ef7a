"""Jobs that have left our queue and wait in UUCP's: a file each in ``uucp/`` below queue_directory, so that a restart
forgets none.

A file holds a line of JSON and as much of the message as a notice returns (all of it up to bounce_size_limit, else its
header).  It is durable before the queue's own copy goes.  A job that carries several messages has a record for each.
Methods block: they are for a thread; what is known is in memory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spool.envelope import Envelope, Recipient

FOLDER = "uucp"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")
_KEY = re.compile(r"[A-Za-z0-9_.:-]+\.job\Z")


@dataclass(slots=True)
class Record:
    service: str
    site: str
    job: str
    data: str
    """What UUCP's Log calls it."""
    id: str
    """Queue ID."""
    queued: float
    arrival: float
    size: int
    sender: str
    recipients: list[dict[str, Any]] = field(default_factory=list)
    envid: str = ""
    ret: str = ""
    smtputf8: bool = False
    message_id: str = ""
    warned: bool = False
    """The sender knows that it is late."""

    @property
    def key(self) -> str:
        return _UNSAFE.sub("_", f"{self.service}:{self.job}:{self.id}") + ".job"

    def envelope(self) -> Envelope:
        return Envelope(
            self.sender, [Recipient(**one) for one in self.recipients], arrival=self.arrival, envid=self.envid,
            ret=self.ret, smtputf8=self.smtputf8, size=self.size, message_id=self.message_id, warned=self.warned,
        )

    @classmethod
    def of(
        cls, service: str, site: str, job: str, data: str, id: str, queued: float, envelope: Envelope,
        recipients: list[Recipient],
    ) -> Record:
        return cls(
            service, site, job, data, id, queued, envelope.arrival, envelope.size, envelope.sender,
            [asdict(one) for one in recipients], envelope.envid, envelope.ret, envelope.smtputf8, envelope.message_id,
        )


class Register:
    """``queue``: queue_directory."""

    def __init__(self, queue: Path) -> None:
        self.folder = queue / FOLDER
        self.records: dict[str, Record] = {}

    def load(self) -> list[str]:
        """Read what is there and not known yet; what could not be read, for the log.  Raises OSError."""
        strange: list[str] = []
        for key, text in _files(self.folder, self.records):
            try:
                record = Record(**json.loads(text))
                record.envelope()
            except (ValueError, TypeError) as error:
                strange.append(f"{self.folder / key}: {error}")
                continue
            self.records[key] = record
        return strange

    def add(self, record: Record, content: bytes) -> None:
        """Durable when this returns.  Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._write(record, content)
        self.records[record.key] = record

    def change(self, record: Record) -> None:
        """Write down a record that has changed.  Raises OSError."""
        self._write(record, self.content(record))

    def remove(self, record: Record) -> None:
        self.records.pop(record.key, None)
        try:
            os.unlink(self.folder / record.key)
        except FileNotFoundError:
            pass

    def content(self, record: Record) -> bytes:
        """What was kept of the message.  Raises OSError."""
        return (self.folder / record.key).read_bytes().partition(b"\n")[2]

    def _write(self, record: Record, content: bytes) -> None:
        temporary = self.folder / f"{record.key}.new"
        with open(temporary, "wb", opener=_private) as file:
            file.write(json.dumps(asdict(record)).encode("ascii") + b"\n" + content)
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(temporary, self.folder / record.key)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _files(folder: Path, known: Collection[str]) -> Iterator[tuple[str, bytes]]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if name not in known and _KEY.match(name):
            with open(folder / name, "rb") as file:
                yield name, file.readline()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
