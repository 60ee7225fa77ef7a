"""A file of logins, made by `mailgateway passwd`: one a line, NAME:{SCHEME}DATA; smtpd_sasl_type = file.

SCRAM-SHA-256 has keys that a password can be checked against, but not found out from ("ROUNDS,SALT,STORED,SERVER", as
Dovecot has them); PLAIN has the password itself, which CRAM-MD5 needs.  Lines that begin with "#" are comments.  The
file is read again when it has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.smtpd.sasl_scram import Keys

SCRAM, PLAIN = "SCRAM-SHA-256", "PLAIN"
LOOK_EVERY = 1.0

_LINE = re.compile(r"([^:\x00-\x1f\x7f]{1,255}):\{([A-Z0-9-]+)\}(.*)\Z")


class PasswordsError(Exception):
    """The file cannot be used; one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    keys: Keys | None = None
    plain: str | None = None

    def check(self, password: str) -> bool:
        """Takes its time: not for the reactor."""
        if self.keys is None:
            return Keys.of(self.plain or "").check(password) and bool(self.plain)
        return self.keys.check(password)


def parse(lines: Iterable[str], name: str) -> dict[str, Entry]:
    """Raises PasswordsError."""
    found: dict[str, Entry] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\n")
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        try:
            if match is None:
                raise ValueError("no NAME:{SCHEME}DATA")
            user, scheme, data = match.groups()
            found[user] = _entry(scheme, data)
        except ValueError as problem:
            raise PasswordsError(f"{name}, line {number}: {problem}") from None
    return found


def _entry(scheme: str, data: str) -> Entry:
    if scheme == SCRAM:
        return Entry(keys=Keys.parse(data))
    if scheme == PLAIN and data:
        return Entry(plain=data)
    raise ValueError(f"unknown scheme {scheme}" if scheme != PLAIN else "empty password")


def line_for(user: str, password: str, *, plain: bool = False) -> str:
    """The file's line of a login.  Raises ValueError for what cannot stand in it."""
    line = f"{user}:{{{PLAIN}}}{password}" if plain else f"{user}:{{{SCRAM}}}{Keys.of(password)}"
    if not _LINE.match(line) or user.startswith("#") or user != user.strip():
        raise ValueError(f"bad user name: {user!r}")
    if not password or re.search(r"[\x00-\x1f\x7f]", password):
        raise ValueError("the password is empty or has control characters")
    return line


@dataclass(slots=True)
class PasswordFile:
    path: Path
    seconds: Callable[[], float]
    _entries: Mapping[str, Entry] = field(default_factory=dict)
    _state: object = None
    _looked: float | None = None

    def entries(self) -> Mapping[str, Entry]:
        """Raises PasswordsError."""
        now = self.seconds()
        if self._looked is None or now - self._looked >= LOOK_EVERY:
            self._look()
            self._looked = now
        return self._entries

    def _look(self) -> None:
        try:
            status = os.stat(self.path)
            state = status.st_mtime_ns, status.st_size, status.st_ino
            if state == self._state:
                return
            with open(self.path, encoding="utf-8") as file:
                self._entries = parse(file, str(self.path))
        except (OSError, UnicodeDecodeError) as problem:
            raise PasswordsError(f"cannot read {self.path}: {problem}") from None
        self._state = state
