"""Address verification: probes that are delivered up to the point where mail would be taken, and what came of them.

    verifier = Verifier(settings, cleanup, store, log, clock)
    status, text = await verifier.query("joe@b.example")      # "ok", "deferred", "bounced", or "waiting" for a probe
    verifier.report(envelope, states)                         # of each message that only asks

A probe is an empty message from address_verify_sender with ``trace = "verify"``.  Results count for
address_verify_positive_expire_time or …negative…, and are asked for anew after …refresh_time, while the old ones go on
to count; a failed probe does not undo a good result.  The store is a mapping that outlives us (verification_store.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gateway.addresses.probe_sender import ProbeSender
from gateway.clock import time_of_day
from gateway.config import Settings
from gateway.content.options import INTERNAL
from gateway.content.received import local_received
from gateway.interfaces import DELIVERABLE, EXPANDED, ICleanup, Log
from gateway.policy.verification import BOUNCED, DEFERRED, OK, WAITING
from spool.envelope import Envelope, Recipient
from spool.interfaces import RecipientState

PROGRAM = "verify"
PROBE_LIFE = 1000.0
"""Seconds in which no second probe is sent to an address."""
LONGEST_TEXT = 500
SLICE = 500
IN_PROGRESS = "Address verification in progress"


@dataclass(slots=True)
class Known:
    """What is on record of an address; ``probed`` and ``updated`` are seconds since the epoch, 0 = never."""

    status: str = WAITING
    probed: float = 0.0
    updated: float = 0.0
    text: str = IN_PROGRESS

    def encode(self) -> bytes:
        return json.dumps([self.status, int(self.probed), int(self.updated), self.text]).encode()

    @classmethod
    def decode(cls, data: bytes) -> Known:
        try:
            status, probed, updated, text = json.loads(data)
            return cls(str(status), float(probed), float(updated), str(text))
        except (ValueError, TypeError):
            return cls()


class Verifier:
    def __init__(
        self, settings: Settings, cleanup: ICleanup, store: MutableMapping[bytes, bytes], log: Log, clock: IReactorTime
    ) -> None:
        seconds = settings.seconds
        self._cleanup = cleanup
        self._store = store
        self._log = log
        self._clock = clock
        self._host, self._mail_name = settings.text("myhostname"), settings.text("mail_name")
        self._sender = ProbeSender(settings)
        self._good = (
            seconds("address_verify_positive_expire_time"), seconds("address_verify_positive_refresh_time")
        )
        self._bad = seconds("address_verify_negative_expire_time"), seconds("address_verify_negative_refresh_time")
        self._keeps_bad = settings.flag("address_verify_negative_cache")
        self._most = settings.number("address_verify_pending_request_limit")
        self._interval = seconds("address_verify_cache_cleanup_interval")
        self._pending: set[str] = set()
        self._cleaning: Any = None

    def start(self) -> None:
        if self._interval > 0:
            self._cleaning = self._clock.callLater(self._interval, self._clean)

    def stop(self) -> None:
        if self._cleaning is not None and self._cleaning.active():
            self._cleaning.cancel()
        self._cleaning = None

    # --- questions -----------------------------------------------------------------------------------------------

    async def query(self, address: str) -> tuple[str, str]:
        key, now = _key(address), time_of_day(self._clock)
        known = Known.decode(self._store.get(key, b""))
        if self._expired(known, now):
            known = Known()
        if known.status not in (OK, WAITING) and not self._keeps_bad:
            # Told once, and asked anew the next time.
            self._store.pop(key, None)
            return known.status, known.text
        if now - known.probed > PROBE_LIFE and self._wants_probe(known, now) and len(self._pending) < self._most:
            known.probed = now
            self._store[key] = known.encode()
            self._pending.add(address)
            Deferred.fromCoroutine(self._probe(address))
        return known.status, known.text

    def _expired(self, known: Known, now: float) -> bool:
        return known.updated > 0 and now - known.updated > (self._good if known.status == OK else self._bad)[0]

    def _wants_probe(self, known: Known, now: float) -> bool:
        return now - known.updated > (self._good if known.status == OK else self._bad)[1] or known.status == WAITING

    async def _probe(self, address: str) -> None:
        now = time_of_day(self._clock)
        envelope = Envelope(self._sender.current(now), [Recipient(address)], trace="verify")
        try:
            received = local_received(self._host, self._mail_name, now)
            intake = await self._cleanup.begin(PROGRAM, envelope, received, INTERNAL)
            intake.write(b"Subject: Mail Delivery Status Report\n\n")
            await intake.finish()
        except Exception as problem:
            self._pending.discard(address)
            self._log.warning(PROGRAM, f"probe of {address} cannot be sent: {problem}")

    # --- answers -------------------------------------------------------------------------------------------------

    def is_probe(self, envelope: Envelope) -> bool:
        """Whether a message that only asks is one of ours: about one address and what that stands for.  A user's
        (sendmail -bv) may be about others, too, and these say nothing of it."""
        asked = {one.original or one.address for one in envelope.recipients}
        return len(asked) == 1 and not self._pending.isdisjoint(asked)

    def report(self, envelope: Envelope, states: Sequence[RecipientState]) -> bool:
        """What came of a message that only asks.  False: it is none of ours."""
        if not states or not self.is_probe(envelope):
            return False
        address = _asked(envelope)
        self._pending.discard(address)
        self._record(address, *_result(states))
        return True

    def _record(self, address: str, status: str, text: str) -> None:
        key, now = _key(address), time_of_day(self._clock)
        known = Known.decode(self._store.get(key, b""))
        if status != OK and known.status == OK and not self._expired(known, now):
            return
        self._store[key] = Known(status, 0.0, now, text[:LONGEST_TEXT]).encode()

    # --- what counts no more ---------------------------------------------------------------------------------------

    def _clean(self) -> None:
        self._sweep(iter(list(self._store)), 0, 0)

    def _sweep(self, keys: Iterator[bytes], kept: int, dropped: int) -> None:
        now = time_of_day(self._clock)
        for _ in range(SLICE):
            key = next(keys, None)
            if key is None:
                counts = f"retained={kept} dropped={dropped} entries"
                self._log.info(PROGRAM, f"cache full cleanup: {counts}")
                self._cleaning = self._clock.callLater(self._interval, self._clean)
                return
            known = Known.decode(self._store.get(key, b""))
            lost = known.updated == 0 and now - known.probed > PROBE_LIFE
            if lost or self._expired(known, now):
                self._store.pop(key, None)
                dropped += 1
            else:
                kept += 1
        self._cleaning = self._clock.callLater(0, self._sweep, keys, kept, dropped)


def _asked(envelope: Envelope) -> str:
    return envelope.recipients[0].original or envelope.recipients[0].address


def _key(address: str) -> bytes:
    return address.lower().encode("utf-8", "surrogateescape")[:500]


def _result(states: Sequence[RecipientState]) -> tuple[str, str]:
    """Good if any of the addresses that it stands for is."""
    for state in states:
        if state.status in (DELIVERABLE, EXPANDED):
            return OK, state.reason
    state = states[0]
    return (DEFERRED if state.dsn.startswith("4") else BOUNCED), state.reason
