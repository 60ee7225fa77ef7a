"""Restrictions on sender and recipient: where they lead, and whether they exist."""

from __future__ import annotations

from collections.abc import Callable

from gateway.addresses.recipients import Destination
from gateway.addresses.syntax import unquote, valid_hostname
from gateway.interfaces import AddressClass, DNSError, IRestriction
from gateway.policy.existence import Existence, existence
from gateway.policy.registry import Arguments, Asking, Plain, Toolbox, restriction
from gateway.policy.session import RECIPIENT, SENDER, Session
from gateway.policy.tempfail import tempfail
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, refuse

_FINAL = frozenset((AddressClass.LOCAL, AddressClass.VIRTUAL_ALIAS, AddressClass.VIRTUAL_MAILBOX))


# --- relaying --------------------------------------------------------------------------------------------------


def _authorized(destination: Destination, allow_untrusted_routing: bool) -> bool:
    """permit_auth_destination: mail for us or for relay_domains, without a further route in the address."""
    if "@" not in destination.address:
        return True
    if destination.routed and not allow_untrusted_routing:
        return False
    return destination.address_class is not AddressClass.DEFAULT


@restriction("permit_auth_destination")
def auth_destination(tools: Toolbox, arguments: Arguments) -> IRestriction:
    untrusted = tools.settings.flag("allow_untrusted_routing")

    async def check(session: Session) -> Verdict:
        if session.recipient is None:
            return DUNNO
        destination = await tools.destination(session, session.recipient)
        return PERMIT if _authorized(destination, untrusted) else DUNNO

    return Asking("permit_auth_destination", check)


def _unauthorized(tools: Toolbox, name: str, code: int, dsn: str) -> IRestriction:
    untrusted = tools.settings.flag("allow_untrusted_routing")

    async def check(session: Session) -> Verdict:
        if session.recipient is None:
            return DUNNO
        destination = await tools.destination(session, session.recipient)
        if _authorized(destination, untrusted):
            return DUNNO
        return refuse(code, dsn, f"<{unquote(session.recipient)}>: Relay access denied")

    return Asking(name, check)


@restriction("reject_unauth_destination")
def reject_unauth_destination(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("relay_domains_reject_code")
    return _unauthorized(tools, "reject_unauth_destination", code, "5.7.1")


@restriction("defer_unauth_destination")
def defer_unauth_destination(tools: Toolbox, arguments: Arguments) -> IRestriction:
    code = tools.settings.number("relay_domains_reject_code") - 100
    return _unauthorized(tools, "defer_unauth_destination", code, "4.7.1")


# --- existence of users ----------------------------------------------------------------------------------------


@restriction("reject_unlisted_recipient", "check_recipient_maps")
def unlisted_recipient(tools: Toolbox, arguments: Arguments) -> IRestriction:
    exempt = "no_unknown_recipient_checks" in tools.settings.words("receive_override_options")

    async def check(session: Session) -> Verdict:
        if not session.recipient or session.recipient_checked or exempt:
            return DUNNO
        if not session.warning:
            session.recipient_checked = True
        return await _unlisted(tools, session, session.recipient, RECIPIENT)

    return Asking("reject_unlisted_recipient", check)


@restriction("reject_unlisted_sender")
def unlisted_sender(tools: Toolbox, arguments: Arguments) -> IRestriction:
    exempt = "no_unknown_recipient_checks" in tools.settings.words("receive_override_options")

    async def check(session: Session) -> Verdict:
        if not session.sender or session.sender_checked or exempt:
            return DUNNO
        if not session.warning:
            session.sender_checked = True
        return await _unlisted(tools, session, session.sender, SENDER)

    return Asking("reject_unlisted_sender", check)


async def _unlisted(tools: Toolbox, session: Session, address: str, kind: str) -> Verdict:
    destination = await tools.destination(session, address)
    unknown = await tools.addresses.unknown_user(destination, kind == SENDER)
    if unknown is None:
        return DUNNO
    return refuse(unknown.code, unknown.dsn, f"<{unquote(address)}>: {kind} rejected: {unknown.text}")


# --- form and DNS ----------------------------------------------------------------------------------------------


def _non_fqdn(tools: Toolbox, name: str, kind: str, of: Callable[[Session], str | None]) -> IRestriction:
    code = tools.settings.number("non_fqdn_reject_code")

    def answer(session: Session) -> Verdict:
        address = of(session)
        if not address:
            return DUNNO
        inner = unquote(address)
        domain = inner.rpartition("@")[2] if "@" in inner else ""
        if domain.startswith("[") and domain.endswith("]"):
            return DUNNO
        if "@" in inner and valid_hostname(domain.removesuffix(".")) and "." in domain.rstrip("."):
            return DUNNO
        if kind == RECIPIENT and inner.lower() == "postmaster":
            return DUNNO
        return refuse(code, "5.5.2", f"<{inner}>: {kind} rejected: need fully-qualified address")

    return Plain(name, answer)


@restriction("reject_non_fqdn_sender")
def non_fqdn_sender(tools: Toolbox, arguments: Arguments) -> IRestriction:
    return _non_fqdn(tools, "reject_non_fqdn_sender", SENDER, lambda session: session.sender)


@restriction("reject_non_fqdn_recipient")
def non_fqdn_recipient(tools: Toolbox, arguments: Arguments) -> IRestriction:
    return _non_fqdn(tools, "reject_non_fqdn_recipient", RECIPIENT, lambda session: session.recipient)


def _unknown_domain(tools: Toolbox, name: str, kind: str, of: Callable[[Session], str | None]) -> IRestriction:
    code = tools.settings.number("unknown_address_reject_code")
    on_error = tempfail(tools.settings, "unknown_address_tempfail_action")
    dsn = "4.1.8" if kind == SENDER else "4.1.2"
    null_mx = (550, "5.7.27") if kind == SENDER else (556, "5.1.10")

    async def check(session: Session) -> Verdict:
        address = of(session)
        if not address:
            return DUNNO
        destination = await tools.destination(session, address)
        domain = destination.address.rpartition("@")[2] if "@" in destination.address else ""
        if not domain or domain.startswith("[") or destination.address_class in _FINAL:
            return DUNNO
        inner = unquote(address)
        text = f"<{inner}>: {kind} rejected: Domain not found"
        try:
            found = await existence(tools.resolver, domain, tools.log)
        except DNSError:
            return on_error(450, dsn, text)
        if found is Existence.NULL_MX:
            return refuse(*null_mx, f"<{inner}>: {kind} rejected: Domain {domain} does not accept mail (nullMX)")
        return DUNNO if found is Existence.KNOWN else refuse(code, dsn, text)

    return Asking(name, check)


@restriction("reject_unknown_sender_domain", "reject_unknown_address")
def unknown_sender_domain(tools: Toolbox, arguments: Arguments) -> IRestriction:
    return _unknown_domain(tools, "reject_unknown_sender_domain", SENDER, lambda session: session.sender)


@restriction("reject_unknown_recipient_domain")
def unknown_recipient_domain(tools: Toolbox, arguments: Arguments) -> IRestriction:
    return _unknown_domain(tools, "reject_unknown_recipient_domain", RECIPIENT, lambda session: session.recipient)
