"""AUTH: who may log in how, and the dialogue; RFC 4954, SASL_README.

Whether a login is good is said by the server, the file or the checker that smtpd_sasl_type and smtpd_sasl_path name
(gateway.smtpd.dovecot, sasl_server).  What is offered are
its mechanisms that have the properties of smtpd_sasl_security_options, within TLS of smtpd_sasl_tls_security_options,
and pass smtpd_sasl_mechanism_filter.  Nothing is offered without TLS if smtpd_tls_auth_only says so, nor to clients in
smtpd_sasl_exceptions_networks.

Passwords and the like are never logged, and an answer of the client's is passed on only if it is base64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import Settings
from gateway.interfaces import Log, TableError
from gateway.policy.session import Session
from gateway.smtpd import limits, tls
from gateway.smtpd.dovecot import DovecotServer
from gateway.smtpd.sasl_backends import FileBackend, InThread, load_checker
from gateway.smtpd.sasl_passwords import PasswordFile
from gateway.smtpd.sasl_server import OwnServer
from gateway.smtpd.sasl_types import Authenticator, Facts, Outcome, Step
from gateway.smtpd.tokens import Token
from gateway.tables import AddressList, StringList, Tables
from gateway.tables.requests import NoAnswer, Reach, service_place

if TYPE_CHECKING:
    from gateway.smtpd.conversation import Conversation

DISABLED = "503 5.5.1 Error: authentication not enabled"
_BASE64 = re.compile(rb"(?>(?:[A-Za-z0-9+/]{4})*)(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_FORBIDDEN = {
    "noplaintext": "plaintext", "noanonymous": "anonymous", "noactive": "active", "nodictionary": "dictionary"
}  # fmt: skip
_DEMANDED = {"forward_secrecy": "forward-secrecy", "mutual_auth": "mutual-auth"}


@dataclass(frozen=True, slots=True)
class Properties:
    """smtpd_sasl_security_options: what a mechanism must not have, and must."""

    forbidden: frozenset[str]
    demanded: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, parameter: str) -> Properties:
        """Raises ConfigError."""
        words = {word.lower() for word in settings.words(parameter)}
        if unknown := words - _FORBIDDEN.keys() - _DEMANDED.keys():
            known = ", ".join([*_FORBIDDEN, *_DEMANDED])
            raise settings.error(parameter, f"{parameter}: unknown option {min(unknown)}", f"choose from {known}")
        return cls(
            frozenset(_FORBIDDEN[word] for word in words if word in _FORBIDDEN),
            frozenset(_DEMANDED[word] for word in words if word in _DEMANDED),
        )

    def allow(self, properties: frozenset[str]) -> bool:
        return self.forbidden.isdisjoint(properties) and self.demanded <= properties


@dataclass(frozen=True, slots=True)
class Login:
    """The login of one smtpd service."""

    server: Authenticator
    service: str
    in_clear: Properties
    within_tls: Properties
    filter: StringList
    exceptions: AddressList
    tls_only: bool
    announce_twice: bool
    """"AUTH=" as well (broken_sasl_auth_clients)."""
    response_limit: int

    @classmethod
    def of(
        cls, settings: Settings, tables: Tables, reach: Reach, log: Log, program: str, in_thread: InThread
    ) -> Login | None:
        """None if nobody is to log in.  Raises ConfigError."""
        if not settings.flag("smtpd_sasl_auth_enable"):
            return None
        try:
            server = _server(settings, reach, log, program, in_thread)
        except ValueError as error:
            raise settings.error("smtpd_sasl_path", f"smtpd_sasl_path: {error}") from None
        if server is None:
            kind = settings.text("smtpd_sasl_type")
            log.warning(program, f"smtpd_sasl_type = {kind}: choose dovecot, file or python; nobody can log in")
            return None
        return cls(
            server=server,
            service=settings.text("smtpd_sasl_service"),
            in_clear=Properties.of(settings, "smtpd_sasl_security_options"),
            within_tls=Properties.of(settings, "smtpd_sasl_tls_security_options"),
            filter=tables.string_list("smtpd_sasl_mechanism_filter", settings),
            exceptions=tables.address_list("smtpd_sasl_exceptions_networks", settings),
            tls_only=settings.flag("smtpd_tls_auth_only"),
            announce_twice=settings.flag("broken_sasl_auth_clients"),
            response_limit=settings.number("smtpd_sasl_response_limit"),
        )

    def is_for(self, session: Session) -> bool:
        """Whether this client may log in, as things stand."""
        return not self.tls_only or session.tls is not None

    async def is_offered(self, session: Session) -> bool:
        """Whether it is told so.  Raises TableError."""
        if not self.is_for(session):
            return False
        return not (self.exceptions and await self.exceptions.match(session.client_address, session.client_name))

    async def mechanisms(self, session: Session) -> list[str]:
        """Those that this client is offered.  Raises NoAnswer, TableError."""
        wanted = self.in_clear if session.tls is None else self.within_tls
        known = await self.server.mechanisms()
        allowed = [name for name, properties in known.items() if wanted.allow(properties)]
        if session.tls is None:
            allowed = [name for name in allowed if not name.endswith("-PLUS")]
        return [name for name in allowed if await self.filter.match(name.lower())]

    def facts(self, session: Session, binding: Callable[[str], bytes | None]) -> Facts:
        server_address = session.find_server()[0] if session.find_server is not None else ""
        return Facts(self.service, server_address, session.client_address, session.tls is not None, binding)


def _server(
    settings: Settings, reach: Reach, log: Log, program: str, in_thread: InThread
) -> Authenticator | None:
    """What smtpd_sasl_type and smtpd_sasl_path name.  Raises ValueError."""
    kind, path = settings.text("smtpd_sasl_type").strip().lower(), settings.text("smtpd_sasl_path")
    hostname = settings.text("myhostname")
    if kind == "dovecot":
        place = path if path.startswith(("inet:", "unix:", "local:")) else f"unix:{path}"
        return DovecotServer(service_place(place, settings), reach)
    if kind == "file":
        if not path or path == "smtpd":
            raise ValueError("name the file that `mailgateway passwd` has made")
        file = PasswordFile((settings.directory or Path.cwd()) / path, reach.reactor.seconds)
        backend = FileBackend(file, settings.text("smtpd_sasl_local_domain"), in_thread)
        return OwnServer(backend, hostname, log, program)
    if kind == "python":
        return OwnServer(load_checker(path, settings), hostname, log, program)
    return None


async def keywords(self: Conversation) -> list[str]:
    """What EHLO says about it."""
    login, session = self.service.login, self.session
    if login is None or not self.offers("auth"):
        return []
    try:
        if not await login.is_offered(session):
            return []
        mechanisms = " ".join(await login.mechanisms(session))
    except TableError as error:
        self.warning(f"no login for {session.client}: {error}")
        return []
    if not mechanisms:
        return []
    return [f"AUTH {mechanisms}", *((f"AUTH={mechanisms}",) if login.announce_twice else ())]


def is_active(self: Conversation) -> bool:
    """Whether this client may log in, or say AUTH= with MAIL."""
    login = self.service.login
    return login is not None and not self.service.stand_alone and self.offers("auth") and login.is_for(self.session)


async def auth(self: Conversation, tokens: list[Token]) -> str:
    session, login = self.session, self.service.login
    count = await self.over_limit(limits.LOGINS) if self.is_limited(limits.LOGINS) else 0
    if count:
        self.warning(f"AUTH command rate limit exceeded: {count} from {session.client} for service {self.service.name}")
        return f"450 4.7.1 Error: too many AUTH commands from {self.peer.address}"
    if self.options.helo_required and session.helo is None:
        return "503 5.5.1 Error: send HELO/EHLO first"
    if login is None or not is_active(self):
        return DISABLED
    if self.transaction is not None:
        return "503 5.5.1 Error: MAIL transaction in progress"
    if session.sasl_username:
        return "503 5.5.1 Error: already authenticated"
    if len(tokens) not in (2, 3):
        return "501 5.5.4 Syntax: AUTH mechanism"
    method = _UNSAFE.sub("?", tokens[1].text)[:100]
    given = tokens[2].text.encode("utf-8", "surrogateescape") if len(tokens) == 3 else None
    try:
        step = await _exchange(self, login, method, given)
    except _Ended as ended:
        return ended.reply
    if step.outcome is Outcome.DONE:
        session.sasl_username, session.sasl_method = _UNSAFE.sub("?", step.user or ""), method
        return "235 2.7.0 Authentication successful"
    reason = _UNSAFE.sub("?", step.text) or "(reason unavailable)"
    user = "(unavailable)" if step.user is None else _UNSAFE.sub("?", step.user)[:100]
    self.warning(f"{session.client}: SASL {method} authentication failed: {reason}, sasl_username={user}")
    if step.outcome is Outcome.TEMPORARY:
        return f"454 4.7.0 Temporary authentication failure: {reason}"
    return f"535 5.7.8 Error: authentication failed: {reason}"


class _Ended(Exception):
    """The client has given up, or has been given up."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


async def _exchange(self: Conversation, login: Login, method: str, given: bytes | None) -> Step:
    """The dialogue; its last step."""
    try:
        known = await login.mechanisms(self.session)
    except NoAnswer as problem:
        return Step(Outcome.TEMPORARY, text=str(problem))
    if method.upper() not in known:
        return Step(Outcome.FAILED, text="Invalid authentication mechanism")
    if given == b"=":  # nothing, as RFC 4954 4 writes it
        given = b""
    if given is not None and not _BASE64.match(given):
        return Step(Outcome.FAILED, text="Invalid base64 data in initial response")
    facts = login.facts(self.session, lambda kind: tls.channel_binding(self.channel.transport, kind))
    step = await login.server.first(method.upper(), given, facts)
    try:
        return await _go_on(self, login, method, step)
    except BaseException:
        login.server.forget(step.number)
        raise


async def _go_on(self: Conversation, login: Login, method: str, step: Step) -> Step:
    while step.outcome is Outcome.MORE:
        await self.reply(f"334 {step.text}")
        response = await _response(self, login.response_limit)
        if response is None:
            raise _Ended("500 5.5.6 SASL response limit exceeded")
        if response == b"*":
            self.warning(f"{self.session.client}: SASL {method} authentication aborted")
            raise _Ended("501 5.7.0 Authentication aborted")
        if not _BASE64.match(response):
            return Step(Outcome.FAILED, text="Invalid base64 data in continued response")
        step = await login.server.more(step.number, response)
    return step


async def _response(self: Conversation, limit: int) -> bytes | None:
    """A line of the client's, which may be longer than a command; None if it is longer than it may be."""
    framer = self.channel.framer
    before, framer.limit = framer.limit, limit + 1
    try:
        line = await self.channel.read_line()
    finally:
        framer.limit = before
    return line if len(line) <= limit else None
