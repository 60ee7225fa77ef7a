"""Copies of queued messages that go through cleanup again: for other recipients, or requeued.

local(8) forwards what aliases and .forward files say; postsuper(1) -r has a message rewritten and routed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zope.interface import implementer

from gateway.content.options import DEFAULT, INTERNAL, IntakeOptions
from gateway.interfaces import ICleanup, IContentSource, IForwarder, Rejected
from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, SpoolError

BLOCK = 65536


@implementer(IForwarder)
class Forwarder:
    """Queues copies through cleanup."""

    def __init__(self, cleanup: ICleanup, contents: IContentSource) -> None:
        self._cleanup = cleanup
        self._contents = contents

    async def forward(self, entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> str:
        """See IForwarder.  The copy is not inspected again.  What BODY= said of the first message is not said of it:
        its header tells."""
        envelope = _heir(entry.envelope, sender, recipients)
        return await self._copy(entry, "local", prepend.splitlines(), envelope, INTERNAL)

    async def requeue(self, entry: Entry, received: Sequence[bytes]) -> str:
        """Queue the message anew for the recipients that are left, as if it had just come in; the old entry is the
        caller's to finish.  Raises SpoolError."""
        old = entry.envelope
        left = [one for one, state in zip(old.recipients, entry.states, strict=True) if not state.done]
        envelope = _heir(old, old.sender, left)
        envelope.arrival, envelope.content_filter, envelope.expanded = old.arrival, old.content_filter, old.expanded
        envelope.encoding = old.encoding
        return await self._copy(entry, "pickup", received, envelope, DEFAULT)

    async def _copy(
        self, entry: Entry, service: str, received: Sequence[bytes], envelope: Envelope, options: IntakeOptions
    ) -> str:
        content = await self._contents.content(entry.id)
        intake = None
        try:
            intake = await self._cleanup.begin(service, envelope, received, options)
            while block := content.read(BLOCK):
                intake.write(block)
                if intake.full:
                    await intake.drained()
            queue_id: str = await intake.finish()
            return queue_id
        except Rejected as error:
            raise SpoolError(str(error)) from error
        except BaseException:
            if intake is not None:
                intake.abort()
            raise
        finally:
            content.close()


def _heir(old: Envelope, sender: str, recipients: list[Recipient]) -> Envelope:
    """An envelope with what belongs to the message itself: client, DSN options."""
    return Envelope(
        sender, recipients, client=replace(old.client), full_name=old.full_name,
        eight_bit=old.eight_bit, smtputf8=old.smtputf8, envid=old.envid, ret=old.ret, verp=old.verp,
    )
