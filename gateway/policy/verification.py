"""reject_unverified_sender, reject_unverified_recipient: mail is sent to an address, up to where it would be taken.

Who sends the probes and keeps their results is asked (gateway.content.verification), again and again for
address_verify_poll_count times, address_verify_poll_delay apart, until there is a result.  An address that could not be
delivered to is refused if unverified_…_reject_code is a 5xx code; all else is a temporary error.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import deferLater

from gateway.addresses.forms import quote
from gateway.addresses.probe_sender import ProbeSender
from gateway.addresses.syntax import unquote
from gateway.clock import time_of_day
from gateway.interfaces import IRestriction
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.tempfail import tempfail
from gateway.policy.verdict import DUNNO, Verdict, refuse

OK, DEFERRED, BOUNCED, WAITING = "ok", "deferred", "bounced", "waiting"
"""What is known of an address."""


_PARAMETERS = {
    "sender": (
        "unverified_sender_reject_code", "unverified_sender_defer_code", "unverified_sender_reject_reason",
        "unverified_sender_tempfail_action",
    ),
    "recipient": (
        "unverified_recipient_reject_code", "unverified_recipient_defer_code", "unverified_recipient_reject_reason",
        "unverified_recipient_tempfail_action",
    ),
}  # fmt: skip


class Verification:
    """``kind``: "sender" or "recipient"."""

    def __init__(self, tools: Toolbox, kind: str) -> None:
        settings = tools.settings
        self._tools = tools
        self._kind = facts.SENDER if kind == "sender" else facts.RECIPIENT
        self._detail = "1.7" if kind == "sender" else "1.1"
        reject_code, defer_code, reason, action = _PARAMETERS[kind]
        self._reject_code = settings.number(reject_code)
        self._defer_code = settings.number(defer_code)
        self._reason = settings.text(reason)
        self._defer: Callable[[int, str, str], Verdict] = tempfail(settings, action)
        self._times = max(1, settings.number("address_verify_poll_count"))
        self._pause = settings.seconds("address_verify_poll_delay")
        self._own = ProbeSender(settings)

    async def check(self, address: str) -> Verdict:
        if not address or self._own.known(unquote(address), time_of_day(self._tools.clock)) is not None:
            return DUNNO  # whoever verifies the sender of our probes would be asked by us in turn
        destination = await self._tools.addresses.destination(address)
        subject = f"<{unquote(address)}>: {self._kind} rejected"
        status, text = await self._ask(quote(destination.address))
        if status == OK:
            return DUNNO
        if not status:
            return self._defer(450, "4.3.0", f"{subject}: Address lookup failure")
        text = self._reason or text
        if status == BOUNCED and self._reject_code >= 500:
            return refuse(self._reject_code, f"5.{self._detail}", f"{subject}: undeliverable address: {text}")
        code = self._reject_code if status == BOUNCED else self._defer_code
        return self._defer(code, f"4.{self._detail}", f"{subject}: unverified address: {text}")

    async def _ask(self, address: str) -> tuple[str, str]:
        """The status and the reason; "" = nobody could tell."""
        ask = self._tools.verify
        if ask is None:
            return "", ""
        for count in range(self._times):
            try:
                status, text = await ask(address)
            except Exception as problem:
                self._tools.log.warning(PROGRAM, f"verify service failure: {problem}")
                return "", ""
            if status != WAITING:
                break
            if count < self._times - 1:
                await deferLater(self._tools.clock, self._pause)
        return status, text


@restriction("reject_unverified_sender")
def sender(tools: Toolbox, arguments: Arguments) -> IRestriction:
    verification = Verification(tools, "sender")

    async def check(session: Session) -> Verdict:
        return await verification.check(session.sender or "")

    return Asking("reject_unverified_sender", check)


@restriction("reject_unverified_recipient")
def recipient(tools: Toolbox, arguments: Arguments) -> IRestriction:
    verification = Verification(tools, "recipient")

    async def check(session: Session) -> Verdict:
        return await verification.check(session.recipient or "")

    return Asking("reject_unverified_recipient", check)
