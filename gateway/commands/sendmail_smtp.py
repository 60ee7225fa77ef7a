"""sendmail -bs: SMTP on standard input and output.

The SMTP server is the gateway's own, without restrictions: the client is a user of this machine.  What it accepts goes
into the maildrop folder like everything that this user submits, with the Received field of the session on top.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.stdio import StandardIO
from zope.interface import implementer

from gateway.addresses.recipients import Recipients
from gateway.config import Settings
from gateway.content import submission
from gateway.content.submission import Submission
from gateway.dns import DNSResolver
from gateway.interfaces import ICleanup, IIntake, Rejected
from gateway.log import MailLog
from gateway.smtpd.limits import ClientLimits
from gateway.smtpd.server import make_stdio
from gateway.smtpd.service import Collaborators
from gateway.tables.registry import Tables
from spool.envelope import Envelope

IN_MEMORY = 1024 * 1024
BLOCK = 65536

UNRESTRICTED = {
    **{f"smtpd_{place}_restrictions": "" for place in ("client", "helo", "sender", "recipient", "data", "etrn")},
    "smtpd_end_of_data_restrictions": "",
    "smtpd_relay_restrictions": "reject",
    "smtpd_forbid_bare_newline": "no",
    "smtpd_forbid_unauth_pipelining": "no",
}
"""None of the restrictions is asked, so what they name need not be there for this user.  Programs write lines that end
in LF, and all at once: nobody else's mail can be smuggled in here."""


@implementer(IIntake)
class DropIntake:
    """A message on its way into the maildrop folder."""

    full = False

    def __init__(self, queue: Path, envelope: Envelope, received: Sequence[bytes]) -> None:
        self._name = submission.new_name()
        self.id = self._name[:12].upper()
        self.envelope = envelope
        self._queue = queue
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._trouble: OSError | None = None
        self.write(b"".join(line.replace(b"%(id)s", self.id.encode()) + b"\n" for line in received))

    def write(self, block: bytes) -> None:
        try:
            if self._trouble is None:
                self._file.write(block)
        except OSError as error:
            self._trouble = error

    async def drained(self) -> None:
        pass

    async def finish(self) -> str:
        try:
            if self._trouble is not None:
                raise self._trouble
            self._file.seek(0)
            submission.drop(self._queue, self._submission(), self._blocks(), self._name)
        except OSError as error:
            raise Rejected(451, "4.3.0", f"Error: cannot queue the message: {error.strerror}") from None
        finally:
            self._file.close()
        submission.poke(self._queue)
        return self.id

    def abort(self) -> None:
        self._file.close()

    def _submission(self) -> Submission:
        envelope = self.envelope
        return Submission(
            envelope.sender,
            [one.address for one in envelope.recipients],
            notifies=[one.notify for one in envelope.recipients],
            orcpts=[one.orcpt for one in envelope.recipients],
            ret=envelope.ret,
            envid=envelope.envid,
            encoding=envelope.encoding,
            verp=envelope.verp,
            smtputf8=envelope.smtputf8,
        )

    def _blocks(self) -> Iterator[bytes]:
        while block := self._file.read(BLOCK):
            yield block


@implementer(ICleanup)
class DropCleanup:
    def __init__(self, queue: Path) -> None:
        self._queue = queue

    def new_id(self) -> str:
        return ""

    async def begin(
        self, service: str, envelope: Envelope, received: Sequence[bytes] = (), options: Any = None, id: str = ""
    ) -> DropIntake:
        return DropIntake(self._queue, envelope, received)


def serve(settings: Settings) -> int:
    """Until the client says QUIT or hangs up."""
    from twisted.internet import reactor

    queue = Path(settings.text("queue_directory"))
    if not (queue / submission.MAILDROP).is_dir():
        submission.prepare(queue)
    clock: Any = reactor
    # Who runs this can write neither the mail log nor, as the client sees it, standard error.
    log = MailLog(settings.text("syslog_name"), lambda data: None)
    resolver = DNSResolver(clock, settings)
    tables = Tables(clock=clock, log=log)
    collaborators = Collaborators(
        cleanup=DropCleanup(queue),
        addresses=Recipients.from_settings(settings, tables, log=log),
        tables=tables,
        resolver=resolver,
        log=log,
        clock=clock,
        limits=ClientLimits(clock.seconds),
    )

    def finished() -> None:
        try:
            clock.stop()
        except ReactorNotRunning:
            pass

    restrictions = settings.with_overrides(UNRESTRICTED)
    channel = make_stdio(restrictions, collaborators, lambda: clock.callLater(0, finished))
    clock.callWhenRunning(StandardIO, channel)
    clock.run()
    return 0
