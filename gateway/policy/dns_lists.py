"""DNS lists: reject_rbl_client, reject_rhsbl_*, permit_dnswl_client; postconf(5), RFC 5782.

A list is "domain" or "domain=filter", where the filter is an IPv4 address whose parts may be "[a..b;c]" patterns.  The
reply is made from rbl_reply_maps or default_rbl_reply.  A list that does not answer is passed over with a warning
(permit_dnswl_client: what comes behind defers rather than rejects).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from gateway.addresses.syntax import unquote, valid_hostname
from gateway.config.expand import ExpandError, expand
from gateway.interfaces import DNSError, IRestriction
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, defer_if_reject, refuse

_REPLY = re.compile(r"(\d{3})\s+(?:([245]\.\d{1,3}\.\d{1,3})\s+)?(.*)", re.DOTALL)
_OCTET = r"(?:\d{1,3}|\[[\d.;]+\])"
_FILTER = re.compile(rf"({_OCTET})\.({_OCTET})\.({_OCTET})\.({_OCTET})\Z")


class DnsList:
    """One list.  Raises RestrictionError for a filter that is none."""

    def __init__(self, tools: Toolbox, word: str, restriction_name: str) -> None:
        self.domain, _, pattern = word.partition("=")
        self._tools = tools
        self._filter: list[str] | None = None
        if pattern:
            match = _FILTER.match(pattern)
            if match is None:
                raise RestrictionError(f'restriction {restriction_name}: bad filter "{pattern}" in "{word}"')
            self._filter = list(match.groups())

    async def listed(self, question: str) -> str | None:
        """The text that goes with an entry ("" if there is none); None: not listed.  Raises DNSError."""
        name = f"{question}.{self.domain}"
        try:
            records = await self._tools.resolver.query(name, "A")
        except DNSError as error:
            if error.temporary:
                raise
            return None
        if not any(self._fits(str(getattr(record, "address", ""))) for record in records):
            return None
        try:
            texts = await self._tools.resolver.query(name, "TXT")
        except DNSError as error:
            self._tools.log.warning(PROGRAM, f"{name}: TXT lookup error: {error}")
            return ""
        parts = getattr(texts[0], "strings", ()) if texts else ()
        return b"".join(parts).decode("ascii", "replace")

    def _fits(self, address: str) -> bool:
        if self._filter is None:
            return bool(address)
        parts = address.split(".")
        return len(parts) == 4 and all(map(_octet_fits, self._filter, parts))


def _octet_fits(pattern: str, octet: str) -> bool:
    if not pattern.startswith("["):
        return pattern == octet
    for piece in pattern[1:-1].split(";"):
        low, dots, high = piece.partition("..")
        if low.isdigit() and int(low) <= int(octet) <= int(high if dots and high.isdigit() else low):
            return True
    return False


def _reversed(address: str) -> str | None:
    try:
        pointer = ipaddress.ip_address(address).reverse_pointer
    except ValueError:
        return None
    return pointer.rpartition(".")[0].rpartition(".")[0]  # without in-addr.arpa, ip6.arpa


def _reply(tools: Toolbox, found: DnsList, kind: str, what: str, reason: str, code: int) -> Verdict:
    facts_of_reply = {
        "rbl_code": str(code),
        "rbl_class": kind,
        "rbl_what": what,
        "rbl_domain": found.domain,
        "rbl_reason": reason,
        "rbl_txt": reason,
        "recipient": what,
    }
    try:
        text = expand(tools.settings.raw("default_rbl_reply"), lambda name: facts_of_reply.get(name, ""))
    except ExpandError as error:
        tools.log.warning(PROGRAM, f"default_rbl_reply: bad default rbl reply template: {error}")
        text = f"{code} Service unavailable; {kind} [{what}] blocked using {found.domain}"
    match = _REPLY.match(text)
    if match is None or match[1][0] not in "45":
        return refuse(code, "5.7.1", f"Service unavailable; {kind} [{what}] blocked using {found.domain}")
    return refuse(int(match[1]), match[2] or f"{match[1][0]}.7.1", match[3])


def _by_address(name: str) -> Callable[[Toolbox, Arguments], IRestriction]:
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        found = DnsList(tools, arguments.need(name, "a domain name"), name)
        code = tools.settings.number("maps_rbl_reject_code")

        async def check(session: Session) -> Verdict:
            question = _reversed(session.client_address)
            if question is None:
                return DUNNO
            try:
                reason = await found.listed(question)
            except DNSError as error:
                tools.log.warning(PROGRAM, f"{question}.{found.domain}: RBL lookup error: {error}")
                return DUNNO
            if reason is None:
                return DUNNO
            return _reply(tools, found, facts.CLIENT, session.client_address, reason, code)

        return Asking(f"{name} {found.domain}", check)

    return make


restriction("reject_rbl_client", "reject_rbl")(_by_address("reject_rbl_client"))


@restriction("permit_dnswl_client")
def dnswl_client(tools: Toolbox, arguments: Arguments) -> IRestriction:
    found = DnsList(tools, arguments.need("permit_dnswl_client", "a domain name"), "permit_dnswl_client")

    async def check(session: Session) -> Verdict:
        question = _reversed(session.client_address)
        if question is None:
            return DUNNO
        try:
            return DUNNO if await found.listed(question) is None else PERMIT
        except DNSError as error:
            tools.log.warning(PROGRAM, f"{question}.{found.domain}: RBL lookup error: {error}")
            return defer_if_reject(450, "4.7.1", f"<{session.client}>: {facts.CLIENT} rejected: Service unavailable")

    return Asking(f"permit_dnswl_client {found.domain}", check)


Named = Callable[[Session], tuple[str | None, str]]
"""The domain to ask for, and what the reply names."""


def _mail(address: str | None) -> tuple[str | None, str]:
    inner = unquote(address or "")
    return (inner.rpartition("@")[2] if "@" in inner else None), inner


def _by_name(name: str, kind: str, of: Named) -> None:
    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        found = DnsList(tools, arguments.need(name, "a domain name"), name)
        code = tools.settings.number("maps_rbl_reject_code")

        async def check(session: Session) -> Verdict:
            domain, what = of(session)
            if not domain or not valid_hostname(domain) or domain == "unknown":
                return DUNNO
            try:
                reason = await found.listed(domain)
            except DNSError as error:
                tools.log.warning(PROGRAM, f"{domain}.{found.domain}: RBL lookup error: {error}")
                return DUNNO
            return DUNNO if reason is None else _reply(tools, found, kind, what, reason, code)

        return Asking(f"{name} {found.domain}", check)


_by_name("reject_rhsbl_client", facts.CLIENT, lambda session: (session.client_name, session.client_name))
_by_name(
    "reject_rhsbl_reverse_client", facts.REVERSE_CLIENT, lambda session: (session.reverse_name, session.reverse_name)
)
_by_name("reject_rhsbl_helo", facts.HELO, lambda session: (session.helo, session.helo or ""))
_by_name("reject_rhsbl_sender", facts.SENDER, lambda session: _mail(session.sender))
_by_name("reject_rhsbl_recipient", facts.RECIPIENT, lambda session: _mail(session.recipient))
