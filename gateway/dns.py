"""Names: DNS and the hosts file, behind gateway.interfaces.IResolver.

``DNSResolver`` gives host names and addresses as the SMTP client and server need them.  Names in answers are
lower-case, without the final dot and of safe characters only (letters, digits, ``._-``): a record with any other name
counts as unusable.  Errors are DNSError with Postfix's texts; temporary ones mean "try again later".

Where addresses come from (postconf(5)): ``smtp_host_lookup`` names DNS, the native service or both;
``disable_dns_lookups`` or ``smtp_dns_support_level = disabled`` leave only the native one.  Native means what
getaddrinfo(3) would do here: the sources of nsswitch.conf in their order (hosts file, then DNS with the search list of
resolv.conf), but without ever blocking.  ``smtp_dns_resolver_options`` (res_defnames, res_dnsrch) give plain DNS
look-ups a search list too.  ``inet_protocols`` says which kinds of addresses exist at all.

Answers are kept as long as their TTL says, at most an hour (a minute for "no such name"), at most CACHE_SIZE of them.
Equal questions that are on the way at the same time are asked once.  gateway.dns_client does the asking.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Protocol

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
import idna
from twisted.internet.defer import Deferred
from zope.interface import implementer

from gateway.dns_client import DNSClient, NoAnswer, Server
from gateway.dns_files import ResolvConf, WatchedFile, parse_hosts, parse_nsswitch, parse_resolv_conf
from gateway.dns_filter import RecordFilter
from gateway.interfaces import MX, DNSError, IResolver

CACHE_SIZE = 10_000
LONGEST_TTL, LONGEST_NEGATIVE_TTL = 3600.0, 60.0
MOST_RECORDS = 100
MOST_ALIASES = 10

NOT_FOUND = "Host not found"
TRY_AGAIN = "Host not found, try again"
NO_DATA = "Host found but no data record of requested type"
_NATIVE_NO_DATA = "No address associated with hostname"
MALFORMED = "Malformed or unexpected name server reply"

_ADDRESS_LIKE = re.compile(r"[0-9A-Fa-f.:]+(?:%|\Z)")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")


class SettingsLike(Protocol):
    """The part of gateway.config's Settings that is used here."""

    def text(self, name: str) -> str: ...

    def words(self, name: str) -> list[str]: ...

    def flag(self, name: str) -> bool: ...


class Lookup:
    """One answered question: the rdata; without any, ``exists`` tells "no such name" from "no data".

    ``until``: how long it may be kept, in seconds of the reactor's clock."""

    __slots__ = ("exists", "records", "until")

    def __init__(self, records: list[Any], exists: bool, until: float) -> None:
        self.records, self.exists, self.until = records, exists, until


class _Shared:
    """What all services have in common: files, client, cache."""

    def __init__(
        self,
        reactor: Any,
        *,
        servers: Sequence[Server] | None,
        resolv_conf: str,
        hosts: str,
        nsswitch: str,
        client: DNSClient | None,
    ) -> None:
        self.conf: WatchedFile[ResolvConf] = WatchedFile(resolv_conf, parse_resolv_conf)
        self.hosts = WatchedFile(hosts, parse_hosts)
        self.sources = WatchedFile(nsswitch, parse_nsswitch)
        self.client = client or DNSClient(reactor, lambda: self.conf.value, servers=servers)
        self._clock = reactor.seconds
        self._cache: dict[tuple[dns.name.Name, int], Lookup] = {}
        self._asked: dict[tuple[dns.name.Name, int], list[Deferred[Lookup | None]]] = {}

    async def look_up(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Lookup:
        """Raises NoAnswer."""
        key = (name, int(kind))
        known = self._cache.get(key)
        if known is not None:
            if known.until > self._clock():
                return known
            del self._cache[key]
        waiting = self._asked.get(key)
        if waiting is not None:
            turn: Deferred[Lookup | None] = Deferred()
            waiting.append(turn)
            answer = await turn
            if answer is None:
                raise NoAnswer
            return answer
        self._asked[key] = []
        found: Lookup | None = None
        try:
            found = await self._chase(name, kind)
            self._keep(key, found)
            return found
        finally:
            for turn in self._asked.pop(key):
                turn.callback(found)

    async def _chase(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Lookup:
        """Ask, and follow aliases that the answer itself does not follow to the end."""
        for _ in range(MOST_ALIASES):
            message = await self.client.ask(name, kind)
            found, target = read_records(message, name, kind, self._clock())
            if found is not None:
                return found
            name = target
        raise NoAnswer

    def _keep(self, key: tuple[dns.name.Name, int], found: Lookup) -> None:
        if len(self._cache) >= CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = found


def read_records(
    message: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType, now: float
) -> tuple[Lookup | None, dns.name.Name]:
    """The records of a name in an answer: (what was found, ""), or (None, alias) if another question is due."""
    ttl = LONGEST_TTL
    asked = name
    for _ in range(MOST_ALIASES):
        records = _rrset(message.answer, name, kind)
        if records is not None:
            return Lookup(list(records)[:MOST_RECORDS], True, now + min(ttl, records.ttl)), name
        alias = _rrset(message.answer, name, dns.rdatatype.CNAME)
        if alias is None or not len(alias):
            break
        ttl = min(ttl, alias.ttl)
        name = alias[0].target
    else:
        return None, name
    if name != asked and message.rcode() == dns.rcode.NOERROR and not _soa_ttl(message):
        return None, name
    negative = min(ttl, _soa_ttl(message), LONGEST_NEGATIVE_TTL)
    return Lookup([], message.rcode() != dns.rcode.NXDOMAIN, now + negative), name


def _rrset(section: list[Any], name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Any:
    for rrset in section:
        if rrset.name == name and rrset.rdtype == kind and rrset.rdclass == dns.rdataclass.IN:
            return rrset
    return None


def _soa_ttl(message: dns.message.Message) -> float:
    """RFC 2308 5: how long "there is none" holds; 0 without SOA."""
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA and len(rrset):
            return float(min(rrset.ttl, rrset[0].minimum))
    return 0.0


def safe_name(name: dns.name.Name) -> str:
    """The name as text, in the letters that its owner gave it, without the final dot; "" if it is unusable."""
    text = name.to_text(omit_final_dot=True)
    return text if len(text) <= 253 and ".." not in text and _SAFE_NAME.fullmatch(text) else ""


def to_name(host: str) -> dns.name.Name | None:
    """A host name for a question, international ones in their ASCII form (RFC 5891); None if it can be none."""
    host = host.rstrip(".")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    if not host or not _SAFE_NAME.fullmatch(host):
        return None
    try:
        return dns.name.from_text(host.lower())
    except dns.exception.DNSException:
        return None


@implementer(IResolver)
class DNSResolver:
    """Provides IResolver by the settings of one service; ``for_service`` makes another one with the same cache."""

    def __init__(
        self,
        reactor: Any,
        settings: SettingsLike,
        *,
        servers: Sequence[Server] | None = None,
        resolv_conf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
        nsswitch: str = "/etc/nsswitch.conf",
        client: DNSClient | None = None,
        shared: _Shared | None = None,
        record_filter: RecordFilter | None = None,
    ) -> None:
        self._filter = record_filter
        self._shared = shared or _Shared(
            reactor, servers=servers, resolv_conf=resolv_conf, hosts=hosts, nsswitch=nsswitch, client=client
        )
        self._reactor = reactor
        protocols = {word.lower() for word in settings.words("inet_protocols")}
        both = "all" in protocols or not protocols
        self._versions = [4] * (both or "ipv4" in protocols) + [6] * (both or "ipv6" in protocols)
        level = settings.text("smtp_dns_support_level")
        self.disabled = level == "disabled" or (not level and settings.flag("disable_dns_lookups"))
        """No MX look-ups, and addresses from the native service only."""
        self._ways = ["native"] if self.disabled else settings.words("smtp_host_lookup") or ["dns"]
        options = settings.words("smtp_dns_resolver_options")
        self._default_domain, self._search = "res_defnames" in options, "res_dnsrch" in options

    def for_service(self, settings: SettingsLike, record_filter: RecordFilter | None = None) -> DNSResolver:
        return DNSResolver(self._reactor, settings, shared=self._shared, record_filter=record_filter)

    async def mx(self, domain: str) -> list[MX]:
        found: list[MX] = []
        records = await self._records(domain, dns.rdatatype.MX)
        for record in records:
            if record.exchange == dns.name.root:
                return [MX(0, "")]  # RFC 7505, whatever stands beside it
            host = safe_name(record.exchange)
            if host:
                found.append(MX(record.preference, host))
        if records and not found:
            raise DNSError(_text(domain, "MX", MALFORMED), temporary=False)
        return sorted(found, key=lambda each: each.preference)

    async def addresses(self, host: str) -> list[str]:
        literal = self._literal(host)
        if literal is not None:
            return literal
        failure: DNSError | None = None
        for way in self._ways:
            try:
                if way == "native":
                    return await self.native(host)
                return await self._dns_addresses(host)
            except DNSError as error:
                # A temporary error outlives a later "no such host": the first way may know better next time.
                if failure is None or not failure.temporary:
                    failure = error
        assert failure is not None
        raise failure

    async def native(self, host: str) -> list[str]:
        """As getaddrinfo(3) would: by the sources of nsswitch.conf."""
        literal = self._literal(host)
        if literal is not None:
            return literal
        temporary = exists = False
        for source in self._shared.sources.value:
            if source == "files":
                known = self._shared.hosts.value.addresses.get(host.rstrip(".").lower(), ())
                found = [address for address in known if (6 if ":" in address else 4) in self._versions]
                if found:
                    return found
            else:
                try:
                    return await self._dns_addresses(host, native=True)
                except DNSError as error:
                    temporary, exists = error.temporary, str(error).endswith(NO_DATA)
        words = _NATIVE_NO_DATA if exists else "Name or service not known"
        if temporary:
            words = "Temporary failure in name resolution"
        raise DNSError(f"unable to look up host {host}: {words}", temporary=temporary)

    async def hostname(self, address: str) -> str:
        known = self._shared.hosts.value.names.get(address)
        if known and _SAFE_NAME.fullmatch(known):
            return known
        try:
            question = dns.reversename.from_address(address)
        except (dns.exception.DNSException, ValueError):
            raise DNSError(f"{address}: not an address", temporary=False) from None
        text = question.to_text(omit_final_dot=True)
        try:
            found = await self._shared.look_up(question, dns.rdatatype.PTR)
        except NoAnswer:
            raise DNSError(_text(text, "PTR", TRY_AGAIN), temporary=True) from None
        for record in found.records:
            name = safe_name(record.target)
            if name:
                return name
        raise DNSError(_text(text, "PTR", NO_DATA if found.exists else NOT_FOUND), temporary=False)

    async def query(self, name: str, type: str) -> list[Any]:
        return await self._records(name, dns.rdatatype.from_text(type))

    # --- within

    def _literal(self, host: str) -> list[str] | None:
        """The address that the name is already, if it is one of a version in use."""
        if not _ADDRESS_LIKE.match(host):
            return None
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        return [str(address)] if address.version in self._versions else None

    async def _records(self, host: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        """[] = no data of that type.  Raises DNSError."""
        found = await self._look_up(host, kind, native=False)
        if not found.exists:
            raise DNSError(_text(host, kind.name, NOT_FOUND), temporary=False)
        return found.records

    async def _look_up(self, host: str, kind: dns.rdatatype.RdataType, *, native: bool) -> Lookup:
        """Raises DNSError only when there is no answer, or the name can be none."""
        name = to_name(host)
        if name is None:
            raise DNSError(f"Name service error for {host}: invalid host or domain name", temporary=False)
        best: Lookup | None = None
        for candidate in self._candidates(host, name, native):
            try:
                found = await self._shared.look_up(candidate, kind)
            except NoAnswer:
                raise DNSError(_text(host, kind.name, TRY_AGAIN), temporary=True) from None
            if found.records:
                if self._filter is None or native:
                    return found
                return await self._filtered(self._filter, host, kind, found)
            if best is None or (found.exists and not best.exists):
                best = found
        assert best is not None
        return best

    async def _filtered(
        self, record_filter: RecordFilter, host: str, kind: dns.rdatatype.RdataType, found: Lookup
    ) -> Lookup:
        kept = await record_filter.kept(host, kind.name, found.until - self._reactor.seconds(), found.records)
        return Lookup(kept, True, found.until)

    def _candidates(self, host: str, name: dns.name.Name, native: bool) -> list[dns.name.Name]:
        """The name itself and what the search list makes of it, in the order of res_search(3)."""
        conf = self._shared.conf.value
        dots = host.count(".")
        if host.endswith("."):
            return [name]
        domains: list[str] = []
        if (native or self._search) and (dots < conf.ndots or self._search):
            domains = conf.search
        elif self._default_domain and not dots:
            domains = conf.search[:1]
        longer: list[dns.name.Name] = []
        for domain in domains:
            try:
                longer.append(dns.name.from_text(f"{host}.{domain}"))
            except dns.exception.DNSException:
                continue
        return [name, *longer] if dots >= conf.ndots else [*longer, name]

    async def _dns_addresses(self, host: str, *, native: bool = False) -> list[str]:
        kinds = [dns.rdatatype.A if version == 4 else dns.rdatatype.AAAA for version in self._versions]
        asked = [Deferred.fromCoroutine(self._one_kind(host, kind, native)) for kind in kinds]
        found: list[str] = []
        failure: DNSError | None = None
        for question in asked:
            outcome = await question
            if isinstance(outcome, DNSError):
                if failure is None or outcome.temporary or not failure.temporary:
                    failure = outcome
            else:
                found += outcome
        if found:
            return found[:MOST_RECORDS]
        assert failure is not None
        raise failure

    async def _one_kind(self, host: str, kind: dns.rdatatype.RdataType, native: bool) -> list[str] | DNSError:
        """Both kinds are asked at the same time, so that an error must wait as a value until its turn."""
        try:
            found = await self._look_up(host, kind, native=native)
        except DNSError as error:
            return error
        if found.records:
            return [str(ipaddress.ip_address(record.address)) for record in found.records]
        return DNSError(_text(host, kind.name, NO_DATA if found.exists else NOT_FOUND), temporary=False)


def _text(name: str, kind: str, words: str) -> str:
    """Names are shown as they were asked for: in ASCII (RFC 5890)."""
    asked = None if name.isascii() else to_name(name)
    if asked is not None:
        name = asked.to_text(omit_final_dot=True)
    return f"Host or domain name not found. Name service error for name={name} type={kind}: {words}"


__all__ = ["DNSResolver", "safe_name"]
