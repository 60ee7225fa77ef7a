"""One mail transaction: from MAIL to the end of the message, or to whatever forgets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.smtpd.framer import Chunks
from gateway.smtpd.limits import Room
from gateway.smtpd.parameters import MailParameters
from spool.envelope import Recipient


@dataclass(slots=True)
class Transaction:
    sender: str
    """In external form; "" is the null sender."""
    parameters: MailParameters
    arrival: float
    recipients: list[Recipient] = field(default_factory=list)
    intake: Any = None
    """An IIntake, from DATA or the first BDAT on."""
    command: str = ""
    """MAIL as the filter in front of the queue gets it, if there is one."""
    filtered: Any = None
    """The message on its way through that filter."""
    chunks: Chunks | None = None
    """BDAT has begun."""
    failed: bool = False
    """A BDAT was refused: the rest is thrown away."""
    received: int = 0
    """Bytes of the message so far."""
    room: Room | None = None
    """Where the message is counted while it is received."""

    def take_room(self, room: Room) -> None:
        self.room = room
        room.messages += 1

    def abort(self) -> None:
        """The end, also of one that went well."""
        if self.room is not None:
            self.room.messages -= 1
            self.room = None
        if self.filtered is not None:
            self.filtered.abort()
            self.filtered = None
        if self.intake is not None:
            self.intake.abort()
            self.intake = None
