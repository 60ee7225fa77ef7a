"""A HylaFAX server, spoken to by its own protocol (hfaxd, port 4559): much like FTP, and like it with a data connection
of its own for documents and lists, which we open (passive mode), so that no packet filter stands in the way.

Why not sendfax: its status and output do not tell a server that is down from a number that is refused, and between its
start and its end nobody knows whether there is a job.  Here a job carries our tag before it is submitted, so that after
any interruption the server can be asked for it.

What a job became of stands in the lists sendq and doneq; how long the call was and how fast, in the server's log of
that call, if it may be read.  ``IFaxLine`` says what is raised.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import FileSender, LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.clock import time_of_day
from transports.fax.line import DONE, FAILED, SENDS, WAITS, Fax, IFaxLine, Job, NotTaken, Uncertain
from transports.fax.service import FaxService

PATIENCE = 60.0
"""Seconds for a reply, and for a block of data."""
LONGEST_LIST = 8 * 1024 * 1024
LONGEST_CALL_LOG = 1024 * 1024
LONGEST_TRANSFER = 900.0
"""Seconds."""

PRIORITIES = {"high": "63", "normal": "127", "low": "191"}
PAPERS = {"a4": ("209", "296"), "letter": ("215", "279")}

_JOB_FORMAT = "%j|%J|%a|%p|%y|%d|%x|%W|%s"
_OF_THE_FAX = ("JPARM DIALSTRING", "JPARM EXTERNAL", "JPARM SUBADDR")
_STATES = {"R": SENDS, "D": DONE, "F": FAILED}
_SUSPENDED = "T"
_REPLY = re.compile(r"([1-5][0-9][0-9])([ -]?)(.*)", re.DOTALL)
_PORT = re.compile(r"\((?:[0-9]+,){4}([0-9]+),([0-9]+)\)")
_CREATED = re.compile(r"jobid: ([0-9]+)")
_FILE = re.compile(r"FILE: (/[A-Za-z0-9_./-]+)")
_JOB = re.compile(r"[0-9]{1,10}\Z")
_CALL = re.compile(r"[0-9]{1,20}\Z")
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_STAMP = re.compile(r"[A-Z][a-z]{2} +[0-9]+ ([0-9]{2}):([0-9]{2}):([0-9]{2})")

InThread = Callable[..., Awaitable[Any]]


class _Refused(Exception):
    """A reply of class 4 or 5.  ``for_good``: it is about this very fax."""

    def __init__(self, code: int, text: str, command: str = "") -> None:
        super().__init__(text)
        self.for_good = code >= 500 and command.startswith(_OF_THE_FAX)


@implementer(IFaxLine)
class HylaFax:
    """``reactor``: IReactorTCP and IReactorTime.  ``in_thread`` runs what blocks: names, files."""

    def __init__(self, service: FaxService, reactor: Any, in_thread: InThread) -> None:
        self._service = service
        self._reactor = reactor
        self._in_thread = in_thread

    # --- IFaxLine ------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """See IFaxLine."""
        session = await self._open()
        session.leave()
        session.drop()

    async def submit(self, fax: Fax) -> str:
        """See IFaxLine."""
        try:
            session = await self._open()
        except (OSError, Uncertain) as error:
            raise NotTaken(f"fax server cannot be reached: {error}", permanent=False) from None
        try:
            job = await self._prepare(session, fax)
        except (OSError, Uncertain) as error:
            session.drop()
            raise NotTaken(f"fax server went away: {error}", permanent=False) from None
        except _Refused as error:
            session.drop()
            raise NotTaken(f"fax server says: {error}", permanent=error.for_good) from None
        try:
            return await self._hand_over(session, job, fax.tag)
        finally:
            session.drop()

    async def look(self, wanted: Sequence[tuple[str, str]]) -> Sequence[Job]:
        """See IFaxLine."""
        session = await self._open()
        try:
            found = await self._look(session, {tag: job for job, tag in wanted})
            session.leave()
            return found
        except _Refused as error:
            raise Uncertain(f"fax server says: {error}") from None
        finally:
            session.drop()

    async def kill(self, job: str) -> bool:
        """See IFaxLine.  Only who has submitted a job may."""
        if not _JOB.match(job):
            return False
        session = await self._open()
        try:
            await session.ask(f"JKILL {job}")
        except _Refused as error:
            return "does not exist" in str(error)
        finally:
            session.drop()
        return True

    # --- steps ---------------------------------------------------------------------------------------------------

    async def _open(self) -> Session:
        service = self._service
        password = ""
        if service.password:
            password = (await self._in_thread(Path(service.password).read_text)).partition("\n")[0]
        places = await self._in_thread(socket.getaddrinfo, service.host, service.port, 0, socket.SOCK_STREAM)
        trouble: Exception = OSError(f"{service.host} has no address")
        for family, _, _, _, place in places:
            try:
                session = await _connect(self._reactor, family, place[0], place[1], lambda: Session(self._reactor))
            except Exception as error:
                trouble = error
                continue
            session.place = family, place[0]
            try:
                await session.log_in(service.login, password)
                return session
            except _Refused as error:
                session.drop()
                raise Uncertain(f"fax server says: {error}") from None
            except BaseException:
                session.drop()
                raise
        raise OSError(f"{service.host}:{service.port}: {_reason(trouble)}")

    async def _prepare(self, session: Session, fax: Fax) -> str:
        """Everything but the submission; the job's number."""
        service = self._service
        await session.ask("TYPE I")
        await session.ask("FORM TIFF")
        document = await session.send("STOT", fax.tiff, self._in_thread)
        created = _CREATED.search(await session.ask("JNEW"))
        if created is None:
            raise Uncertain("a new job has no number")
        width, length = PAPERS[service.wish.paper]
        values = {
            "FROMUSER": _quoted(fax.sender), "NOTIFYADDR": _quoted(service.reports), "NOTIFY": '"none"',
            "DIALSTRING": _quoted(fax.dial), "EXTERNAL": _quoted(fax.name), "JOBINFO": _quoted(fax.tag),
            "LASTTIME": _days(max(0.0, fax.when - time_of_day(self._reactor)) + service.killtime),
            "MAXDIALS": str(service.maxdials), "MAXTRIES": str(service.maxtries), "SCHEDPRI": PRIORITIES[fax.priority],
            "VRES": str(fax.lines), "PAGEWIDTH": width, "PAGELENGTH": length, "PAGECHOP": '"none"',
        }
        if fax.subaddress:
            values["SUBADDR"] = _quoted(fax.subaddress)
        if fax.when:
            values["SENDTIME"] = time.strftime("%Y%m%d%H%M", time.gmtime(fax.when))
        if service.header:
            values |= {"USETAGLINE": "YES", "TAGLINE": '""'}
        for name, value in values.items():
            await session.ask(f"JPARM {name} {value}")
        await session.ask(f"JPARM DOCUMENT {document}")
        return created[1]

    async def _hand_over(self, session: Session, job: str, tag: str) -> str:
        """Submit it.  A refusal need not mean that the server does not have it."""
        try:
            await session.ask("JSUBM")
            session.leave()
            return job
        except _Refused as error:
            refusal = error
        except (OSError, Uncertain) as error:
            raise Uncertain(f"fax server went away: {_reason(error)}") from None
        try:
            found = await self._look(session, {tag: job})
        except (_Refused, OSError) as error:
            raise Uncertain(f"fax server says: {refusal}; then: {error}") from None
        if not found:
            raise NotTaken(f"fax server says: {refusal}", permanent=False)
        if found[0].state == FAILED:
            raise NotTaken(f"fax server says: {found[0].reason or refusal}", permanent=True)
        return found[0].job

    async def _look(self, session: Session, wanted: dict[str, str]) -> list[Job]:
        """``wanted``: job (or "") by tag."""
        await session.ask(f'JOBFMT "{_JOB_FORMAT}"')
        found: dict[str, Job] = {}
        for queue in ("sendq", "doneq"):
            data = await session.receive(f"LIST {queue}", LONGEST_LIST)
            if len(data) == LONGEST_LIST:
                raise Uncertain(f"the list of {queue} is too long")
            for line in data.decode("latin-1").splitlines():
                parts = line.split("|", 8)
                if len(parts) == 9 and parts[1] in wanted and parts[0] == (wanted[parts[1]] or parts[0]):
                    if parts[2] == _SUSPENDED and not wanted[parts[1]]:
                        raise Uncertain(f"job {parts[0]} is being submitted")
                    found[parts[1]] = await self._job(session, parts)
        return list(found.values())

    async def _job(self, session: Session, parts: list[str]) -> Job:
        number, tag, state, sent, pages, dials, most, call, reason = (part.strip() for part in parts)
        known = _STATES.get(state, WAITS)
        facts: dict[str, str] = {}
        if known in (DONE, FAILED) and _CALL.match(call):
            try:
                log = await session.receive(f"RETR /log/c{call}", LONGEST_CALL_LOG)
            except _Refused:  # not for us
                log = b""
            facts = call_facts(log.decode("latin-1"))
        if known is WAITS and dials.isdigit() and int(dials):
            reason = f"{reason or 'waits'}, {dials} of {most} calls"
        arrived, all, calls = (int(text) if text.isdigit() else 0 for text in (sent, pages, dials))
        if known == DONE and (arrived != all or not arrived):
            known, reason = FAILED, reason or f"only {arrived} of {all} pages arrived"
        return Job(number, tag, known, arrived, all, calls, reason, facts)


def call_facts(log: str) -> dict[str, str]:
    """What the server's log of a call says: how long it was, how fast, who answered."""
    facts: dict[str, str] = {}
    begin = end = ""
    for line in log.splitlines():
        at = line.find("]: ") + 3
        said = line[at:]
        if said.startswith("SESSION BEGIN"):
            begin = line
        elif said.startswith("SESSION END"):
            end = line
        elif match := re.match(r"USE ([0-9]{1,6} bit/s)", said):
            facts["signal rate"] = match[1]
        elif match := re.match(r'REMOTE CSI "([^"]{1,40})"', said):
            facts["answered by"] = _UNSAFE.sub("?", match[1]).strip()
    seconds = [int(one[1]) * 3600 + int(one[2]) * 60 + int(one[3]) for one in map(_STAMP.match, (begin, end)) if one]
    if len(seconds) == 2:
        took = (seconds[1] - seconds[0]) % 86400
        facts["duration"] = f"{took // 60}:{took % 60:02}"
    return facts


def _days(seconds: float) -> str:
    """As DDHHMM, from now on: without it a job is dead at once, and it is no later for one that is to wait."""
    minutes = min(int(seconds // 60) + 1, 99 * 1440)
    return f"{minutes // 1440:02}{minutes // 60 % 24:02}{minutes % 60:02}"


def _quoted(text: str) -> str:
    """A value in quotes: printable ASCII, without what could end it."""
    return '"' + _UNSAFE.sub("?", text)[:200] + '"'


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


# --- the connection -------------------------------------------------------------------------------------------------


async def _connect(reactor: Any, family: int, host: str, port: int, make: Callable[[], Any]) -> Any:
    endpoint = TCP6ClientEndpoint if family == socket.AF_INET6 else TCP4ClientEndpoint
    factory: Any = Factory.forProtocol(make)
    factory.noisy = False
    return await endpoint(reactor, host, port, PATIENCE).connect(factory)


class Session(LineOnlyReceiver):
    """One connection to hfaxd, one command at a time."""

    delimiter = b"\n"
    MAX_LENGTH = 4096

    def __init__(self, clock: Any) -> None:
        self.place: tuple[int, str] = (socket.AF_INET, "")
        self._clock: IReactorTime = clock
        self._reactor = clock
        self._replies: list[tuple[int, str]] = []
        self._waiting: Deferred[tuple[int, str]] | None = None
        self._lost = ""

    # --- for the caller

    async def log_in(self, user: str, password: str) -> None:
        code, text = await self._reply()
        if code >= 400:
            raise _Refused(code, text)
        code, text = await self._exchange(f"USER {_UNSAFE.sub('?', user)}")
        if code == 331:
            code, text = await self._exchange(f"PASS {password}")
        if code != 230:
            raise _Refused(code, text)

    async def ask(self, command: str) -> str:
        """The reply's text.  Raises _Refused, OSError, Uncertain."""
        code, text = await self._exchange(command)
        if code >= 400:
            raise _Refused(code, text, command)
        return text

    async def send(self, command: str, path: Path, in_thread: InThread) -> str:
        """A document; the name that it has there."""
        data = await self._data()
        try:
            match = _FILE.search(await self.ask(command))
            with await in_thread(open, path, "rb") as file:
                await self._patiently(FileSender().beginFileTransfer(file, data.transport), LONGEST_TRANSFER)
        finally:
            data.close()
        await self._end_of_transfer()
        if match is None:
            raise Uncertain("a document has no name")
        return match[1]

    async def receive(self, command: str, limit: int) -> bytes:
        data = await self._data()
        try:
            await self.ask(command)
            received: bytes = await self._patiently(data.whole(limit), LONGEST_TRANSFER)
        finally:
            data.close()
        await self._end_of_transfer()
        return received

    def leave(self) -> None:
        if not self._lost:
            self.sendLine(b"QUIT\r")

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    # --- below

    async def _exchange(self, command: str) -> tuple[int, str]:
        if self._lost:
            raise Uncertain(self._lost)
        self.sendLine(command.encode("ascii", "replace") + b"\r")
        return await self._reply()

    async def _end_of_transfer(self) -> None:
        code, text = await self._reply()
        if code >= 400:
            raise _Refused(code, text)

    async def _data(self) -> Data:
        match = _PORT.search(await self.ask("PASV"))
        if match is None:
            raise Uncertain("no data connection")
        family, host = self.place
        port = int(match[1]) * 256 + int(match[2])
        try:
            data: Data = await _connect(self._reactor, family, host, port, Data)
        except Exception as error:
            raise OSError(f"no data connection: {_reason(error)}") from None
        return data

    async def _reply(self) -> tuple[int, str]:
        if not self._replies:
            if self._lost:
                raise Uncertain(self._lost)
            self._waiting = Deferred()
            return await self._patiently(self._waiting)
        return self._replies.pop(0)

    async def _patiently(self, what: Deferred[Any], seconds: float = PATIENCE) -> Any:
        what.addTimeout(seconds, self._clock)
        try:
            return await what
        except TimeoutError:
            self._lost = f"no answer within {seconds:.0f} seconds"
            self.drop()
            raise Uncertain(self._lost) from None

    # --- from Twisted

    def lineReceived(self, line: bytes) -> None:
        match = _REPLY.match(line.decode("latin-1").rstrip("\r"))
        if match is None or match[2] != " ":  # inside a reply of several lines
            return
        reply = int(match[1]), "".join(letter if letter.isprintable() else "?" for letter in match[3])[:300]
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._replies.append(reply)
        else:
            waiting.callback(reply)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = self._lost or "connection is gone"
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(Uncertain(self._lost))


class Data(Protocol):
    """A data connection."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._limit = 0
        self._whole: Deferred[bytes] | None = None
        self._over = False

    def whole(self, limit: int) -> Deferred[bytes]:
        """Fires at its end with what came; what is beyond the limit is dropped."""
        self._limit = limit
        self._whole = Deferred()
        if self._over:
            self._whole.callback(bytes(self._received[:limit]))
        return self._whole

    def close(self) -> None:
        if self.transport is not None and not self._over:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if not self._limit or len(self._received) < self._limit:
            self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        whole, self._whole = self._whole, None
        if whole is not None and not whole.called:
            whole.callback(bytes(self._received[: self._limit]))
