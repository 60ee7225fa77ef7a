"""Restrictions that look at no address: permit, reject, defer, and what is to be remembered."""

from __future__ import annotations

from twisted.internet.task import deferLater

from gateway.interfaces import IRestriction
from gateway.policy.registry import Arguments, Asking, Plain, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, defer_if_permit, defer_if_reject, refuse


@restriction("permit")
def permit(tools: Toolbox, arguments: Arguments) -> IRestriction:
    return Plain("permit", lambda session: PERMIT)


@restriction("reject")
def reject(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("reject_code")

    def answer(session: Session) -> Verdict:
        return refuse(code, "5.7.1", f"<{session.subject}>: {session.subject_kind} rejected: Access denied")

    return Plain("reject", answer)


@restriction("defer")
def defer(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("defer_code")

    def answer(session: Session) -> Verdict:
        return refuse(code, "4.3.2", f"<{session.subject}>: {session.subject_kind} rejected: Try again later")

    return Plain("defer", answer)


@restriction("defer_if_permit")
def if_permit(tools: Toolbox, arguments: Arguments) -> IRestriction:
    def answer(session: Session) -> Verdict:
        text = f"<{session.subject}>: {session.subject_kind} rejected: defer_if_permit requested"
        return defer_if_permit(450, "4.7.0", text)

    return Plain("defer_if_permit", answer)


@restriction("defer_if_reject")
def if_reject(tools: Toolbox, arguments: Arguments) -> IRestriction:
    def answer(session: Session) -> Verdict:
        text = f"<{session.subject}>: {session.subject_kind} rejected: defer_if_reject requested"
        return defer_if_reject(450, "4.7.0", text)

    return Plain("defer_if_reject", answer)


@restriction("sleep")
def sleep(tools: Toolbox, arguments: Arguments) -> IRestriction:
    seconds = arguments.need("sleep", "a number of seconds")
    if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 5:
        raise RestrictionError(f"{arguments.list_name}: restriction sleep must be followed by number")

    async def pause(session: Session) -> Verdict:
        await deferLater(tools.clock, int(seconds))
        return DUNNO

    return Asking(f"sleep {seconds}", pause)


@restriction("reject_unauth_pipelining")
def unauth_pipelining(tools: Toolbox, arguments: Arguments) -> IRestriction:
    def answer(session: Session) -> Verdict:
        if not session.improper_pipelining:
            return DUNNO
        text = f"<{session.subject}>: {session.subject_kind} rejected: Improper use of SMTP command pipelining"
        return refuse(503, "5.5.0", text)

    return Plain("reject_unauth_pipelining", answer)


@restriction("reject_plaintext_session")
def plaintext_session(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("plaintext_reject_code")

    def answer(session: Session) -> Verdict:
        return DUNNO if session.tls is not None else refuse(code, "4.7.1", "Session encryption is required")

    return Plain("reject_plaintext_session", answer)


@restriction("permit_sasl_authenticated")
def sasl_authenticated(tools: Toolbox, arguments: Arguments) -> IRestriction:
    enabled = tools.settings.flag("smtpd_sasl_auth_enable")
    return Plain("permit_sasl_authenticated", lambda session: PERMIT if enabled and session.sasl_username else DUNNO)


@restriction("reject_multi_recipient_bounce")
def multi_recipient_bounce(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("multi_recipient_bounce_reject_code")

    def answer(session: Session) -> Verdict:
        allowed = 1 if session.where in ("DATA", "BDAT", "END-OF-MESSAGE") else 0
        if session.sender != "" or session.recipient_count <= allowed:
            return DUNNO
        text = f"<{session.subject}>: {session.subject_kind} rejected: Multi-recipient bounce"
        return refuse(code, "5.5.3", text)

    return Plain("reject_multi_recipient_bounce", answer)
