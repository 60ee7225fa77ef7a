"""Copies of queued messages for other recipients: what local aliases and .forward files make; local(8)."""

from __future__ import annotations

from dataclasses import replace

from zope.interface import implementer

from gateway.content.options import INTERNAL
from gateway.interfaces import ICleanup, IContentSource, IForwarder, Rejected
from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, SpoolError

PROGRAM = "local"
BLOCK = 65536


@implementer(IForwarder)
class Forwarder:
    """Queues copies through cleanup."""

    def __init__(self, cleanup: ICleanup, contents: IContentSource) -> None:
        self._cleanup = cleanup
        self._contents = contents

    async def forward(self, entry: Entry, prepend: bytes, sender: str, recipients: list[Recipient]) -> str:
        """See IForwarder.  The copy keeps what belongs to the message (client, encoding, DSN options), and is not
        inspected again."""
        old = entry.envelope
        envelope = Envelope(
            sender, recipients, client=replace(old.client), full_name=old.full_name, encoding=old.encoding,
            eight_bit=old.eight_bit, smtputf8=old.smtputf8, envid=old.envid, ret=old.ret, verp=old.verp,
        )
        content = await self._contents.content(entry.id)
        intake = None
        try:
            intake = await self._cleanup.begin(PROGRAM, envelope, prepend.splitlines(), INTERNAL)
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
