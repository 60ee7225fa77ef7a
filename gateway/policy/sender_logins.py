"""reject_…_sender_login_mismatch: a sender address may belong to logins; smtpd_sender_login_maps, postconf(5).

An address is looked for as user+ext@domain, user@domain, user (for domains of this site), @domain; what is found are
the logins that may use it.
"""

from __future__ import annotations

from gateway.addresses.basis import Basis
from gateway.addresses.find import AddressFinder
from gateway.addresses.syntax import unquote
from gateway.interfaces import IRestriction
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Verdict, refuse

PARAMETER = "smtpd_sender_login_maps"


def _rejected(sender: str, why: str) -> Verdict:
    return refuse(553, "5.7.1", f"<{sender}>: {facts.SENDER} rejected: {why}")


def _register(name: str, *, logged_in: bool, strangers: bool, unknown_good: bool = False) -> None:
    """``logged_in``, ``strangers``: whose senders are looked at.  ``unknown_good``: an address that belongs to nobody
    may be used by anybody who has logged in."""

    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        if not tools.settings.flag("smtpd_sasl_auth_enable"):
            tools.log.warning(PROGRAM, f"restriction `{name}' ignored: no SASL support")
            return Asking(name, _ignored)
        finder = Basis.of(tools.settings, tools.tables, tools.own_addresses).finder(PARAMETER, PROGRAM)

        async def check(session: Session) -> Verdict:
            if not session.sender:
                return DUNNO
            if session.sasl_username:
                return await _of_user(tools, finder, session, unknown_good) if logged_in else DUNNO
            return await _of_stranger(tools, finder, session) if strangers else DUNNO

        return Asking(name, check)


async def _ignored(session: Session) -> Verdict:
    return DUNNO


async def _owners(tools: Toolbox, finder: AddressFinder, session: Session) -> list[str] | None:
    """None: nobody owns the sender's address.  Raises TableError."""
    destination = await tools.destination(session, session.sender or "")
    found = await finder.find(destination.address)
    return None if found is None else found.value.replace(",", " ").lower().split()


async def _of_user(tools: Toolbox, finder: AddressFinder, session: Session, unknown_good: bool) -> Verdict:
    owners = await _owners(tools, finder, session)
    if session.sasl_username.lower() in (owners or ()) or (owners is None and unknown_good):
        return DUNNO
    return _rejected(unquote(session.sender or ""), f"not owned by user {session.sasl_username}")


async def _of_stranger(tools: Toolbox, finder: AddressFinder, session: Session) -> Verdict:
    if await _owners(tools, finder, session) is None:
        return DUNNO
    return _rejected(unquote(session.sender or ""), "not logged in")


_register("reject_sender_login_mismatch", logged_in=True, strangers=True)
_register("reject_authenticated_sender_login_mismatch", logged_in=True, strangers=False)
_register("reject_known_sender_login_mismatch", logged_in=True, strangers=False, unknown_good=True)
_register("reject_unauthenticated_sender_login_mismatch", logged_in=False, strangers=True)
