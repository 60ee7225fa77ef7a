"""Whether a domain exists: it has a mail exchanger, or an address of any kind, whatever inet_protocols says."""

from __future__ import annotations

from gateway.interfaces import DNSError, IResolver


async def is_known(resolver: IResolver, domain: str) -> bool:
    """Raises DNSError if that cannot be told now: nothing was found, and one of the questions was not answered."""
    unanswered: DNSError | None = None
    for type_ in ("MX", "A", "AAAA"):
        try:
            if await resolver.query(domain, type_):
                return True
        except DNSError as error:
            if error.temporary:
                unanswered = error
    if unanswered is not None:
        raise unanswered
    return False
