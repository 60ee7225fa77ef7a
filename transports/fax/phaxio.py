"""A provider that sends faxes for us: the Phaxio API, version 2.1, over HTTPS.

    POST faxes                  multipart/form-data: to, file (PDF), tag[mailgateway]   → {"success", "data": {"id"}}
    GET faxes/ID                → {"success", "data": {"status", "num_pages", "recipients": [{…}] …}}
    GET faxes?tag[mailgateway]=TAG                                                      → {"data": [{…} …]}
    POST faxes/ID/cancel

Whoever speaks this form can be asked by url=.  KEY:SECRET stands in a file, is read for each request, and is in no
message of ours.  ``IFaxLine`` says what is raised.  A fax cannot be scheduled there, nor sent to a sub-address.
"""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http_headers import Headers
from zope.interface import implementer

from transports.fax.line import DONE, FAILED, SENDS, WAITS, Fax, IFaxLine, Job, NotTaken, Uncertain
from transports.fax.service import FaxService

PATIENCE = 120.0
LONGEST_ANSWER = 1024 * 1024
TAG = "mailgateway"

_STATES = {"inprogress": SENDS, "success": DONE, "failure": FAILED, "partialsuccess": FAILED}
_ID = re.compile(r"[0-9]{1,30}\Z")

InThread = Callable[..., Awaitable[Any]]


@implementer(IFaxLine)
class Phaxio:
    """``reactor``: what twisted.web's Agent wants.  ``in_thread`` runs what blocks: files."""

    def __init__(self, service: FaxService, reactor: Any, in_thread: InThread) -> None:
        self._service = service
        self._reactor = reactor
        self._in_thread = in_thread
        self._agent = Agent(reactor, connectTimeout=30.0)

    async def ready(self) -> None:
        """See IFaxLine."""
        await self._headers()

    async def submit(self, fax: Fax) -> str:
        """See IFaxLine."""
        if fax.when or fax.subaddress:
            raise NotTaken("the provider has neither times nor sub-addresses", permanent=True)
        boundary = secrets.token_hex(16)
        try:
            document = await self._in_thread(fax.pdf.read_bytes)
            headers = await self._headers()
        except OSError as error:
            raise NotTaken(f"{error.filename}: {error.strerror}", permanent=False) from None
        headers.addRawHeader("Content-Type", f"multipart/form-data; boundary={boundary}")
        body = _form(boundary, {"to": fax.name, f"tag[{TAG}]": fax.tag}, document)
        try:
            code, said = await self._ask(b"POST", "faxes", headers, body)
        except (ConnectError, DNSLookupError) as error:
            raise NotTaken(f"provider cannot be reached: {error}", permanent=False) from None
        job = str(_data(said).get("id", ""))
        if code < 300 and said.get("success") is True and _ID.match(job):
            return job
        if code < 300 or code >= 500:
            raise Uncertain(f"provider answers {code}: {_message(said)}")
        raise NotTaken(f"provider says: {code} {_message(said)}", permanent=code not in (401, 402, 403, 408, 429))

    async def look(self, wanted: Sequence[tuple[str, str]]) -> Sequence[Job]:
        """See IFaxLine."""
        found = []
        for job, tag in wanted:
            path = f"faxes/{job}" if _ID.match(job) else f"faxes?{quote(f'tag[{TAG}]')}={quote(tag)}"
            code, said = await self._ask(b"GET", path, await self._headers())
            if code == 404:
                continue
            if code >= 300:
                raise Uncertain(f"provider says: {code} {_message(said)}")
            listed = said.get("data")
            for one in listed if isinstance(listed, list) else [listed]:
                if isinstance(one, dict) and (tags := one.get("tags")) and tags.get(TAG) == tag:
                    found.append(_job(one, tag))
                    break
        return found

    async def kill(self, job: str) -> bool:
        """See IFaxLine."""
        if not _ID.match(job):
            return False
        code, said = await self._ask(b"POST", f"faxes/{job}/cancel", await self._headers())
        return code == 404 or (code < 300 and said.get("success") is True)

    # --- HTTP ----------------------------------------------------------------------------------------------------

    async def _headers(self) -> Headers:
        secret: str = await self._in_thread(Path(self._service.secret).read_text)
        word = base64.b64encode(secret.partition("\n")[0].strip().encode()).decode("ascii")
        return Headers({"Authorization": [f"Basic {word}"], "Accept": ["application/json"]})

    async def _ask(self, method: bytes, path: str, headers: Headers, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Status and answer.  ConnectError and DNSLookupError pass through, all else is Uncertain."""
        url = f"{self._service.url}/{path}".encode("ascii")
        producer = FileBodyProducer(io.BytesIO(body)) if body else None
        try:
            asked = self._agent.request(method, url, headers, producer)
            asked.addTimeout(PATIENCE, self._reactor)
            response = await asked
            answer = _Answer()
            response.deliverBody(answer)
            answer.whole.addTimeout(PATIENCE, self._reactor)
            data = await answer.whole
        except (ConnectError, DNSLookupError):
            raise
        except TimeoutError:
            raise Uncertain(f"provider has not answered within {PATIENCE:.0f} seconds") from None
        except Exception as error:
            raise Uncertain(f"provider went away: {type(error).__name__}") from None
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            said = {}
        return int(response.code), said if isinstance(said, dict) else {}


def _form(boundary: str, fields: dict[str, str], document: bytes) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode("ascii")
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="fax.pdf"\r\n'
    parts += [f"{head}Content-Type: application/pdf\r\n\r\n".encode("ascii"), document, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode("ascii")])


def _data(said: dict[str, Any]) -> dict[str, Any]:
    data = said.get("data")
    return data if isinstance(data, dict) else {}


def _message(said: dict[str, Any]) -> str:
    text = said.get("message")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200] if isinstance(text, str) else ""


def _job(one: dict[str, Any], tag: str) -> Job:
    recipients = one.get("recipients")
    about = recipients[0] if isinstance(recipients, list) and recipients and isinstance(recipients[0], dict) else {}
    state = _STATES.get(str(one.get("status")), WAITS)
    pages = _number(one.get("num_pages"))
    reason = _message({"message": about.get("error_message") or one.get("error_message")})
    bitrate = _number(about.get("bitrate"))
    calls = _number(about.get("retry_count")) + 1 if state in (DONE, FAILED) else 0
    return Job(
        str(one.get("id", "")), tag, state, pages if state == DONE else 0, pages, calls, reason,
        {"signal rate": f"{bitrate} bit/s"} if bitrate else {},
    )


def _number(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return 0


class _Answer(Protocol):
    """The body of an answer, up to a limit."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._data += data[: LONGEST_ANSWER - len(self._data)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.whole.called:
            self.whole.callback(bytes(self._data))
