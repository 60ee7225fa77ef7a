"""check_policy_service: a server of the site's own decides; SMTPD_POLICY_README.

    check_policy_service inet:HOST:PORT | unix:PATH | { SERVER, name=value, {name = value} … }

The server gets the facts of the session as lines "name=value" with an empty line behind them, and answers
"action=ACTION" with an empty line; an action is what access(5) says.  It is asked over lasting connections
(gateway.tables.requests), one question at a time on each.  A question that fails is asked again after a pause, as often
as smtpd_policy_service_try_limit says; then the default action holds.  The parameters smtpd_policy_service_NAME can be
set for one server as "name" in braces.
"""

from __future__ import annotations

import itertools
import os
import re

from twisted.internet.task import deferLater

from gateway.addresses.syntax import unquote
from gateway.config import ConfigError, Settings
from gateway.config.settings import split_service
from gateway.interfaces import IRestriction, TableError
from gateway.policy.answers import Answers
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session, Tls
from gateway.policy.verdict import Verdict
from gateway.tables.requests import LOST, NoAnswer, Patience, Reach, Server, service_place

NAME = "check_policy_service"
PARAMETERS = "smtpd_policy_service_"
LONGEST_REPLY = 100_000
MOST_CONNECTIONS = 100
"""As many as Postfix has at most by default: one from each smtpd process."""
KEY = "policy query"
"""What stands for a table's key in log lines."""

_OPTIONS = (
    "default_action", "max_idle", "max_ttl", "policy_context", "request_limit", "retry_delay", "timeout", "try_limit"
)  # fmt: skip
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_COUNTED = frozenset(("DATA", "BDAT", "END-OF-MESSAGE"))
_FAILED = "Application error"
_transactions = itertools.count()


class PolicyService:
    """One server.  ``word``: as it is configured; ``place``: "inet:HOST:PORT" or "unix:PATH"; ``settings``: with what
    is special about it.  Raises ValueError, ConfigError."""

    def __init__(self, tools: Toolbox, word: str, place: str, settings: Settings) -> None:
        self._name = place.partition(":")[2]
        self._tools = tools
        self._answers = Answers(tools, word)
        self._default = settings.text(PARAMETERS + "default_action")
        self._context = settings.text(PARAMETERS + "policy_context")
        self._tries = max(1, settings.number(PARAMETERS + "try_limit"))
        self._pause = settings.seconds(PARAMETERS + "retry_delay")
        timeout = settings.seconds(PARAMETERS + "timeout")
        patience = Patience(
            timeout=timeout,
            connect=timeout,
            idle=settings.seconds(PARAMETERS + "max_idle"),
            connections=MOST_CONNECTIONS,
            age=settings.seconds(PARAMETERS + "max_ttl"),
            questions=settings.number(PARAMETERS + "request_limit"),
        )
        network = Reach(tools.clock, tools.resolver)
        self._server = Server(place, service_place(place, settings), network, _framed, patience)

    async def check(self, session: Session) -> Verdict:
        subject, kind = session.subject, session.subject_kind
        if session.sender is not None and not session.instance:
            session.instance = self._new_instance()
        action = await self._ask(question(session, self._context))
        return self._answers.verdict(session, self._default if action is None else action, KEY, subject, kind)

    def _new_instance(self) -> str:
        seconds, fraction = divmod(self._tools.clock.seconds(), 1)
        return f"{os.getpid():x}.{int(seconds):x}.{int(fraction * 1e6):x}.{next(_transactions):x}"

    async def _ask(self, request: bytes) -> str | None:
        """The action; None = the server has none for us."""
        for tries in range(1, self._tries + 1):
            try:
                action = _action(await self._server.ask(request))
            except NoAnswer as problem:
                # One that hangs up may only have been restarted.
                if problem.reason != LOST or tries == self._tries:
                    self._complain(_FAILED if problem.reason == LOST else problem.reason)
            except TableError:
                self._complain(_FAILED)
            else:
                if action is not None:
                    return action
                self._tools.log.warning(PROGRAM, f"missing attribute action in input from {self._name}")
                if tries == self._tries:
                    self._complain(_FAILED)
            if tries < self._tries:
                await deferLater(self._tools.clock, self._pause)
        return None

    def _complain(self, reason: str) -> None:
        self._tools.log.warning(PROGRAM, f"problem talking to server {self._name}: {reason}")


def question(session: Session, context: str) -> bytes:
    """The request.  What came from outside cannot break out of its line."""
    tls = session.tls or Tls()
    server_address, server_port = session.find_server() if session.find_server is not None else ("", "")
    where = "DATA" if session.where == "BDAT" else session.where
    attributes = {
        "request": "smtpd_access_policy",
        "protocol_state": where,
        "protocol_name": session.protocol,
        "client_address": session.client_address,
        "client_name": session.client_name,
        "client_port": session.client_port,
        "reverse_client_name": session.reverse_name,
        "server_address": server_address,
        "server_port": server_port,
        "helo_name": session.helo or "",
        "sender": unquote(session.sender or ""),
        "recipient": unquote(session.recipient or ""),
        "recipient_count": session.recipient_count if session.where in _COUNTED else 0,
        "queue_id": session.queue_id,
        "instance": session.instance,
        "size": session.size,
        "etrn_domain": session.etrn_name or "",
        "stress": "",
        "sasl_method": session.sasl_method,
        "sasl_username": session.sasl_username,
        "sasl_sender": session.sasl_sender,
        "ccert_subject": tls.subject,
        "ccert_issuer": tls.issuer,
        "ccert_fingerprint": tls.fingerprints[0] if tls.fingerprints else "",
        "ccert_pubkey_fingerprint": tls.fingerprints[1] if tls.fingerprints else "",
        "encryption_protocol": tls.protocol,
        "encryption_cipher": tls.cipher,
        "encryption_keysize": tls.cipher_bits,
        "policy_context": context,
    }
    values = [str(value) for value in attributes.values()]
    if _UNSAFE.search("".join(values)):
        values = [_UNSAFE.sub("?", value) for value in values]
    lines = [f"{name}={value}\n" for name, value in zip(attributes, values, strict=True)]
    return ("".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _framed(data: bytes) -> tuple[bytes, bytes] | None:
    if data.startswith(b"\n"):
        return b"", data[1:]
    reply, end, rest = data.partition(b"\n\n")
    if len(reply) > LONGEST_REPLY:
        raise ValueError("the server's reply is too long")
    return (reply, rest) if end else None


def _action(reply: bytes) -> str | None:
    """The action of a reply; other attributes may stand beside it."""
    for line in reply.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and name.strip() == b"action":
            return value.decode("utf-8", "replace")
    return None


# --- the restriction -------------------------------------------------------------------------------------------


@restriction(NAME)
def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
    word = arguments.need(NAME, "a server (inet:host:port or unix:path)")
    service = tools.services.get(word)
    if service is None:
        try:
            place, own = _taken_apart(word)
            service = tools.services[word] = PolicyService(tools, word, place, tools.settings.with_overrides(own))
        except (ValueError, ConfigError) as error:
            raise RestrictionError(f"{arguments.list_name}: {NAME} {word}: {error}") from None
    return Asking(f"{NAME} {word}", service.check)


def _taken_apart(word: str) -> tuple[str, dict[str, str]]:
    """The server, and the parameters that are set for it."""
    server, options = split_service(word)
    own: dict[str, str] = {}
    for option, name, value in options:
        if value is None:
            raise ValueError(f"malformed option: missing '=' after attribute name: \"{option}\"")
        if name not in _OPTIONS:
            raise ValueError(f'bad attribute name: "{name}" (choose from {", ".join(_OPTIONS)})')
        own[PARAMETERS + name] = value
    return server, own
