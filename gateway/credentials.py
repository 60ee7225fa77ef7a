"""What a client may log in with that Twisted has no interface for.

Beside gateway.interfaces, as twisted.cred loads much of Twisted, which commands that answer at once can do without.
"""

from __future__ import annotations

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute


class IBearerToken(ICredentials):
    """What a client has that logs in by OAUTHBEARER or XOAUTH2; a checker that takes these has it among its
    credentialInterfaces."""

    username = Attribute("Whom the client says it is; may be empty")
    token = Attribute("The bearer token, text")
