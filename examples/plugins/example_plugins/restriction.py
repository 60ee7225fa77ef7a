"""python:full-helo — a restriction: a client's HELO name must have a dot or be an address literal.

    smtpd_helo_restrictions = permit_mynetworks, python:full-helo
"""

from zope.interface import implementer

from gateway.interfaces import IRestriction
from gateway.policy.verdict import DUNNO, refuse


@implementer(IRestriction)
class FullHelo:
    name = "python:full-helo"

    def __init__(self, settings, argument):
        self._text = argument or "your name has no domain"

    async def check(self, session):
        """``session`` knows client, helo, sender, recipient and more: gateway.policy.session.Session."""
        helo = session.helo or ""
        if "." in helo or ":" in helo:
            return DUNNO  # the next restriction decides
        return refuse(550, "5.7.1", f"<{helo}>: Helo command rejected: {self._text}")
