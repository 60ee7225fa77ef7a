"""The service ``uucp-retrieve``: whoever has got a note in an attachment's place asks for the attachment by mail.

A request is a mail to the service's address with a token in the address's extension, in the subject, or in its first
lines ("retrieve TOKEN").  The attachment goes to the address that got the note, and to no other: the sender has to be
that one, by its address, or by its name at the neighbour that the mail came from.  What does not fit into one mail of
the link comes in pieces, which put together are the file.

Answers have no sender, and a request without one gets none: nothing goes round.  What cannot be had bounces.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from email.message import EmailMessage, Message
from email.policy import EmailPolicy
from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import quote, split_domain, unquote
from gateway.clock import time_of_day
from gateway.interfaces import BOUNCED, DEFERRED, SENT, IContentSource, ITransport, Log, Rejected, Request, Result
from spool.interfaces import Content, SpoolError
from transports.uucp.attachments import payload
from transports.uucp.shelf import TOKEN, Facts, Shelf

MOST_TOKENS = 10
"""In one request."""
MOST_PIECES = 1000
SMALLEST_PIECE = 2000
_LOOKED_AT = 16384
_HEADER = 1000
"""Bytes of a piece that are not the file's."""

_ASKED = re.compile(rb"\bretrieve[ \t]+([a-z2-7]{16}\.[1-9][0-9]{0,5})\b", re.I)
_POLICY = EmailPolicy(linesep="\n", cte_type="7bit")

Post = Callable[[str, bytes], Awaitable[str]]
"""Queues a mail to an address (external form), without a sender; its queue ID.  Raises SpoolError, Rejected."""


@implementer(ITransport)
class RetrieveTransport:
    program = "uucp-retrieve"

    def __init__(
        self, name: str, shelf: Shelf, contents: IContentSource, post: Post, log: Log, clock: Any, in_thread: Any
    ) -> None:
        self._name = name
        self._shelf = shelf
        self._contents = contents
        self._post = post
        self._log = log
        self._clock = clock
        self._in_thread = in_thread

    async def stop(self) -> None:
        """See ITransport."""

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        return [await self._answer(request)] * len(request.indexes)

    async def _answer(self, request: Request) -> Result:
        envelope = request.entry.envelope
        if envelope.trace == "verify":
            return self._result(SENT, "2.0.0", "takes requests for attachments")
        if not envelope.sender:
            return self._result(SENT, "2.0.0", "mail without a sender asks for nothing")
        try:
            content = await self._contents.content(request.entry.id, request.entry.where)
            try:
                tokens = _tokens(request.addresses, content)
            finally:
                content.close()
            if not tokens:
                return self._result(BOUNCED, "5.6.0", "no token: ask with the subject: retrieve TOKEN")
            done = [await self._send(token, request) for token in tokens]
        except (OSError, SpoolError) as error:
            return self._result(DEFERRED, "4.3.0", f"cannot be retrieved now: {error}")
        except Rejected as error:
            return self._result(BOUNCED, f"5{error.dsn[1:]}", error.text)
        if lacking := [token for token, ids in zip(tokens, done, strict=True) if not ids]:
            return self._result(BOUNCED, "5.1.0", f"nothing is kept for you under {', '.join(lacking)}")
        return self._result(SENT, "2.0.0", f"queued as {' '.join(id for ids in done for id in ids)[:500]}")

    def _result(self, status: str, dsn: str, reason: str) -> Result:
        return Result(status, dsn, reason, self._name)

    async def _send(self, token: str, request: Request) -> list[str]:
        """The queue IDs of the mails that bring it."""
        found = await self._shelf.find(token)
        if found is None or not (to := _recipient(found[0], request)):
            return []
        facts, attachment = found
        now, address = time_of_day(self._clock), unquote(request.addresses[0])
        mails = await self._in_thread(lambda: list(_mails(facts, attachment, address, to, now)))
        ids = [await self._post(to, mail) for mail in mails]
        self._log.info(self.program, f"{request.entry.id}: {token} for <{to}>: {len(ids)} messages")
        return ids


def _recipient(facts: Facts, request: Request) -> str:
    """Whom the sender stands for, of those who have got notes; "" if nobody."""
    envelope = request.entry.envelope
    sender = unquote(envelope.sender).lower()
    for one in facts.recipients:
        if one.lower() == sender:
            return one
    if envelope.client.protocol == "UUCP" and envelope.client.name in facts.sites:
        name = split_domain(sender)[0].rpartition("!")[2]
        for one in facts.recipients:
            if split_domain(one.lower())[0] == name:
                return one
    return ""


def _tokens(addresses: Sequence[str], content: Content) -> list[str]:
    found: list[str] = []
    for address in addresses:
        _, *extension = re.split("[-+=]", split_domain(unquote(address))[0].lower(), maxsplit=1)
        found += filter(TOKEN.match, extension)
    content.seek(0)
    found += [match[1].decode("ascii").lower() for match in _ASKED.finditer(content.read(_LOOKED_AT))]
    return list(dict.fromkeys(found))[:MOST_TOKENS]


def _mails(facts: Facts, attachment: Message, address: str, to: str, now: float) -> Iterator[bytes]:
    data, kind = payload(attachment), attachment.get_content_type()
    name = _name(attachment.get_filename(""))
    room = max(facts.piece, SMALLEST_PIECE) - _HEADER
    most = max(room // 77 * 57, -(-len(data) // MOST_PIECES))  # a line of base64
    pieces = [data[at : at + most] for at in range(0, len(data), most)] or [b""]
    width = len(str(len(pieces)))
    for number, piece in enumerate(pieces, 1):
        is_whole = len(pieces) == 1
        called = name if is_whole else f"{name}.{number:0{width}}"
        about = name if is_whole else f"{name}, piece {number} of {len(pieces)}"
        one = EmailMessage(policy=_POLICY)
        one["From"], one["To"], one["Subject"] = _header(address), _header(to), about
        one["Date"] = email.utils.formatdate(now)
        one["Auto-Submitted"] = "auto-replied"
        if not is_whole:
            one["Comments"] = f"All pieces together, in order, are {name}: cat {name}.* > {name}"
        maintype, _, subtype = kind.partition("/")
        if not is_whole or maintype in ("multipart", "message", "text"):
            maintype, subtype = "application", "octet-stream"
        one.set_content(piece, maintype=maintype, subtype=subtype, filename=called)
        yield one.as_bytes()


def _name(text: str) -> str:
    """A file's name that is one, for every shell."""
    return re.sub(r"[^\w.+@=-]", "_", text.replace("\\", "/").rpartition("/")[2]).lstrip(".-")[:100] or "attachment"


def _header(address: str) -> str:
    return re.sub(r"[^!-~]", "?", quote(address))
