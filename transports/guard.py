"""What stands between the mail and a program with holes of its own.

pipe(8) hands addresses and messages over as they are; some programs take parts of them for orders.  A guard knows one
such program: it refuses recipients and whole deliveries, mends arguments, filters the very bytes that the program
gets, reads its exit status with more knowledge than sysexits, and makes sure that what it took is safe.  This base
guards nothing; transports.uucp and transports.fax are the others, transports.programs chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.interfaces import BOUNCED
from transports.process import Outcome
from transports.verdict import Verdict


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why something never reaches the program."""

    dsn: str
    reason: str
    status: str = BOUNCED

    def verdict(self) -> Verdict:
        return Verdict(self.status, self.dsn, self.reason)


class Guard:
    """No program in particular."""

    def refuse_delivery(self, sender: str, nexthop: str) -> Refusal | None:
        """Sender (internal form) and next hop as the program would get them."""
        return None

    def refuse_recipient(self, recipient: str) -> Refusal | None:
        """Asked for each recipient, internal form; the others of the delivery go on."""
        return None

    def arguments(self, argv: Sequence[str]) -> list[str] | Refusal:
        """The expanded argument list, mended; or why it must not be run."""
        return list(argv)

    def filter(self, blocks: Iterator[bytes], notes: list[str]) -> Iterator[bytes]:
        """The bytes for the program; ``notes`` takes lines for the log."""
        return blocks

    def judge(self, outcome: Outcome, verdict: Verdict) -> Verdict:
        """A second look at the verdict."""
        return verdict

    async def settle(self) -> None:
        """After success: come back when what the program took is on disk."""
