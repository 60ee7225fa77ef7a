"""What was faxed already, for the case that the queue does not know it: a gateway that dies after a fax was handed
over, and before the queue's own copy went, finds the message again; by then the fax may have arrived and its record be
gone.

A line for each fax, in the file ``sent`` of the register's folder: when, and a digest of what makes it the same one.
They are kept as long as a message may stay in the queue.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

FILE = "sent"

InThread = Callable[..., Awaitable[Any]]


def digest(arrival: float, message_id: str, address: str, line: str) -> str:
    """Of one fax; the same under whatever queue ID the message is tried again.  ``line``: Number.line."""
    text = "\0".join((repr(arrival), message_id, address, line))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Sent:
    """``folder``: the register's.  ``kept``: for how many seconds a line is of use."""

    def __init__(self, folder: Path, kept: float, in_thread: InThread) -> None:
        self._path = folder / FILE
        self._kept = kept
        self._in_thread = in_thread
        self._known: dict[str, float] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._known

    async def load(self, now: float) -> None:
        """Raises OSError."""
        read: dict[str, float] = await self._in_thread(read_and_prune, self._path, now - self._kept)
        self._known = {**read, **self._known}

    async def add(self, digest: str, now: float) -> None:
        """On disk when this returns.  Raises OSError."""
        for old in [one for one, moment in self._known.items() if moment < now - self._kept]:
            del self._known[old]
        self._known[digest] = now
        await self._in_thread(append, self._path, f"{now:.0f} {digest}\n")


def read_and_prune(path: Path, before: float) -> dict[str, float]:
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        moment, _, digest = line.partition(" ")
        if moment.isdigit() and digest and float(moment) >= before:
            found[digest] = float(moment)
    if len(found) < len(lines):
        new = path.with_name(f"{FILE}.new")
        new.write_text("".join(f"{moment:.0f} {digest}\n" for digest, moment in found.items()))
        os.replace(new, path)
    return found


def append(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, line.encode("ascii"))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
