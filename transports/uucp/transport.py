"""Delivery to UUCP neighbours: queues jobs with uux.

A message becomes a job for rmail, with all its recipients for that neighbour; or, where the far command takes batched
SMTP, it shares a job with what comes while another job is being queued, or within batch_wait.  A result is given when
uux has said the job's ID and its spool is on disk: sent, which in a notice is *relayed*.  The job ID and what the Log
calls the data go along in the details, for the keeper.

What UUCP cannot carry (see transports.uucp.guard) is refused for that recipient alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gateway.addresses.forms import quote, unquote
from gateway.clock import time_of_day
from gateway.interfaces import (
    BOUNCED,
    DEFERRED,
    SENT,
    IContentSource,
    IDescribes,
    ITransport,
    Log,
    Recipient,
    Request,
    Result,
)
from spool.interfaces import Content
from transports.guard import Refusal
from transports.macros import expand
from transports.pipe import folded, of_message
from transports.process import Command, Outcome, Runner
from transports.uucp.addressing import Hop
from transports.uucp.attachments import Notes, Reduced, reduce_content
from transports.uucp.bundle import Bundle
from transports.uucp.guard import UuxGuard
from transports.uucp.jobs import Jobs
from transports.uucp.letters import Letter, batch_input, grade_of, input_file, rmail_input
from transports.uucp.limits import too_large
from transports.uucp.service import UucpService
from transports.uucp.shelf import key_of
from transports.verdict import Verdict, judge

SMALL = 1_000_000
"""Bytes of a job's data that are held in memory."""
CALL_AFTER = 3.0
"""Seconds between queueing and a call, in which more may be queued."""

_JOB_LINE = re.compile(rb"^([A-Za-z0-9][A-Za-z0-9._-]*\.[A-Za-z0-9]{8,})[ \t]*$", re.MULTILINE)


@implementer(ITransport, IDescribes)
class UucpTransport:
    """``clock``: IReactorTime.  ``folder``: see transports.uucp.shelf."""

    program = "uucp"

    def __init__(
        self,
        service: UucpService,
        runner: Runner,
        jobs: Jobs,
        contents: IContentSource,
        guard: UuxGuard,
        log: Log,
        clock: Any,
        folder: Path,
    ) -> None:
        self._service = service
        self._folder = folder
        self._runner = runner
        self._contents = contents
        self._guard = guard
        self._log = log
        self._clock = clock
        self.jobs = jobs
        self._bundles: dict[str, Bundle] = {}
        self._calls: dict[str, Any] = {}

    async def stop(self) -> None:
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes: the command line."""
        sender, hop = unquote(request.entry.envelope.sender), Hop.parse(request.nexthop)
        refusal = self._guard.refuse_delivery(sender, request.nexthop)
        words = [] if refusal else [self._form(address, hop) for address in request.addresses]
        for word in words:
            refusal = refusal or (word if isinstance(word, Refusal) else None)
        if refusal is not None:
            return [f"would be refused: {refusal.reason}"]
        letter = Letter(request, sender, [str(word) for word in words], None)  # type: ignore[arg-type]
        argv = self._argv([letter], hop, self._service.grades.plain)
        told = argv.reason if isinstance(argv, Refusal) else shlex.join(argv)
        return [f"runs as {self._service.pipe.user}: {told}"]

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        name, envelope, count = self._service.name, request.entry.envelope, len(request.indexes)
        if envelope.trace == "verify":
            return [Result(SENT, "2.0.0", f"is queued for UUCP neighbour {request.nexthop}", name)] * count
        nexthop = request.nexthop.lower() if "h" in self._service.pipe.flags else request.nexthop
        sender, hop = unquote(envelope.sender), Hop.parse(nexthop)
        if refusal := self._guard.refuse_delivery(sender, nexthop):
            return [refusal.verdict().result(name, sent="", action="")] * count
        if hop.site == self._service.taylor.node:
            text = f"mail system configuration error: {hop.site} is this site's own name in UUCP"
            return [Result(DEFERRED, "4.3.5", text, name)] * count
        words = [
            Refusal("5.4.6", f"mail loops: {hop.site} has sent it here") if _goes_back(request, recipient, hop)
            else self._form(address, hop)
            for address, recipient in zip(request.addresses, request.recipients, strict=True)
        ]
        going = [word for word in words if isinstance(word, str)]
        sent = Result(BOUNCED, "5.3.0", "nobody is left")
        if going:
            sent = await self._send(request, sender, going, hop)
        return [sent if isinstance(word, str) else word.verdict().result(name, sent="", action="") for word in words]

    async def _send(self, request: Request, sender: str, going: list[str], hop: Hop) -> Result:
        """The message, or what is left of it without large attachments."""
        service, size = self._service, request.entry.envelope.size
        content = await self._contents.content(request.entry.id, request.entry.where)
        smaller: Content | None = None
        try:
            if 0 < service.attachments < size:
                smaller = await self.jobs.in_thread(self._reduce, request, content)
                size = smaller.size if smaller is not None else size
                if 0 < service.largest < size:
                    return too_large(hop.site, size, service.largest).verdict().result(service.name, sent="", action="")
            result = await self._queue(Letter(request, sender, going, smaller or content), hop)
            if smaller is not None and result.status == SENT:
                result.details |= {"uucp_size": str(smaller.size)}
                about = f"{request.entry.envelope.size} bytes became {size}"
                self._log.info(self.program, f"{request.entry.id}: large attachments are kept here: {about}")
            return result
        finally:
            content.close()
            if smaller is not None:
                smaller.close()

    def _reduce(self, request: Request, content: Content) -> Reduced | None:
        service = self._service
        notes = Notes(key_of(self._folder, request.entry.id), service.host, service.asking)
        return reduce_content(content, service.attachments, notes, service.text_only)

    def _form(self, address: str, hop: Hop) -> str | Refusal:
        """A recipient as the neighbour gets it."""
        word = folded(unquote(address), self._service.pipe.flags)
        if self._service.bang or hop.path:
            word = hop.bang(word)
        if self._service.batched:  # it is no argument, and no word that uux parts
            return self._guard.refuse_control(word) or quote(unquote(word))
        return self._guard.refuse_recipient(word) or word

    async def _queue(self, letter: Letter, hop: Hop) -> Result:
        if not self._service.batched:
            return await self._job([letter], hop)
        if hop.site not in self._bundles:
            queue = partial(self._job, hop=hop)
            self._bundles[hop.site] = Bundle(queue, self._service.batch_wait, self._service.batch_size, self._clock)
        return await self._bundles[hop.site].add(letter)

    async def _job(self, letters: Sequence[Letter], hop: Hop) -> Result:
        """One run of uux for these letters."""
        service, name = self._service, self._service.name
        argv = self._argv(letters, hop, grade_of(service.grades, letters))
        if isinstance(argv, Refusal):
            return argv.verdict().result(name, sent="", action="")
        if service.batched:
            blocks = batch_input(service, letters)
        else:
            blocks = rmail_input(service, letters[0], time_of_day(self._clock))
        size = sum(letter.content.size for letter in letters)
        outcome = await self._run(argv, blocks, size)
        verdict = self._guard.judge(outcome, judge(outcome, argv[0]))
        if verdict.status == SENT:
            await self._guard.settle()
        found = _JOB_LINE.search(outcome.output)
        job = found[1].decode("ascii") if found else ""
        self._complain(letters, verdict, job)
        told = f"queued as {job}" if job else "queued"
        result = verdict.result(
            name, sent=f"delivered via {name} service ({told})", action="relayed", connected=outcome.started
        )
        if verdict.status == SENT:
            site = job.rpartition(".")[0] or hop.site  # its own name, not an alias
            data = await self.jobs.data_of(site, job) if job else ""
            result.details |= {"uucp_job": job, "uucp_site": site, "uucp_data": data}
            self._call_soon(hop.site)
        return result

    async def _run(self, argv: list[str], blocks: Iterator[bytes], size: int) -> Outcome:
        """uux reads a file, which is whole: if we are killed, it cannot take this for the end of the message."""
        pipe, packing, small = self._service.pipe, self._service.packing, size <= SMALL
        if small and packing == "none":
            file = input_file(blocks, packing, small)
        else:  # it takes a while
            file = await self.jobs.in_thread(input_file, blocks, packing, small)
        with file:
            return await self._runner.run(
                Command(
                    argv, pipe.identity, pipe.environment, pipe.base, pipe.directory, pipe.chroot,
                    time_limit=pipe.time_limit, file=file,
                )
            )

    def _argv(self, letters: Sequence[Letter], hop: Hop, grade: str) -> list[str] | Refusal:
        service = self._service
        sender = letters[0].sender if len(letters) == 1 else ""
        values = of_message(letters[0].request, hop.site, sender or service.pipe.null_sender, service.pipe.flags)
        recipients = [] if service.batched else [f"({word})" for word in letters[0].recipients]
        options = expand(service.options, values, [])
        far = f"{hop.site}!{service.command}"
        return self._guard.arguments(
            [service.pipe.argv[0], *options, "-r", "-j", f"-g{grade}", "-", far, *recipients]
        )

    def _complain(self, letters: Sequence[Letter], verdict: Verdict, job: str) -> None:
        about = letters[0].request.entry.id
        if verdict.warning:
            self._log.warning(self.program, f"{about}: service {self._service.name}: {verdict.warning}")
        if verdict.status == SENT:
            beside = verdict.reason.replace(job, "", 1).strip() if job else verdict.reason or "nothing"
            if beside or not job:
                self._log.warning(self.program, f"{about}: uux has queued the mail, but says: {beside}")

    def _call_soon(self, site: str) -> None:
        if self._service.call != "no" and site not in self._calls:
            self._calls[site] = self._clock.callLater(CALL_AFTER, self._call, site)

    def _call(self, site: str) -> None:
        del self._calls[site]
        Deferred.fromCoroutine(self.jobs.call(site, at_once=self._service.call == "yes")).addErrback(
            lambda failure: self._log.warning(self.program, f"cannot call {site}: {failure.value}")
        )


def _goes_back(request: Request, recipient: Recipient, hop: Hop) -> bool:
    """Whether the neighbour has sent the mail here, for the same recipient: it would send it here again."""
    client = request.entry.envelope.client
    came_from_there = client.protocol == "UUCP" and client.name == hop.site and not hop.path
    return came_from_there and unquote(recipient.original or recipient.address).lower() == \
        unquote(recipient.address).lower()
