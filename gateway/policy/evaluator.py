"""Works the smtpd_*_restrictions lists off in Postfix's order and turns verdicts into replies; SMTPD_ACCESS_README.

One Evaluator serves all connections of a service.  Each stage returns None (go on) or the reply with which the command
is refused; the log line of a refusal is written here, since it shows the state in which it was decided.

With smtpd_delay_reject (the default) client, HELO and sender lists are worked off at each RCPT, in front of the relay
and recipient lists, if there has been a HELO and (VRFY) a MAIL.  A list ends at the first PERMIT or refusal; "permit"
in one list does not spare the next.  What a temporary error (defer_if_permit) left behind turns the final permission
into a 4xx, when no list refuses; defer_if_reject turns a 5xx into one, and what the relay list said of it counts in
the recipient list as well.  At the end comes, unless a restriction has done it already, the look at whether the
recipient exists.

A table that does not answer becomes "451 4.3.0 Temporary lookup failure"; any other exception is the caller's.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.addresses.syntax import unquote
from gateway.interfaces import IRestriction, Log, TableError
from gateway.policy import session as facts
from gateway.policy.session import Session
from gateway.policy.verdict import Outcome, Verdict, lookup_failed, refuse

PROGRAM = "smtpd"
_DEEPEST = 100
_POSTMASTER = len('"postmaster"')


class Item(NamedTuple):
    """One restriction of a list; ``warn``: it stands behind warn_if_reject; ``name``: as it is written."""

    restriction: IRestriction
    warn: bool = False
    name: str = ""


RestrictionList = Sequence[Item]


class Names(Protocol):
    """A list of names."""

    async def match(self, name: str) -> bool: ...


class _Status(enum.Enum):
    GO_ON = enum.auto()
    PERMITTED = enum.auto()
    REFUSED = enum.auto()


# Members of an Enum are slow to get at in Python 3.11.
_DUNNO, _PERMIT = Outcome.DUNNO, Outcome.PERMIT
_GO_ON, _PERMITTED = _Status.GO_ON, _Status.PERMITTED

_ABOUT_RECIPIENTS = frozenset(("permit_auth_destination", "permit_mx_backup"))


@dataclass(slots=True)
class Lists:
    """Compiled lists by stage, and the two implicit checks (None: switched off)."""

    client: RestrictionList = ()
    helo: RestrictionList = ()
    sender: RestrictionList = ()
    relay: RestrictionList = ()
    recipient: RestrictionList = ()
    data: RestrictionList = ()
    end_of_data: RestrictionList = ()
    etrn: RestrictionList = ()
    unlisted_recipient: IRestriction | None = None
    unlisted_sender: IRestriction | None = None
    delay: bool = True
    """smtpd_delay_reject."""
    relay_first: bool = True
    """smtpd_relay_before_recipient_restrictions."""
    logged_permits: Names | None = None
    """smtpd_log_access_permit_actions."""


@dataclass(slots=True)
class _Run:
    """One list at work: its final refusal, and how deep lists are nested in it."""

    reply: str | None = None
    depth: int = 0


class Evaluator:
    def __init__(self, lists: Lists, log: Log, *, soft_bounce: bool = False, program: str = PROGRAM) -> None:
        self.lists = lists
        self.log = log
        self._soft = soft_bounce
        self._program = program
        self._nothing_before = not (lists.client or lists.helo or lists.sender or lists.unlisted_sender)
        """No list is worked off in front of those of the recipient."""
        self._logged_permits = lists.logged_permits
        self._unlisted = () if lists.unlisted_recipient is None else (Item(lists.unlisted_recipient),)

    # --- the stages ----------------------------------------------------------------------------------------------

    async def connect(self, session: Session) -> str | None:
        """At the greeting."""
        if self.lists.delay:
            return None
        reply = await self._client(session)
        session.deferral_helo = session.deferral_client
        return reply

    async def helo(self, session: Session, name: str) -> str | None:
        """HELO or EHLO with this name, which is not the session's yet."""
        if self.lists.delay:
            return None
        before, session.helo = session.helo, name
        reply = await self._helo(session)
        session.helo = before
        return reply

    async def mail(self, session: Session, sender: str) -> str | None:
        if self.lists.delay:
            return None
        before, session.sender = session.sender, sender
        session.resolved.clear()
        reply = await self._sender(session)
        session.sender = before
        return reply

    async def rcpt(self, session: Session, recipient: str) -> str | None:
        """RCPT or VRFY.  The postmaster without a domain can always be reached (RFC 5321 4.5.1)."""
        if len(recipient) <= _POSTMASTER and unquote(recipient).lower() == "postmaster":
            return None
        before, session.recipient = session.recipient, recipient
        session.recipient_checked = False
        session.resolved.clear()
        try:
            return await self._recipient(session)
        finally:
            session.recipient = before

    async def etrn(self, session: Session, domain: str) -> str | None:
        session.etrn_name = domain
        try:
            if self.lists.delay:
                reply = await self._client(session) or await self._helo(session)
                if reply is not None:
                    return reply
            reply = await self._list(session, self.lists.etrn, domain, facts.ETRN, session.deferral_helo)
            return reply or self._deferred(session)
        finally:
            session.etrn_name = None

    async def data(self, session: Session) -> str | None:
        return await self._content(session, self.lists.data, "DATA", facts.DATA)

    async def end_of_data(self, session: Session) -> str | None:
        return await self._content(session, self.lists.end_of_data, "END-OF-MESSAGE", facts.END_OF_DATA)

    # --- their lists ---------------------------------------------------------------------------------------------

    async def _client(self, session: Session) -> str | None:
        session.deferral_client = None
        if self.lists.client:
            reply = await self._list(session, self.lists.client, session.client, facts.CLIENT, None)
            session.deferral_client = session.deferral
            return reply
        return None

    async def _helo(self, session: Session) -> str | None:
        session.deferral_helo = session.deferral_client
        if self.lists.helo and session.helo is not None:
            reply = await self._list(session, self.lists.helo, session.helo, facts.HELO, session.deferral_client)
            session.deferral_helo = session.deferral
            return reply
        return None

    async def _sender(self, session: Session) -> str | None:
        session.deferral_sender = session.deferral_helo
        session.sender_checked = False
        if self.lists.sender and session.sender is not None:
            sender = unquote(session.sender)
            reply = await self._list(session, self.lists.sender, sender, facts.SENDER, session.deferral_helo)
            session.deferral_sender = session.deferral
            if reply is not None:
                return reply
        check = self.lists.unlisted_sender
        if check is not None and session.sender and not session.sender_checked and not session.decisions.discard:
            sender = unquote(session.sender)
            reply = await self._list(session, (Item(check),), sender, facts.SENDER, session.deferral_sender)
            session.deferral_sender = session.deferral
            return reply
        return None

    async def _recipient(self, session: Session) -> str | None:
        lists = self.lists
        if lists.delay and self._nothing_before:
            session.deferral_client = session.deferral_helo = session.deferral_sender = None
            session.sender_checked = False
        elif lists.delay:
            reply = await self._client(session) or await self._helo(session) or await self._sender(session)
            if reply is not None:
                return reply
        subject = unquote(session.recipient or "")
        session.deferral, session.rejection = session.deferral_sender, None
        ordered = (lists.relay, lists.recipient) if lists.relay_first else (lists.recipient, lists.relay)
        for each in ordered:
            if each:
                reply = await self._list(
                    session, each, subject, facts.RECIPIENT, session.deferral, session.rejection
                )
                if reply is not None:
                    return reply
        reply = self._deferred(session)
        if reply is None and self._unlisted and not session.recipient_checked and not session.decisions.discard:
            return await self._list(session, self._unlisted, subject, facts.RECIPIENT, None, session.rejection)
        return reply

    async def _content(self, session: Session, items: RestrictionList, name: str, kind: str) -> str | None:
        if not items:
            return None
        reply = await self._list(session, items, name, kind, None)
        return reply or self._deferred(session)

    def _deferred(self, session: Session) -> str | None:
        """A permission is none if a temporary error may have kept us from refusing."""
        verdict = session.deferral
        if verdict is None or session.decisions.discard:
            return None
        session.rejection = None
        return self._refused(session, refuse(verdict.code, verdict.dsn, verdict.text))

    # --- one list --------------------------------------------------------------------------------------------------

    async def _list(
        self,
        session: Session,
        items: RestrictionList,
        subject: str,
        kind: str,
        deferral: Verdict | None,
        rejection: Verdict | None = None,
    ) -> str | None:
        """``deferral``, ``rejection``: what is remembered from the lists before."""
        session.deferral, session.rejection = deferral, rejection
        session.subject, session.subject_kind = subject, kind
        run = _Run()
        try:
            await self._walk(session, items, run, False)
        except TableError as error:
            self.log.warning(self._program, str(error))
            self._refuse(session, lookup_failed(subject), run, False)
        finally:
            session.warning = False
        return run.reply

    async def _walk(self, session: Session, items: RestrictionList, run: _Run, warn: bool) -> _Status:
        for restriction, own_warn, name in items:
            if session.decisions.discard:
                break
            warn_here = session.warning = warn or own_warn
            verdict = await restriction.check(session)
            outcome = verdict.outcome
            if outcome is _DUNNO:
                continue
            if outcome is _PERMIT:
                if self._logged_permits is not None:
                    await self._log_permit(session, verdict, name)
                return _PERMITTED
            if outcome is Outcome.THEN:
                status = await self._nested(session, verdict, run, warn_here)
            else:
                status = self._carry_out(session, verdict, run, warn_here)
            if status is not _Status.GO_ON:
                return status
            if session.deferral is not None and session.rejection is not None:
                break
        return _GO_ON

    async def _log_permit(self, session: Session, verdict: Verdict, name: str) -> None:
        assert self._logged_permits is not None
        action, subject, kind = verdict.action or name, verdict.subject, verdict.kind
        if not kind:
            subject, kind = session.subject, session.subject_kind
            word = name.lower()
            if word in _ABOUT_RECIPIENTS:
                subject, kind = unquote(session.recipient or ""), facts.RECIPIENT
            elif word.startswith("permit_"):
                subject, kind = session.client, facts.CLIENT
        try:
            wanted = await self._logged_permits.match(action)
        except TableError:  # It is in the log already, and no reason not to permit.
            return
        if wanted:
            text = f"action={action} for {kind}={subject} {verdict.text}"
            self.log.info(self._program, session.fact_line("permit", text))

    async def _nested(self, session: Session, verdict: Verdict, run: _Run, warn: bool) -> _Status:
        if run.depth >= _DEEPEST:
            self.log.warning(self._program, "restriction lists refer to each other without end")
            return self._refuse(session, _UNREASONABLE, run, warn)
        run.depth += 1
        outer = session.subject, session.subject_kind
        if verdict.kind:
            session.subject, session.subject_kind = verdict.subject, verdict.kind
        status = await self._walk(session, verdict.items, run, warn)
        session.subject, session.subject_kind = outer
        run.depth -= 1
        return status

    def _carry_out(self, session: Session, verdict: Verdict, run: _Run, warn: bool) -> _Status:
        if verdict.outcome is Outcome.ACT:
            return self._act(session, verdict)
        if verdict.outcome is Outcome.DEFER_IF_REJECT:
            session.rejection = session.rejection or verdict
            return _Status.GO_ON
        if verdict.outcome is Outcome.DEFER_IF_PERMIT and not warn:
            session.deferral = session.deferral or verdict
            return _Status.GO_ON
        return self._refuse(session, verdict, run, warn)

    def _act(self, session: Session, verdict: Verdict) -> _Status:
        decisions, what = session.decisions, verdict.action
        if what == "hold":
            if decisions.hold:
                return _Status.GO_ON
            decisions.hold = True
        elif what == "discard":
            decisions.discard = True
        elif what == "filter":
            decisions.filter = verdict.argument
        elif what == "redirect":
            decisions.redirect = verdict.argument
        elif what == "bcc":
            decisions.copies.append(verdict.argument)
        elif what == "prepend":
            decisions.prepend.append(verdict.argument)
            return _Status.GO_ON
        self.log.info(self._program, session.fact_line(what, verdict.text))
        return _Status.PERMITTED if what == "discard" else _Status.GO_ON

    def _refuse(self, session: Session, verdict: Verdict, run: _Run, warn: bool) -> _Status:
        if warn and not verdict.serious:
            self.log.info(self._program, session.fact_line("reject_warning", self._soften(verdict.reply)))
            return _Status.GO_ON
        run.reply = self._refused(session, verdict)
        return _Status.REFUSED

    def _refused(self, session: Session, verdict: Verdict) -> str:
        if verdict.code >= 500 and session.rejection is not None:
            verdict, session.rejection = session.rejection, None
        reply = self._soften(verdict.reply)
        self.log.info(self._program, session.fact_line("reject", reply))
        return reply

    def _soften(self, reply: str) -> str:
        """soft_bounce: what would be final is only put off."""
        if self._soft and reply.startswith("5"):
            return f"4{reply[1:4]}4{reply[5:]}"
        return reply


_UNREASONABLE = refuse(451, "4.3.5", "Server configuration error", serious=True)
