"""Stores a message in an mbox or a Maildir, with the rights of its owner; see transports.mailbox for how.

``Store.keep`` answers where the message begins in the mailbox once it is on disk, or a Failure with the enhanced status
code and the text; a failure whose code begins with 4 may go away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.config import Settings
from transports.process import Command, Ending, Identity, Runner

NOT_OWNED = "is not owned by recipient"
_TIME_FOR_WRITING = 600.0


@dataclass(slots=True, frozen=True)
class Box:
    """A mailbox.  A path that ends with "/" is a Maildir."""

    path: str
    identity: Identity
    """Whose rights are used to open it."""
    limit: int = 0
    """mbox: bytes of the file; Maildir: of a message; 0 = no limit."""
    lenient: bool = False
    """mbox: go on without a dot lock that may not be made; and take what is no regular file."""
    unusable: str = "5.2.0"
    """mbox: the code for one that cannot be opened as it is."""
    owner: int | None = None
    """mbox: the uid that it must have; None = any."""
    user: tuple[int, int] | None = None
    """mbox, opened as root: who owns a new file, and writes it."""

    @property
    def is_maildir(self) -> bool:
        return self.path.endswith("/")


@dataclass(slots=True, frozen=True)
class Failure:
    dsn: str
    text: str

    @property
    def hint(self) -> str:
        """For the postmaster; "" = none."""
        if self.text.endswith(NOT_OWNED):
            return 'specify "strict_mailbox_ownership = no" to ignore mailbox ownership mismatch'
        return ""


@dataclass(slots=True, frozen=True)
class Locking:
    """How mboxes are locked; postconf(5) mailbox_delivery_lock and its like."""

    styles: tuple[str, ...] = ("fcntl", "dotlock")
    attempts: int = 20
    delay: float = 1.0
    stale: float = 500.0

    @classmethod
    def of(cls, settings: Settings, parameter: str) -> Locking:
        """``parameter``: the name of the list of styles.  Raises ConfigError for a style that is none."""
        styles = tuple(settings.words(parameter))
        for style in styles:
            if style not in ("fcntl", "flock", "dotlock"):
                raise settings.error(parameter, f"{parameter}: there is no lock style {style}", "fcntl, flock, dotlock")
        return cls(
            styles,
            settings.number("deliver_lock_attempts"),
            settings.seconds("deliver_lock_delay"),
            settings.seconds("stale_lock_time"),
        )


class Store:
    def __init__(self, runner: Runner, locking: Locking) -> None:
        self._runner = runner
        self._locking = locking

    async def keep(self, box: Box, blocks: Iterator[bytes]) -> int | Failure:
        """``blocks``: the message in its stored form.  In a Maildir every message begins at 0."""
        spec: dict[str, Any] = {"path": box.path, "limit": box.limit}
        if not box.is_maildir:
            spec |= {
                "locks": self._locking.styles, "attempts": self._locking.attempts, "delay": self._locking.delay,
                "stale": self._locking.stale, "devices": box.lenient, "lenient": box.lenient, "owner": box.owner,
                "user": box.user, "unusable": box.unusable,
            }
        outcome = await self._runner.run(
            Command(
                [], box.identity, stdin=blocks, task="maildir" if box.is_maildir else "mbox", spec=spec,
                time_limit=self._locking.attempts * self._locking.delay + _TIME_FOR_WRITING,
            )
        )
        if outcome.ending is Ending.EXITED:
            answer = outcome.answer
            return Failure(answer["dsn"], answer["text"]) if "dsn" in answer else int(answer["at"])
        return Failure("4.3.0", outcome.text or "writing was cut short")
