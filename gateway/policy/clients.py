"""Restrictions on the client and its HELO name."""

from __future__ import annotations

from gateway.addresses.syntax import is_numeric, literal_address, valid_hostname
from gateway.interfaces import DNSError, IRestriction
from gateway.policy.existence import Existence, existence
from gateway.policy.registry import Arguments, Asking, Plain, Toolbox, restriction
from gateway.policy.session import HELO, NAME_OK, NAME_PERMANENT, Session
from gateway.policy.tempfail import tempfail
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, refuse


@restriction("permit_mynetworks")
def mynetworks(tools: Toolbox, arguments: Arguments) -> IRestriction:
    networks = tools.tables.address_list("mynetworks", tools.settings)

    async def check(session: Session) -> Verdict:
        inside = networks.match_now(session.client_address, session.client_name)
        if inside is None:
            inside = await networks.match(session.client_address, session.client_name)
        return PERMIT if inside else DUNNO

    return Asking("permit_mynetworks", check)


@restriction("permit_inet_interfaces")
def inet_interfaces(tools: Toolbox, arguments: Arguments) -> IRestriction:
    def answer(session: Session) -> Verdict:
        return PERMIT if session.client_address in tools.own_addresses else DUNNO

    return Plain("permit_inet_interfaces", answer)


@restriction("reject_unknown_client_hostname", "reject_unknown_client")
def unknown_client(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("unknown_client_reject_code")

    def answer(session: Session) -> Verdict:
        if session.name_status == NAME_OK:
            return DUNNO
        text = f"Client host rejected: cannot find your hostname, [{session.client_address}]"
        return refuse(code if session.name_status == NAME_PERMANENT else 450, "4.7.25", text)

    return Plain("reject_unknown_client_hostname", answer)


@restriction("reject_unknown_reverse_client_hostname")
def unknown_reverse(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("unknown_client_reject_code")

    def answer(session: Session) -> Verdict:
        if session.reverse_status == NAME_OK:
            return DUNNO
        text = f"Client host rejected: cannot find your reverse hostname, [{session.client_address}]"
        return refuse(code if session.reverse_status == NAME_PERMANENT else 450, "4.7.1", text)

    return Plain("reject_unknown_reverse_client_hostname", answer)


# --- HELO ------------------------------------------------------------------------------------------------------


def _literal(session: Session, name: str, code: int) -> Verdict:
    """A HELO name that begins with "[" has to be an address."""
    if literal_address(name) is not None:
        return DUNNO
    return refuse(code, "5.5.2", f"<{name}>: {HELO} rejected: invalid ip address")


@restriction("reject_invalid_helo_hostname", "reject_invalid_hostname")
def invalid_helo(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("invalid_hostname_reject_code")

    def answer(session: Session) -> Verdict:
        name = session.helo
        if name is None:
            return DUNNO
        if name.startswith("["):
            return _literal(session, name, code)
        if _valid(name) or is_numeric(name):
            return DUNNO
        return refuse(code, "5.5.2", f"<{name}>: {HELO} rejected: Invalid name")

    return Plain("reject_invalid_helo_hostname", answer)


@restriction("reject_non_fqdn_helo_hostname", "reject_non_fqdn_hostname")
def non_fqdn_helo(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("non_fqdn_reject_code")
    invalid = tools.settings.number("invalid_hostname_reject_code")

    def answer(session: Session) -> Verdict:
        name = session.helo
        if name is None:
            return DUNNO
        if name.startswith("["):
            return _literal(session, name, invalid)
        if _valid(name) and "." in name.rstrip("."):
            return DUNNO
        return refuse(code, "5.5.2", f"<{name}>: {HELO} rejected: need fully-qualified hostname")

    return Plain("reject_non_fqdn_helo_hostname", answer)


@restriction("reject_unknown_helo_hostname", "reject_unknown_hostname")
def unknown_helo(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("unknown_hostname_reject_code")
    invalid = tools.settings.number("invalid_hostname_reject_code")
    on_error = tempfail(tools.settings, "unknown_helo_hostname_tempfail_action")

    async def check(session: Session) -> Verdict:
        name = session.helo
        if name is None:
            return DUNNO
        if name.startswith("["):
            return _literal(session, name, invalid)
        text = f"<{name}>: {HELO} rejected: Host not found"
        try:
            possible = not is_numeric(name) and not name.endswith(".")
            found = await existence(tools.resolver, name, tools.log, host=True) if possible else Existence.UNKNOWN
        except DNSError:
            return on_error(450, "4.7.1", text)
        return refuse(code, "4.7.1", text) if found is Existence.UNKNOWN else DUNNO

    return Asking("reject_unknown_helo_hostname", check)


def _valid(name: str) -> bool:
    return name.isascii() and valid_hostname(name.removesuffix("."))
