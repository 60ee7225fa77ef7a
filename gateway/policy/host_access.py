"""check_*_{mx,ns,a}_access: access tables asked for the servers behind a domain; postconf(5).

The domain's mail exchangers (mx: the domain itself if it has none), name servers (ns: those of the nearest parent
domain that has some) or the domain itself (a) are looked up by name and by each of their addresses.  The first entry
found decides, DUNNO as well; but OK is an error: whoever owns a domain can point its MX anywhere.  An address literal
is its own server.  A look-up that fails is one warning.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.addresses.syntax import literal_address, unquote, valid_hostname
from gateway.dns import NO_DATA
from gateway.dns_filter import short_reason
from gateway.interfaces import DNSError, IRestriction
from gateway.policy import session as facts
from gateway.policy.access import Access
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, Verdict

_MOST_HOSTS = 100

Named = Callable[[Session], tuple[str | None, str]]
"""The domain, and what the reply names."""


async def _servers(tools: Toolbox, name: str, domain: str, type_: str) -> list[str]:
    """The hosts to look at for the domain of a name.  Raises DNSError with whom it is about and what is wrong."""
    if type_ == "A":
        return [domain]
    if type_ == "NS":
        return await _name_servers(tools, name, domain)
    try:
        found = [each.host for each in await tools.resolver.mx(domain)]
    except DNSError as error:
        if error.temporary:
            raise DNSError(f"{domain}: {short_reason(error)}", temporary=True) from None
        found = []
    if found == [""]:
        return []
    return [host for host in found if host] or [domain]


async def _name_servers(tools: Toolbox, name: str, domain: str) -> list[str]:
    words = ""
    while domain:
        try:
            records = await tools.resolver.query(domain, "NS")
        except DNSError as error:
            words = short_reason(error)
            if error.temporary:
                raise DNSError(f"{domain}: {words}", temporary=True) from None
        else:
            words = NO_DATA
            if records:
                names = [str(getattr(record, "target", "")).rstrip(".").lower() for record in records]
                return [name for name in names if valid_hostname(name)]
        domain = domain.partition(".")[2]
    raise DNSError(f"{name}: {words}", temporary=False)


async def _check(tools: Toolbox, access: Access, session: Session, named: Named, kind: str, type_: str) -> Verdict:
    name, subject = named(session)
    domain = (name or "").rpartition("@")[2]
    if domain.startswith("["):
        return await _literal(access, session, domain, kind, subject) if type_ != "NS" else DUNNO
    domain = domain.removesuffix(".")
    if not name or not domain:
        return DUNNO
    try:
        hosts = await _servers(tools, name, domain, type_)
    except DNSError as error:
        tools.log.warning(PROGRAM, f"Unable to look up {type_} host for {error}")
        return DUNNO
    for host in hosts[:_MOST_HOSTS]:
        found = await _entry(tools, access, session, host, (kind, subject, type_))
        if found is not None:
            return found
    return DUNNO


async def _literal(access: Access, session: Session, domain: str, kind: str, subject: str) -> Verdict:
    address = literal_address(domain)
    return address is not None and await access.network(session, address, kind, subject) or DUNNO


async def _entry(
    tools: Toolbox, access: Access, session: Session, host: str, what: tuple[str, str, str]
) -> Verdict | None:
    """What the table says of a host; None: nothing."""
    kind, subject, type_ = what
    literal = literal_address(f"[{host}]")
    if literal is None and type_ != "A":
        found = await access.domain(session, host, kind, subject)
        if found is not None:
            return found
    try:
        addresses = [literal] if literal is not None else await tools.resolver.native(host)
    except DNSError as error:
        if type_ != "A":
            about = f"{type_} host {host} for {kind} {subject}"
            tools.log.warning(PROGRAM, f"Unable to look up {about}: {short_reason(error)}")
        return None
    for address in addresses[:_MOST_HOSTS]:
        found = await access.network(session, address, kind, subject)
        if found is not None:
            return found
    return None


def _host(name: str | None, subject: str) -> tuple[str | None, str]:
    return (None if name == "unknown" else name), subject


def _mail(address: str | None) -> tuple[str | None, str]:
    inner = unquote(address or "")
    return inner, inner


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
            verdict = await _check(tools, access, session, named, kind, type_)
            return access.without_ok(verdict, name, named(session)[1])

        return Asking(f"{name} {spec}", check)


for _what, (_kind, _named) in _NAMED.items():
    for _type in ("MX", "NS", "A"):
        _register(_what, _kind, _named, _type)
