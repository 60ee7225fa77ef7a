"""DNS lists: reject_rbl_client, reject_rhsbl_*, permit_dnswl_client, permit_rhswl_client; postconf(5), RFC 5782.

A list is "domain" or "domain=filter", where the filter is an IPv4 address whose parts may be "[a..b;c]" patterns.  The
reply is made from the entry of rbl_reply_maps for the list as it is written, or from default_rbl_reply.  A list that
does not answer is passed over with a warning (a list that permits: what comes behind defers rather than rejects).  A
list does not permit what reject_unauth_destination would refuse.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from gateway.addresses.syntax import unquote
from gateway.clock import time_of_day
from gateway.config.expand import ExpandError
from gateway.dns_filter import DROPS_ALL, drops_all
from gateway.interfaces import DNSError, IRestriction, TableError
from gateway.policy import session as facts
from gateway.policy.evaluator import PROGRAM
from gateway.policy.macros import Macros
from gateway.policy.mail_addresses import auth_destination
from gateway.policy.registry import Arguments, Asking, RestrictionError, Toolbox, restriction
from gateway.policy.session import Session
from gateway.policy.verdict import DUNNO, PERMIT, Verdict, defer_if_reject, misconfigured, refuse

_REPLY = re.compile(r"([45]\d\d) (?:([245]\.\d{1,3}\.\d{1,3})(?: +|\Z))?(.*)", re.DOTALL | re.ASCII)
_OCTET = r"(?:\d{1,3}|\[[\d.;]+\])"
_FILTER = re.compile(rf"({_OCTET})\.({_OCTET})\.({_OCTET})\.({_OCTET})\Z")
_LONGEST_TEXT = 500


class DnsList:
    """One list.  Raises RestrictionError for a filter that is none."""

    def __init__(self, tools: Toolbox, word: str, restriction_name: str) -> None:
        self.word = word
        self.domain, _, pattern = word.partition("=")
        self._tools = tools
        self._filter: list[str] | None = None
        if pattern:
            match = _FILTER.match(pattern)
            if match is None:
                raise RestrictionError(f'restriction {restriction_name}: bad filter "{pattern}" in "{word}"')
            self._filter = list(match.groups())

    async def has(self, question: str) -> bool:
        """Raises DNSError, about which the log has been told."""
        name = f"{question}.{self.domain}"
        try:
            records = await self._tools.resolver.query(name, "A")
        except DNSError as error:
            if error.temporary:
                self._tools.log.warning(PROGRAM, f"{name}: RBL lookup error: {error}")
                raise
            return False
        return any(self._fits(str(getattr(record, "address", ""))) for record in records)

    async def text(self, question: str) -> str:
        """What goes with an entry: the first string of each of its records."""
        name = f"{question}.{self.domain}"
        try:
            records = await self._tools.resolver.query(name, "TXT")
        except DNSError as error:
            if drops_all(error):
                self._tools.log.warning(PROGRAM, f"{name}: TXT lookup error: {DROPS_ALL}")
            return ""
        texts = [bytes(strings[0]) for record in records if (strings := getattr(record, "strings", ()))]
        return " / ".join(text.decode("ascii", "replace") for text in texts)[:_LONGEST_TEXT]

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


class _Replies:
    """rbl_reply_maps, default_rbl_reply."""

    def __init__(self, tools: Toolbox) -> None:
        settings = tools.settings
        self._log = tools.log
        self._clock = tools.clock
        self._macros = Macros(settings, tools.log, PROGRAM)
        self._default = settings.raw("default_rbl_reply")
        self._code = settings.number("maps_rbl_reject_code")
        words = settings.words("rbl_reply_maps")
        self._maps = tools.tables.maps(words, settings, title="rbl_reply_maps", program=PROGRAM)

    async def verdict(self, found: DnsList, session: Session, kind: str, what: str, text: str) -> Verdict:
        of_list = {
            "rbl_code": str(self._code),
            "rbl_class": kind,
            "rbl_what": what,
            "rbl_domain": found.domain,
            "rbl_reason": text,
            "rbl_txt": text,
        }
        try:
            own = await self._maps.find(found.word)
        except TableError:
            return misconfigured()
        now = time_of_day(self._clock)
        if own is not None:
            try:
                return self._made(self._macros.expand(own.value, session, now, of_list, strict=True))
            except ExpandError:
                about = f"bad rbl reply template for domain {found.word}: {own.value}"
                self._log.warning(PROGRAM, f"rbl_reject_reply: {about}")
        try:
            return self._made(self._macros.expand(self._default, session, now, of_list, strict=True))
        except ExpandError as error:
            self._log.warning(PROGRAM, f"default_rbl_reply: bad default rbl reply template: {error}")
            return misconfigured()

    def _made(self, text: str) -> Verdict:
        match = _REPLY.match(text)
        if match is None:
            self._log.warning(PROGRAM, f"rbl response code configuration error: {text}")
            return refuse(450, "4.7.1", "Service unavailable")
        return refuse(int(match[1]), match[2] or "4.7.1", match[3] or "Service unavailable")


Named = Callable[[Session], "tuple[str | None, str]"]
"""What to ask a list for, and what the reply names."""


def _address(session: Session) -> tuple[str | None, str]:
    return _reversed(session.client_address), session.client_address


def _domain(name: str | None) -> tuple[str | None, str]:
    """Of a host or a mail address."""
    name = unquote(name or "")
    domain = name.rpartition("@")[2]
    usable = domain and not domain.startswith("[") and not domain.rpartition(".")[2].isdigit() and name != "unknown"
    return (domain if usable else None), name


def _refusing(name: str, kind: str, named: Named) -> None:
    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        found = DnsList(tools, arguments.need(name, "a domain name"), name)
        replies = _Replies(tools)

        async def check(session: Session) -> Verdict:
            question, what = named(session)
            try:
                if question is None or not await found.has(question):
                    return DUNNO
            except DNSError:
                return DUNNO
            return await replies.verdict(found, session, kind, what, await found.text(question))

        return Asking(f"{name} {found.word}", check)


def _permitting(name: str, named: Named) -> None:
    @restriction(name)
    def make(tools: Toolbox, arguments: Arguments) -> IRestriction:
        found = DnsList(tools, arguments.need(name, "a domain name"), name)
        authorized = auth_destination(tools, Arguments((), name))

        async def check(session: Session) -> Verdict:
            question, what = named(session)
            if question is None or (session.recipient is not None and await authorized.check(session) is not PERMIT):
                return DUNNO
            try:
                return PERMIT if await found.has(question) else DUNNO
            except DNSError:
                return defer_if_reject(450, "4.7.1", f"<{what}>: {facts.CLIENT} rejected: Service unavailable")

        return Asking(f"{name} {found.word}", check)


_refusing("reject_rbl_client", facts.CLIENT, _address)
_refusing("reject_rbl", facts.CLIENT, _address)
_refusing("reject_rhsbl_client", facts.CLIENT, lambda session: _domain(session.client_name))
_refusing("reject_rhsbl_reverse_client", facts.REVERSE_CLIENT, lambda session: _domain(session.reverse_name))
_refusing("reject_rhsbl_helo", facts.HELO, lambda session: _domain(session.helo))
_refusing("reject_rhsbl_sender", facts.SENDER, lambda session: _domain(session.sender))
_refusing("reject_rhsbl_recipient", facts.RECIPIENT, lambda session: _domain(session.recipient))
_permitting("permit_dnswl_client", _address)
_permitting("permit_rhswl_client", lambda session: _domain(session.client_name))
