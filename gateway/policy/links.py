"""reject_link_limits: what the service that is responsible for a recipient does not take is refused while the client is
there: what is too much for the link to a UUCP neighbour, a fax number that must not be called.

The services that have such limits are asked (IAcceptance).  A recipient for whom another transport is responsible does
not concern it.
"""

from __future__ import annotations

from gateway.interfaces import IRestriction, Offer
from gateway.policy.registry import Arguments, Asking, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Verdict, refuse


@restriction("reject_link_limits")
def link_limits(tools: Toolbox, arguments: Arguments) -> IRestriction:
    async def check(session: Session) -> Verdict:
        if session.recipient is None:
            return DUNNO
        destination = await tools.destination(session, session.recipient)
        acceptance = tools.acceptances.get(destination.transport)
        if acceptance is None:
            return DUNNO
        refusal = await acceptance.refuse(
            Offer(
                destination.address, destination.nexthop, session.sender or "", session.size, session.client_address,
                session.sasl_username,
            )
        )
        if refusal is None:
            return DUNNO
        code, dsn, text = refusal
        return refuse(code, dsn, f"<{session.recipient}>: Recipient address rejected: {text}")

    return Asking("reject_link_limits", check)
