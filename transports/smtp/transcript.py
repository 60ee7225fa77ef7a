"""What was said in sessions of the SMTP client, for the postmaster: notify_classes.

    protocol    the server holds a command of ours for a mistake (500 to 509, 555), or what it said is no proper reply
    data        the message could not be read while it was sent

Commands and replies are kept only where somebody is to be told of these, and never what logs us in.  The memory that it
takes is bounded by KEPT lines of LONGEST characters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

from twisted.internet.defer import Deferred

from gateway.config.settings import Settings
from gateway.interfaces import Log
from transports.smtp.replies import Reply, printable

KEPT = 500
LONGEST = 500

PROTOCOL, DATA = "protocol", "data"
_SYNTAX = frozenset((*range(500, 510), 555))
"""Replies by which a server says that it does not understand us."""

Tell = Callable[[AbstractSet[str], str, Sequence[str]], Awaitable[None]]
"""Classes of errors, NAME[ADDRESS]:PORT of the server, and the lines."""


class Transcript:
    __slots__ = ("errors", "lines")

    def __init__(self) -> None:
        self.errors: set[str] = set()
        self.lines: list[str] = []

    def asked(self, command: bytes) -> None:
        self._keep(" Out: ", command)

    def heard(self, reply: Reply) -> None:
        for line in reply.lines:
            self._keep(" In:  ", line)

    def refused(self, reply: Reply) -> None:
        """That reply was not the one we wanted."""
        if reply.code < 400 or reply.code in _SYNTAX:
            self.errors.add(PROTOCOL)

    def broken(self, what: str) -> None:
        """Something came that was no reply, or that nobody had asked for."""
        self.errors.add(PROTOCOL)
        self._keep(" In:  ", what.encode("utf-8", "surrogateescape"))

    def _keep(self, mark: str, line: bytes) -> None:
        if len(self.lines) < KEPT:
            self.lines.append(mark + printable(line.rstrip(b"\r\n"))[:LONGEST])


class Postmaster:
    """``classes``: those that he wants to hear of; ``double_bounce``: the sender of what tells him such things."""

    def __init__(
        self, classes: AbstractSet[str], double_bounce: str, tell: Tell, log: Log, program: str
    ) -> None:
        self._classes = classes
        self._double_bounce = double_bounce
        self._tell, self._log, self._program = tell, log, program

    @classmethod
    def of(cls, settings: Settings, tell: Tell, log: Log, program: str) -> Postmaster | None:
        """None: he wants to hear of nothing that can happen here."""
        classes = {PROTOCOL, DATA}.intersection(settings.words("notify_classes"))
        sender = f"{settings.text('double_bounce_sender')}@{settings.text('myorigin')}"
        return cls(classes, sender.lower(), tell, log, program) if classes else None

    def hear(self, transcript: Transcript, peer: str, sender: str) -> None:
        """A message of ``sender`` has been dealt with; the transcript begins anew."""
        if not transcript.errors.isdisjoint(self._classes) and sender.lower() != self._double_bounce:
            Deferred.fromCoroutine(self._told(self._tell(set(transcript.errors), peer, list(transcript.lines))))
        transcript.errors.clear()
        transcript.lines.clear()

    async def _told(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except Exception as error:
            self._log.warning(self._program, f"cannot notify the postmaster: {type(error).__name__}: {error}")
