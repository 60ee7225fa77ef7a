"""What a UUCP neighbour may send: uucp_client_restrictions, with the neighbour in the client's place.

Restrictions are those of smtpd_recipient_restrictions, asked for each recipient; a bare table is looked up with the
neighbour's name (check_client_access).  The neighbour counts as authenticated, its name as the login name: UUCP has
asked for a password, or has called it.  Without restrictions a neighbour may send to anybody.

``judge`` says who is refused; what HOLD, FILTER and the like in access tables decide is in ``Judgement.decisions``.  A
4xx makes it raise NotNow, so that the message waits, but no longer than mail may be on its way.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field, replace

from twisted.internet.interfaces import IReactorTime

from gateway.clock import time_of_day
from gateway.config import ConfigError
from gateway.interfaces import Rejected
from gateway.policy.compose import PROVIDERS
from gateway.policy.evaluator import Evaluator, Lists
from gateway.policy.registry import RestrictionError, Toolbox, compile_list
from gateway.policy.session import Decisions, Session
from gateway.uucp.rates import Rates
from spool.envelope import Client, Envelope, Recipient

PARAMETER = "uucp_client_restrictions"
PROGRAM = "rmail"

assert PROVIDERS  # importing them is what makes restrictions known


class NotNow(Exception):
    """A restriction answers 4xx: the mail has to wait."""


@dataclass(slots=True)
class Judgement:
    refused: list[tuple[Recipient, Rejected]] = field(default_factory=list)
    decisions: Decisions = field(default_factory=Decisions)


class Neighbours:
    """``tools``: with the main settings.  Raises ConfigError for restrictions that cannot be used."""

    def __init__(self, tools: Toolbox, clock: IReactorTime) -> None:
        settings = tools.settings
        words = settings.words(PARAMETER)
        # UUCP has asked for the neighbour's name and password, whether or not SMTP does so.
        logged_in = replace(tools, settings=settings.with_overrides({"smtpd_sasl_auth_enable": "yes"}))
        try:
            items = compile_list(logged_in, words, PARAMETER, "check_client_access")
        except RestrictionError as error:
            raise ConfigError(str(error)) from None
        self._evaluator = Evaluator(Lists(recipient=items), tools.log, program=PROGRAM) if items else None
        self._clock = clock
        self._believed = frozenset({0, os.geteuid(), *_uid(settings.text("uucp_owner"))})
        self._patience = settings.seconds("maximal_queue_lifetime")
        self._rates = Rates(settings, tools.log, clock.seconds)

    def believes(self, uid: int) -> bool:
        """Whether this user's word on who the neighbour is counts."""
        return uid in self._believed

    def admit(self, uid: int, neighbour: str, messages: int, size: int) -> str:
        """Why a neighbour has to wait, "" if it need not; or, with ``messages``, that so much has come from it."""
        if not self.believes(uid):
            return ""
        if messages:
            self._rates.count(neighbour, messages, size)
            return ""
        return self._rates.refusal(neighbour)

    async def judge(self, envelope: Envelope) -> Judgement:
        """``envelope.client``: see ``client_of``.  Raises NotNow, TableError."""
        judgement = Judgement()
        if self._evaluator is None:
            return judgement
        session = session_of(envelope)
        judgement.decisions = session.decisions
        for recipient in envelope.recipients:
            reply = await self._evaluator.rcpt(session, recipient.address)
            session.recipient_count += 1
            if reply is None:
                continue
            code, dsn, text = reply.split(" ", 2)
            if code.startswith("4") and time_of_day(self._clock) - envelope.arrival < self._patience:
                raise NotNow(reply)
            judgement.refused.append((recipient, Rejected(int(code), f"5{dsn[1:]}", text)))
        return judgement


def _uid(account: str) -> list[int]:
    try:
        return [pwd.getpwnam(account).pw_uid]
    except KeyError:
        return []


def client_of(neighbour: str) -> Client:
    """A neighbour as the client of its mail."""
    return Client(
        name=neighbour, helo=neighbour, protocol="UUCP", sasl_method="UUCP", sasl_username=neighbour,
        rewrite_context="remote",
    )


def session_of(envelope: Envelope) -> Session:
    """The mail as an SMTP session would have brought it."""
    name = envelope.client.name
    return Session(
        client_name=name, client=f"{name}[UUCP]", reverse_name=name, helo=name, protocol="UUCP", where="RCPT",
        sender=envelope.sender, size=envelope.size, sasl_method="UUCP", sasl_username=name,
    )
