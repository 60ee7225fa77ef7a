"""Cleanup, the one door into the spool: every message, from wherever, passes here; cleanup(8).

    intake = await cleanup.begin("smtpd", envelope, [b"Received: …", b"\tid %(id)s; …"], options)
    intake.write(block)                      # content with LF line ends, in any blocks
    queue_id = await intake.finish()         # durable now; Rejected if it is not taken

In this order: the envelope is rewritten and expanded (recipients.py), the header block is scanned once and cleaned
(header_scan.py, header_edit.py, missing.py), checks are applied (checks.py), milters are asked (milter/), the spool
makes it durable, and ``notify`` tells the scheduler.  Small messages are worked on in one go in finish(); of a large
one no more than a field of the header stays in memory, all else is passed on to the spool as it comes.

Fails with Rejected only: 5xx for what is wrong with the message, 451 or 452 for what is wrong here (a table that does
not answer, a full disk); then nothing is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gateway.clock import time_of_day
from gateway.config import Settings
from gateway.content.checks import Checks
from gateway.content.intake import Intake, Way
from gateway.content.milter.filters import Filters
from gateway.content.options import DEFAULT, IntakeOptions
from gateway.content.recipients import BlindCopies, EnvelopeRewriter, EnvelopeRules, Rewriting
from gateway.content.rules import ContentRules
from gateway.interfaces import ICleanup, Log
from spool.envelope import Envelope
from spool.interfaces import ISpool


@implementer(ICleanup)
class Cleanup:
    """``notify``: called with the queue ID, the envelope, and its stored form (spool.format), of each message that is
    stored and not on hold."""

    def __init__(
        self,
        settings: Settings,
        spool: ISpool,
        rewriting: Rewriting,
        log: Log,
        clock: IReactorTime,
        *,
        notify: Callable[[str, Envelope, bytes], None],
        checks: Checks | None = None,
        sender_bcc: BlindCopies | None = None,
        recipient_bcc: BlindCopies | None = None,
        filters: Filters | None = None,
    ) -> None:
        self.rules = ContentRules.of(settings)
        rules = EnvelopeRules.of(settings)
        self.ways = {
            True: Way(rewriting, EnvelopeRewriter(rules, rewriting, sender_bcc, recipient_bcc)),
            False: Way(rewriting.without_mappings(), EnvelopeRewriter(rules, rewriting.without_mappings())),
        }
        self.checks = checks
        self.filters = filters
        self.log = log
        self.notify = notify
        self._spool = spool
        self._clock = clock

    def next_turn(self) -> Awaitable[None]:
        turn: Deferred[None] = Deferred()
        self._clock.callLater(0, turn.callback, None)
        return turn

    def new_id(self) -> str:
        return self._spool.new_id()

    async def begin(
        self,
        service: str,
        envelope: Envelope,
        received: Sequence[bytes] = (),
        options: IntakeOptions | None = None,
        id: str = "",
    ) -> Intake:
        if not envelope.arrival:
            envelope.arrival = time_of_day(self._clock)
        return Intake(self, service, self._spool.draft(envelope, id), received, options or DEFAULT)
