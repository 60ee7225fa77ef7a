"""Whether a domain exists: it has a mail exchanger, or an address of any kind, whatever inet_protocols says."""

from __future__ import annotations

import enum

from gateway.dns_filter import DROPS_ALL, drops_all
from gateway.interfaces import MX, DNSError, IResolver, Log
from gateway.policy.evaluator import PROGRAM


class Existence(enum.Enum):
    UNKNOWN = enum.auto()
    KNOWN = enum.auto()
    NULL_MX = enum.auto()
    """It is there, and takes no mail (RFC 7505)."""


_NO_MAIL = [MX(0, "")]


async def existence(resolver: IResolver, domain: str, log: Log, *, host: bool = False) -> Existence:
    """``host``: it should be one, and may be a domain.  Raises DNSError if that cannot be told now: nothing was found,
    and one of the questions was not answered.  What smtpd_dns_reply_filter hides is there, with a warning."""
    unanswered: DNSError | None = None
    for type_ in ("A", "AAAA", "MX") if host else ("MX", "A", "AAAA"):
        try:
            found = await (resolver.mx(domain) if type_ == "MX" else resolver.query(domain, type_))
        except DNSError as error:
            if drops_all(error):
                what = "address or MX" if host else "MX or address"
                log.warning(PROGRAM, f"{domain}: {what} lookup error: {DROPS_ALL}")
                return Existence.KNOWN
            if error.temporary:
                unanswered = error
        else:
            if found:
                return Existence.NULL_MX if found == _NO_MAIL else Existence.KNOWN
    if unanswered is not None:
        raise unanswered
    return Existence.UNKNOWN
