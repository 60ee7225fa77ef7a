"""What sends faxes: a fax server, or a provider.  The joint between it and the service.

A line knows each fax by a tag of ours, so that after an interruption it can be asked whether it has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zope.interface import Interface

WAITS, SENDS, DONE, FAILED = "waits", "sends", "done", "failed"


@dataclass(slots=True, frozen=True)
class Fax:
    """One document for one number."""

    tag: str
    """Letters, digits, "-", "_", "."."""
    dial: str
    name: str
    """The number as people know it."""
    subaddress: str
    sender: str
    """Mail address."""
    tiff: Path
    pdf: Path
    pages: int
    lines: int
    """An inch: 196 or 98."""
    priority: str
    when: float
    """Not before; 0 = at once."""


@dataclass(slots=True, frozen=True)
class Job:
    """What a line says of a fax that it has."""

    job: str
    """The line's own name for it."""
    tag: str
    state: str
    pages_sent: int = 0
    pages: int = 0
    calls: int = 0
    reason: str = ""
    """Why it failed, or has not been sent yet."""
    facts: dict[str, str] = field(default_factory=dict)
    """What else is told of it, for people: "signal rate", "duration" …"""


class NotTaken(Exception):
    """The line has not taken a fax, for certain.  ``permanent``: and never will."""

    def __init__(self, text: str, *, permanent: bool) -> None:
        super().__init__(text)
        self.permanent = permanent


class Uncertain(Exception):
    """The line went away; whether it has taken a fax must be asked."""


class IFaxLine(Interface):
    """A way to send faxes.  All methods may raise OSError and Uncertain for a line that is away."""

    def ready() -> Awaitable[None]:
        """Come back if something could be handed over now: asked before a document is drawn for nothing."""

    def submit(fax: Fax) -> Awaitable[str]:
        """Its job.  Raises NotTaken."""

    def look(wanted: Sequence[tuple[str, str]]) -> Awaitable[Sequence[Job]]:
        """What it has of these (job or "", tag)."""

    def kill(job: str) -> Awaitable[bool]:
        """End a job that has not been sent yet; whether that was done, or there is no such job."""


__all__ = ["DONE", "FAILED", "SENDS", "WAITS", "Fax", "IFaxLine", "Job", "NotTaken", "Uncertain"]
