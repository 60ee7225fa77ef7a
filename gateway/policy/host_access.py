"""check_*_{mx,ns,a}_access: access tables asked for the servers behind a domain; postconf(5).

The domain's mail exchangers (mx: the domain itself if it has none), name servers (ns: those of the nearest parent
domain that has some) or the domain itself (a) are looked up by name and by each of their addresses.  The first entry
found decides, but OK counts for nothing: whoever owns a domain can point its MX anywhere.  A look-up that fails is one
warning.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.addresses.syntax import unquote, valid_hostname
from gateway.interfaces import DNSError, IRestriction
from gateway.policy import session as facts
from gateway.policy.access import Access
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Outcome, Verdict

_MOST_HOSTS = 100

Named = Callable[[Session], tuple[str | None, str]]
"""The domain, and what the reply names."""


async def _servers(tools: Toolbox, domain: str, type_: str) -> list[str]:
    """The hosts to look at.  Raises DNSError."""
    if type_ == "A":
        return [domain]
    if type_ == "MX":
        found = [each.host for each in await tools.resolver.mx(domain) if each.host]
        return found or [domain]
    while True:
        records = await _name_servers(tools, domain)
        if records or domain.count(".") < 2:
            return records
        domain = domain.partition(".")[2]


async def _name_servers(tools: Toolbox, domain: str) -> list[str]:
    try:
        records = await tools.resolver.query(domain, "NS")
    except DNSError as error:
        if error.temporary:
            raise
        return []
    names = [str(getattr(record, "target", "")).rstrip(".").lower() for record in records]
    return [name for name in names if valid_hostname(name)]


async def _check(tools: Toolbox, access: Access, session: Session, named: Named, kind: str, type_: str) -> Verdict:
    domain, subject = named(session)
    if not domain or domain.startswith("[") or not valid_hostname(domain.removesuffix(".")):
        return DUNNO
    domain = domain.removesuffix(".")
    try:
        hosts = await _servers(tools, domain, type_)
    except DNSError as error:
        tools.log.warning(PROGRAM, f"Unable to look up {type_} host for {domain}: {_short(error)}")
        return DUNNO
    for host in hosts[:_MOST_HOSTS]:
        verdict = await access.domain(session, host, kind, subject)
        if verdict.outcome is Outcome.DUNNO:
            verdict = await _by_addresses(tools, access, session, (host, subject, domain), kind, type_)
        if verdict.outcome is not Outcome.DUNNO:
            return DUNNO if verdict.outcome is Outcome.PERMIT else verdict
    return DUNNO


async def _by_addresses(
    tools: Toolbox, access: Access, session: Session, names: tuple[str, str, str], kind: str, type_: str
) -> Verdict:
    host, subject, domain = names
    try:
        addresses = await tools.resolver.addresses(host)
    except DNSError as error:
        tools.log.warning(PROGRAM, f"Unable to look up {type_} host {host} for {kind} {domain}: {_short(error)}")
        return DUNNO
    for address in addresses[:_MOST_HOSTS]:
        verdict = await access.network(session, address, kind, subject)
        if verdict.outcome is not Outcome.DUNNO:
            return verdict
    return DUNNO


def _short(error: DNSError) -> str:
    """The last part of a resolver's text: "Host not found, try again"."""
    return str(error).rpartition(": ")[2]


def _mail(address: str | None) -> tuple[str | None, str]:
    inner = unquote(address or "")
    return (inner.rpartition("@")[2] if "@" in inner else None), inner


def _host(name: str | None, subject: str) -> tuple[str | None, str]:
    return (None if name == "unknown" else name), subject


_NAMED: dict[str, tuple[str, Named]] = {
    "client": (facts.CLIENT, lambda session: _host(session.client_name, session.client)),
    "reverse_client_hostname": (
        facts.REVERSE_CLIENT,
        lambda session: _host(session.reverse_name, session.reverse_name),
    ),
    "helo": (facts.HELO, lambda session: _host(session.helo, session.helo or "")),
    "sender": (facts.SENDER, lambda session: _mail(session.sender)),
    "recipient": (facts.RECIPIENT, lambda session: _mail(session.recipient)),
}


def _register(what: str, kind: str, named: Named, type_: str) -> None:
    name = f"check_{what}_{type_.lower()}_access"

    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        spec = arguments.need(name, "a lookup table (type:name)")
        if ":" not in spec:
            raise RestrictionError(f'restriction {name}: bad argument "{spec}": need maptype:mapname')
        access = Access(tools, spec, f"check_{what}_access")

        async def check(session: Session) -> Verdict:
            return await _check(tools, access, session, named, kind, type_)

        return Asking(f"{name} {spec}", check)


for _what, (_kind, _named) in _NAMED.items():
    for _type in ("MX", "NS", "A"):
        _register(_what, _kind, _named, _type)
