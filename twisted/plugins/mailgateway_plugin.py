"""Tells twistd that there is a mail gateway, and where it is made."""

from twisted.application.service import ServiceMaker

mailgateway = ServiceMaker(
    "mailgateway", "gateway.app", "A mail gateway that reads Postfix's configuration", "mailgateway"
)
