"""Draws faxes, where the rights are for that: with those of the service's account, which is never the gateway's own.

``deliver`` makes a document for each recipient (those that want the same share one), and keeps it as a draft; the
keeper beside the queue counts its pages, puts it on record, and has it sent (transports.fax.jobs).  A result that is
SENT says "fax_draft" and "fax_pages" in its details; what can never be drawn bounces with the part's name.

Documents are drawn in a folder of the account's.  What is used of them afterwards is a copy that it cannot reach.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import split_domain, unquote
from gateway.clock import time_of_day
from gateway.interfaces import BOUNCED, DEFERRED, SENT, IContentSource, IDescribes, ITransport, Log, Request, Result
from spool.interfaces import Content
from transports import message
from transports.fax.address import Address, BadAddress, parse
from transports.fax.document import Cover, Document, NotNow, Run, Unrenderable, Wish, assemble
from transports.fax.document.charset import decode_words
from transports.fax.jobs import Draft, Jobs
from transports.fax.line import Uncertain
from transports.fax.service import FaxService
from transports.process import Identity

PREFIX = "mailgateway-fax-"
FORGOTTEN = 3600.0
"""Seconds after which a draft that nobody has asked for is dropped."""
LEFT_OVER = 86_400.0
"""Seconds after which the folder of a process that has died is removed."""

_BLANKS = re.compile(r"\s+")


@implementer(ITransport, IDescribes)
class FaxTransport:
    """``run``: transports.process.Runner.run.  ``clock``: IReactorTime."""

    program = "fax"

    def __init__(
        self, service: FaxService, jobs: Jobs, run: Run, contents: IContentSource, log: Log, clock: Any
    ) -> None:
        self._service = service
        self._run = run
        self._contents = contents
        self._log = log
        self._clock = clock
        self._in_thread = jobs.in_thread
        self._cleared = False
        self.jobs = jobs

    async def stop(self) -> None:
        for token in list(self.jobs.drafts):
            await self.jobs.drop(token)

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes."""
        service = self._service
        where = service.url if service.provider == "phaxio" else f"{service.host}:{service.port}"
        lines = []
        for address in request.addresses:
            try:
                for called in parse(split_domain(unquote(address))[0]).numbers:
                    number = service.plan.read(called)
                    lines.append(f"dials {number.dial} ({number.kind}: {number.name}) by {service.provider} at {where}")
            except BadAddress as error:
                lines.append(f"would be refused: {error}")
        return lines

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See the module."""
        await self._clear()
        try:
            await self.jobs.line.ready()
        except (OSError, Uncertain) as error:
            text = f"fax server cannot be reached: {error}"
            away = Result(DEFERRED, "4.4.1", text, self._service.name, destination_down=True)
            return [replace(away, details={}) for _ in request.indexes]
        wishes: list[Wish | str] = []
        content = await self._contents.content(request.entry.id, request.entry.where)
        base = Path(tempfile.mkdtemp(prefix=PREFIX))
        drawn: dict[Wish, Result] = {}
        try:
            header = _header(content)
            for address in request.addresses:
                try:
                    wishes.append(self._wish(parse(split_domain(unquote(address))[0]), request, header))
                except BadAddress as error:
                    wishes.append(str(error))
            base.chmod(0o711)
            mail = base / "mail"
            await self._in_thread(write_mail, content, mail)
            for wish in wishes:
                if isinstance(wish, Wish) and wish not in drawn:
                    drawn[wish] = await self._draw(mail, base / str(len(drawn)), wish)
            return [
                replace(drawn[wish], details=dict(drawn[wish].details)) if isinstance(wish, Wish)
                else Result(BOUNCED, "5.1.3", wish, self._service.name)
                for wish in wishes
            ]
        finally:
            content.close()
            if not any(result.status == SENT for result in drawn.values()):
                await self._in_thread(shutil.rmtree, base, True)

    async def _draw(self, mail: Path, folder: Path, wish: Wish) -> Result:
        name, identity = self._service.name, self._service.identity
        drawing = folder.with_name(f"{folder.name}-drawing")
        try:
            await self._in_thread(make_folder, drawing, identity)
            document = await assemble(mail, drawing, wish, self._run, identity)
            own = await self._in_thread(take, document, folder, identity, wish.max_bytes)
        except Unrenderable as error:
            return Result(BOUNCED, "5.6.1", f"cannot be faxed: {error}", name)
        except NotNow as error:
            self._log.warning(self.program, f"service {name}: {error}")
            return Result(DEFERRED, "4.3.0", f"cannot be drawn now: {error}", name)
        except OSError as error:
            self._log.warning(self.program, f"service {name}: {error}")
            return Result(DEFERRED, "4.3.0", f"cannot be drawn now: {error.strerror}", name)
        finally:
            await self._in_thread(shutil.rmtree, drawing, True)
        token = secrets.token_hex(16)
        self.jobs.drafts[token] = Draft(folder.parent, own, wish.resolution, self._clock.seconds())
        details = {"fax_draft": token, "fax_pages": str(own.pages)}
        return Result(SENT, "2.0.0", f"{own.pages} pages drawn", name, details=details)

    # --- what is wished for --------------------------------------------------------------------------------------

    def _wish(self, address: Address, request: Request, header: Mapping[str, str]) -> Wish:
        """Raises BadAddress."""
        service, wish = self._service, self._service.wish
        sender = request.entry.envelope.sender
        numbers = ", ".join(service.plan.read(called).name for called in address.numbers)
        if address.resolution:
            wish = replace(wish, resolution="normal" if address.resolution == "normal" else "fine")
        if service.header:
            now = time.strftime("%Y-%m-%d %H:%M", time.localtime(time_of_day(self._clock)))
            line = f"{service.host_name}   {sender}   to {numbers}   {now}".replace("$", "")
            wish = replace(wish, header_line=line + "   ${page}/${pages}")
        asked = address.cover if address.cover is not None else service.cover == "yes" or bool(address.texts)
        if not asked or service.cover == "no":
            return wish
        texts = address.texts
        to = [texts[name] for name in texts if name not in ("ATTN", "NOTE") and texts[name]]
        return replace(wish, cover=Cover(
            to=", ".join([*to, numbers]), sender=header.get("from", "") or sender, subject=header.get("subject", ""),
            attn=texts.get("ATTN", ""), date=header.get("date", ""), comments=texts.get("NOTE", ""),
            template=service.template,
        ))

    async def _clear(self) -> None:
        """Away with what nobody wants any more."""
        now = self._clock.seconds()
        for token in [token for token, draft in self.jobs.drafts.items() if draft.made < now - FORGOTTEN]:
            await self.jobs.drop(token)
        if not self._cleared:
            self._cleared = True
            await self._in_thread(remove_left_over, Path(tempfile.gettempdir()), time.time() - LEFT_OVER)


def _header(content: Content) -> dict[str, str]:
    found = {}
    for name in ("from", "subject", "date"):
        values = message.header_values(content, name.encode("ascii"))
        found[name] = _readable(values[0]) if values else ""
    return found


def _readable(value: str) -> str:
    """RFC 2047, for people."""
    text = _BLANKS.sub(" ", decode_words(value)).strip()[:300]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- what blocks: for a thread ------------------------------------------------------------------------------------


def write_mail(content: Content, path: Path) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        for block in message.encode(content, b""):
            file.write(block)


def make_folder(path: Path, identity: Identity) -> None:
    path.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(path, identity.uid, identity.gid)


def take(document: Document, folder: Path, identity: Identity, limit: int) -> Document:
    """Copies in a folder of our own: what the account has may still change under its hands.  Raises OSError."""
    folder.mkdir(0o700)
    pdf, tiff, thumbnail = (
        _copy(path, folder, identity, limit) for path in (document.pdf, document.tiff, document.thumbnail)
    )
    return replace(document, pdf=pdf, tiff=tiff, thumbnail=thumbnail)


def _copy(path: Path, folder: Path, identity: Identity, limit: int) -> Path:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as source:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_uid != identity.uid:
            raise OSError(0, f"{path.name} is not what was drawn")
        if facts.st_size > limit:
            raise OSError(0, f"{path.name} is larger than {limit} bytes")
        with open(folder / path.name, "wb") as copy:
            shutil.copyfileobj(source, copy)
    return folder / path.name


def remove_left_over(parent: Path, before: float) -> None:
    try:
        found = [entry for entry in os.scandir(parent) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in found:
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_mtime < before:
            shutil.rmtree(entry.path, ignore_errors=True)
