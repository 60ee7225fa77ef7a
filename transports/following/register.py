"""Jobs that have left our queue and wait in another program's: a file each in a folder of the medium's below
queue_directory, so that a restart forgets none.

A file holds a line of JSON and as much of the message as a notice returns (all of it up to bounce_size_limit, else its
header).  It is durable before the queue's own copy goes.  A job that carries several messages has a record for each.
What is known is in memory as well.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spool.envelope import Envelope, Recipient

InThread = Callable[..., Awaitable[Any]]

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")
_KEY = re.compile(r"[A-Za-z0-9_.:-]+\.job\Z")


@dataclass(slots=True)
class Record:
    service: str
    peer: str
    """Whom it waits for: a neighbour's name, a fax number."""
    job: str
    mark: str
    """What the other program's books know it by, beside the job's ID."""
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
    name: str = ""
    """What its file is called by, if its job is not known from the beginning."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the medium wants to remember of it."""

    @property
    def key(self) -> str:
        return _UNSAFE.sub("_", f"{self.service}:{self.name or self.job}:{self.id}") + ".job"

    def envelope(self) -> Envelope:
        return Envelope(
            self.sender, [Recipient(**one) for one in self.recipients], arrival=self.arrival, envid=self.envid,
            ret=self.ret, smtputf8=self.smtputf8, size=self.size, message_id=self.message_id, warned=self.warned,
        )

    def listed(self, queue_name: str, peers: str = "", state: str = "") -> dict[str, Any]:
        """As postqueue -j has it.  ``peers``: what those are called that jobs wait for."""
        whom = f"{peers} {self.peer}".strip()
        reason = f"waits for {whom} since {moment_of(self.queued)}, job {self.job}"
        return {
            "queue_name": queue_name, "queue_id": self.id, "arrival_time": int(self.arrival),
            "message_size": self.size, "forced_expire": False, "sender": self.sender or "MAILER-DAEMON",
            "recipients": [
                {"address": one["address"], "delay_reason": f"{reason}: {state}" if state else reason}
                for one in self.recipients
            ],
        }

    @classmethod
    def of(
        cls, service: str, peer: str, job: str, mark: str, id: str, queued: float, envelope: Envelope,
        recipients: list[Recipient],
    ) -> Record:
        return cls(
            service, peer, job, mark, id, queued, envelope.arrival, envelope.size, envelope.sender,
            [asdict(one) for one in recipients], envelope.envid, envelope.ret, envelope.smtputf8, envelope.message_id,
        )


def moment_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class Register:
    """``folder``: for all services of the medium.  ``in_thread(function, *arguments)``: runs what blocks elsewhere, and
    changes nothing of what is in memory."""

    def __init__(self, folder: Path, in_thread: InThread) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.inherited: dict[str, list[Record]] = {}
        """By queue ID: what somebody before us had registered, whatever has become of it since."""
        self._in_thread = in_thread

    async def load(self) -> list[str]:
        """Read what is there and not known yet; what could not be read, for the log.  Raises OSError."""
        return self._know(await self._in_thread(read_new, self.folder, frozenset(self.records)))

    def load_now(self) -> list[str]:
        """The same for whoever has no threads, and time."""
        return self._know(read_new(self.folder, frozenset(self.records)))

    def _know(self, read: tuple[list[Record], list[str]]) -> list[str]:
        for record in read[0]:
            if record.key not in self.records:
                self.records[record.key] = record
                self.inherited.setdefault(record.id, []).append(record)
        return read[1]

    async def add(self, record: Record, content: bytes) -> None:
        """Durable when this returns.  Raises OSError."""
        await self._in_thread(write, self.folder, record, content)
        self.records[record.key] = record

    async def change(self, record: Record) -> None:
        """Write down a record that has changed.  Raises OSError."""
        await self._in_thread(rewrite, self.folder, record)

    async def remove(self, record: Record) -> None:
        await self._in_thread(unlink, self.folder, record)
        self.records.pop(record.key, None)

    async def content(self, record: Record) -> bytes:
        """What was kept of the message.  Raises OSError."""
        data: bytes = await self._in_thread(content_of, self.folder, record)
        return data


# --- what blocks: for a thread ------------------------------------------------------------------------------------


def read_new(folder: Path, known: Collection[str]) -> tuple[list[Record], list[str]]:
    records, strange = [], []
    for key, text in _files(folder, known):
        try:
            record = Record(**json.loads(text))
            record.envelope()
        except (ValueError, TypeError) as error:
            strange.append(f"{folder / key}: {error}")
        else:
            records.append(record)
    return records, strange


def write(folder: Path, record: Record, content: bytes) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    temporary = folder / f"{record.key}.new"
    with open(temporary, "wb", opener=_private) as file:
        file.write(json.dumps(asdict(record)).encode("ascii") + b"\n" + content)
        file.flush()
        os.fdatasync(file.fileno())
    os.rename(temporary, folder / record.key)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rewrite(folder: Path, record: Record) -> None:
    write(folder, record, content_of(folder, record))


def unlink(folder: Path, record: Record) -> None:
    try:
        os.unlink(folder / record.key)
    except FileNotFoundError:
        pass


def content_of(folder: Path, record: Record) -> bytes:
    return (folder / record.key).read_bytes().partition(b"\n")[2]


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
