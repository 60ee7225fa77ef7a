"""Messages whose large attachments did not go along: whole, a file each, in ``uucp/kept/`` below queue_directory.

A file's name is the key of the tokens in the notes: made of the queue ID with a secret of this queue's, so that nobody
can guess it, and whoever shortens the message (where the rights are) and whoever keeps it come to the same one.  Beside
it ``KEY.json`` says who has got notes, and in what pieces they may have the attachment: nobody else does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from gateway.addresses.forms import unquote
from gateway.interfaces import Content, IContentSource, Request
from transports.uucp.attachments import part

FOLDER, SECRET = "kept", "secret"
TOKEN = re.compile(r"([a-z2-7]{16})\.([1-9][0-9]{0,5})\Z")

InThread = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class Facts:
    """Who has got notes on a message."""

    piece: int
    """Bytes of the largest mail that their links take."""
    sites: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    """Addresses (internal form)."""


class Shelf:
    """``folder``: the register's."""

    def __init__(self, folder: Path, in_thread: InThread) -> None:
        self._folder = folder
        self._in_thread = in_thread
        self._new: set[str] = set()

    async def keep(self, request: Request, contents: IContentSource, piece: int) -> None:
        """Durable when this returns.  Raises OSError, SpoolError: then nothing may be left out of the message."""
        addresses = map(unquote, [*request.addresses, *(one.address for one in request.recipients)])
        facts = Facts(piece, [request.nexthop.partition("!")[0]], list(dict.fromkeys(addresses)))
        content = await contents.content(request.entry.id, request.entry.where)
        try:
            if await self._in_thread(write, self._folder, request.entry.id, content, facts):
                self._new.add(request.entry.id)
        finally:
            content.close()

    async def forget(self, request: Request) -> None:
        """It went whole, or not at all.  What was there before, for others of its recipients, stays."""
        if request.entry.id in self._new:
            self._new.discard(request.entry.id)
            await self._in_thread(remove, self._folder, request.entry.id)

    async def clear(self, before: float) -> None:
        """Remove what is older (seconds since the epoch).  Never raises."""
        self._new.clear()
        await self._in_thread(remove_old, self._folder / FOLDER, before)

    async def find(self, token: str) -> tuple[Facts, Message] | None:
        """What a token stands for.  Raises OSError."""
        found: tuple[Facts, Message] | None = await self._in_thread(find, self._folder, token)
        return found


# --- what blocks ------------------------------------------------------------------------------------------------------

_writing = threading.Lock()
"""A message may go to several neighbours at a time."""


def key_of(folder: Path, id: str) -> str:
    """The key of a message that is kept; 80 bits that follow from nothing else.  Raises OSError."""
    with open(folder / SECRET, "rb", opener=_no_link) as file:
        digest = hmac.digest(file.read(64), id.encode(), hashlib.sha256)
    return base64.b32encode(digest)[:16].decode("ascii").lower()


def find(folder: Path, token: str) -> tuple[Facts, Message] | None:
    match = TOKEN.match(token)
    if match is None:
        return None
    try:
        with open(folder / FOLDER / match[1], "rb") as file:
            found = part(file, int(match[2]))
        facts = _facts(folder, match[1])
    except FileNotFoundError:
        return None
    return None if found is None or facts is None else (facts, found)


def write(folder: Path, id: str, content: Content, facts: Facts) -> bool:
    """Whether it was not there before."""
    (folder / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    with _writing:
        if not (folder / SECRET).exists():
            _write(folder / SECRET, os.urandom(64))
        key = key_of(folder, id)
        known = _facts(folder, key)
        if known is None:
            content.seek(0)
            _write(folder / FOLDER / key, content)
        else:
            facts.piece = min(known.piece, facts.piece)
            facts.sites = list(dict.fromkeys([*known.sites, *facts.sites]))
            facts.recipients = list(dict.fromkeys([*known.recipients, *facts.recipients]))
        _write(folder / FOLDER / f"{key}.json", json.dumps(asdict(facts)).encode("ascii"))
    return known is None


def remove(folder: Path, id: str) -> None:
    with suppress(OSError):
        key = key_of(folder, id)
        for name in (key, f"{key}.json"):
            with suppress(OSError):
                os.unlink(folder / FOLDER / name)


def remove_old(folder: Path, before: float) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)


def _facts(folder: Path, key: str) -> Facts | None:
    try:
        return Facts(**json.loads((folder / FOLDER / f"{key}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write(path: Path, content: bytes | Content) -> None:
    """Durable when this returns, and whole whenever it is there."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb", opener=_private) as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file)
        file.flush()
        os.fdatasync(file.fileno())
    os.rename(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
