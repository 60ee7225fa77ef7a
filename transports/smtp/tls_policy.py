"""How much TLS a next hop wants: smtp_tls_security_level and what goes with it, smtp_tls_policy_maps; TLS_README.

    policies = Policies(settings, "smtp_", tables, log, "smtp")
    policy = await policies.find("[mx.example.com]:587")     raises PolicyError: the mail must wait

Levels: ``none``; ``may`` = if the server offers it, whoever it is; ``encrypt`` = always, whoever it is;
``fingerprint`` = always, with a certificate or key that is known; ``verify`` and ``secure`` = always, with a
certificate of a trusted authority for the name of the host or of the next hop.  The levels of DANE are not known here:
a policy that asks for them is an error, so that mail waits instead of going out with less.

The table is asked for the next hop as it is written, brackets and port included; for a bare domain also for each
".parent.domain".  An entry is a level and attributes (protocols, ciphers, exclude, match, tafile, servername,
connection_reuse), which come before the parameters of main.cf.  A mistake in an entry is logged in Postfix's words.
``Policies`` raises ConfigError for what is wrong in main.cf itself.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gateway.addresses.syntax import to_ascii
from gateway.certificates import digest_of
from gateway.config.settings import Settings
from gateway.interfaces import Log, TableError
from gateway.tables.maps import Maps
from gateway.tables.registry import Tables
from gateway.tls_words import allowed_versions, cipher_list

MOST_ENTRIES = 1000
"""Of the table that are kept as policies."""

PROBLEM = "client TLS configuration problem"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(?::?[0-9A-F]{2})*")
_SPOKEN = frozenset(("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"))
_LATER = frozenset(("half-dane", "dane", "dane-only"))


class Level(enum.IntEnum):
    """Each asks for more than the one before."""

    NONE = 0
    MAY = 1
    ENCRYPT = 2
    FINGERPRINT = 3
    VERIFY = 4
    SECURE = 5

    @property
    def word(self) -> str:
        return self.name.lower()


class PolicyError(Exception):
    """No policy can be had for this next hop."""


class NoFingerprints(ValueError):
    """Neither the entry nor main.cf has any."""


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What is wanted of a host.  One object for one entry: what differs in it is another policy."""

    level: Level
    source: str
    """Where the level stands: a parameter, or a table with its key."""
    versions: frozenset[str] = frozenset()
    ciphers: str = ""
    match: tuple[str, ...] = ()
    """Names, or fingerprints in upper case without colons."""
    anchors: tuple[str, ...] = ()
    """Files of trust anchors that stand in for the authorities."""
    servername: str = ""
    reuse: bool = False
    wrapped: bool = False

    @property
    def wanted(self) -> bool:
        return self.level > Level.NONE

    @property
    def required(self) -> bool:
        return self.level > Level.MAY

    @property
    def checked(self) -> bool:
        """The server has to show who it is."""
        return self.level > Level.ENCRYPT

    def plain(self) -> Policy:
        """The policy for another try without TLS, after it failed at level "may"."""
        return replace(self, level=Level.NONE)

    def explained(self) -> list[str]:
        """Lines for people."""
        lines = [f"TLS level {self.level.word} ({self.source})"]
        if self.checked:
            what = "fingerprints" if self.level is Level.FINGERPRINT else "names"
            lines.append(f"TLS {what} that the server's certificate may have: {', '.join(self.match)}")
        if self.anchors:
            lines.append(f"TLS trust anchors: {', '.join(self.anchors)}")
        if self.servername:
            lines.append(f"TLS name that the server is asked for: {self.servername}")
        return lines


@dataclass(slots=True)
class _Entry:
    """A policy that is being put together."""

    level: Level
    versions: str | None = None
    grade: str | None = None
    excluded: list[str] | None = None
    match: list[str] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    servername: str | None = None
    reuse: bool | None = None


class Policies:
    def __init__(self, settings: Settings, prefix: str, tables: Tables, log: Log, program: str) -> None:
        self._settings, self._prefix = settings, prefix
        self._log, self._program = log, program
        self._wrapped = settings.flag(prefix + "tls_wrappermode")
        self._title = prefix + "tls_policy_maps"
        words = settings.words(self._title)
        if not words and settings.text(prefix + "tls_per_site"):
            raise settings.error(
                prefix + "tls_per_site", f"{prefix}tls_per_site is not known here, and mail must not go out with less",
                f"write its entries into {self._title}: MUST is verify, MUST_NOPEERMATCH encrypt, MAY may, NONE none",
            )
        self._table: Maps | None = tables.maps(words, settings, title=self._title, program=program) if words else None
        self._known: dict[tuple[str, str], Policy] = {}
        self.digest = digest_of(settings, prefix + "tls_fingerprint_digest")
        self.standard = self._from_main_cf()
        """What holds where the table says nothing."""

    @property
    def constant(self) -> bool:
        """There is no table."""
        return self._table is None

    # --- main.cf

    def _from_main_cf(self) -> Policy:
        settings, prefix = self._settings, self._prefix
        parameter = prefix + "tls_security_level"
        word = settings.text(parameter).strip().lower()
        if word:
            level, source = _level(word), f"{parameter} = {word}"
            if level is None:
                known = ", ".join(each.word for each in Level)
                raise settings.error(parameter, f"{parameter}: {word} is not supported", f"choose one of {known}")
        elif settings.flag(prefix + "enforce_tls"):
            level = Level.VERIFY if settings.flag(prefix + "tls_enforce_peername") else Level.ENCRYPT
            source = f"{prefix}enforce_tls"
        else:
            level, source = (Level.MAY, f"{prefix}use_tls") if settings.flag(prefix + "use_tls") else (Level.NONE, "")
        try:
            return self._policy(_Entry(level), source or "default")
        except ValueError as error:
            raise settings.error(parameter, f"{prefix}tls_…: {error}") from None

    def _policy(self, entry: _Entry, source: str) -> Policy:
        """With the values of main.cf for what the entry does not say.  Raises ValueError."""
        settings, prefix, level = self._settings, self._prefix, entry.level
        if level is Level.NONE:
            return Policy(level, source, wrapped=self._wrapped)
        mandatory = "mandatory_" if level > Level.MAY else ""
        versions = settings.text(f"{prefix}tls_{mandatory}protocols") if entry.versions is None else entry.versions
        grade = settings.text(f"{prefix}tls_{mandatory}ciphers") if entry.grade is None else entry.grade
        excluded = entry.excluded
        if excluded is None:
            excluded = settings.words(prefix + "tls_exclude_ciphers")
            if mandatory:
                excluded += settings.words(prefix + "tls_mandatory_exclude_ciphers")
        if level > Level.MAY:
            excluded = [*excluded, "eNULL" if level is Level.ENCRYPT else "aNULL"]
        servername = settings.text(prefix + "tls_servername") if entry.servername is None else entry.servername
        if servername and not is_host(servername):
            raise ValueError(f'"{prefix}tls_servername = {servername}" specifies an invalid hostname')
        return Policy(
            level, source,
            versions=_versions(versions),
            ciphers=cipher_list(settings, grade, excluded),
            match=self._matched(entry),
            anchors=tuple(entry.anchors or settings.words(prefix + "tls_trust_anchor_file"))
            if level > Level.FINGERPRINT else (),
            servername=servername,
            reuse=settings.flag(prefix + "tls_connection_reuse") if entry.reuse is None else entry.reuse,
            wrapped=self._wrapped,
        )

    def _matched(self, entry: _Entry) -> tuple[str, ...]:
        settings, prefix, level = self._settings, self._prefix, entry.level
        if level is Level.FINGERPRINT:
            words = entry.match or settings.words(prefix + "tls_fingerprint_cert_match")
            found = tuple(word.upper() for word in words)
            for word in found:
                if not _FINGERPRINT.fullmatch(word):
                    raise ValueError(f"malformed fingerprint value: {word.lower()}")
            if not found:
                raise NoFingerprints("configured at fingerprint security level, but with no fingerprints to match.")
            return tuple(word.replace(":", "") for word in found)
        if level > Level.FINGERPRINT:
            parameter = "tls_verify_cert_match" if level is Level.VERIFY else "tls_secure_cert_match"
            return tuple(entry.match or settings.text(prefix + parameter).replace(":", " ").replace(",", " ").split())
        return ()

    # --- the table

    async def find(self, nexthop: str) -> Policy:
        """``nexthop``: as it is written.  Raises PolicyError."""
        if self._table is None:
            return self.standard
        for key in _keys(nexthop):
            where = f'{self._title}, next-hop destination "{key}"'
            try:
                match = await self._table.find(key)
            except TableError:
                raise self._wrong(f"{where}: policy table lookup error") from None
            if match is not None:
                return self._of_entry(key, match.value, where, f"{match.table}, key {match.key}: {match.value}")
        return self.standard

    def _of_entry(self, key: str, value: str, where: str, source: str) -> Policy:
        policy = self._known.get((key, value))
        if policy is None:
            try:
                policy = self._policy(self._parsed(value, where), source)
            except NoFingerprints as error:
                raise self._wrong(f"nexthop domain {key}: {error}") from None
            except ValueError as error:
                raise self._wrong(f"{where}: {error}") from None
            if len(self._known) >= MOST_ENTRIES:
                self._known.clear()
            self._known[key, value] = policy
        return policy

    def _wrong(self, text: str) -> PolicyError:
        self._log.warning(self._program, text)
        return PolicyError(PROBLEM)

    def _parsed(self, value: str, where: str) -> _Entry:
        """Raises ValueError."""
        words = value.replace(",", " ").split()
        if not words:
            raise ValueError("invalid empty policy")
        level = _level(words[0].lower())
        if level is None:
            later = "DANE is not supported: " if words[0].lower() in _LATER else ""
            raise ValueError(f'{later}invalid security level "{words[0]}"')
        entry = _Entry(level)
        if level is Level.NONE:
            for word in words[1:]:
                self._log.warning(self._program, f'{where}: ignoring attribute "{word}" with TLS disabled')
            return entry
        for word in words[1:]:
            name, equals, text = word.partition("=")
            if not equals:
                raise ValueError(f"malformed attribute/value pair \"{word}\": missing '=' after attribute name")
            _set(entry, name, text)
        return entry


def _set(entry: _Entry, name: str, value: str) -> None:
    """One attribute of an entry.  Raises ValueError."""
    lower, level = name.lower(), entry.level
    if lower == "match":
        if level < Level.FINGERPRINT:
            raise ValueError(f'attribute "{name}" invalid at security level "{level.word}"')
        entry.match += [word for word in _given(name, value).split("|" if level is Level.FINGERPRINT else ":") if word]
    elif lower == "tafile":
        if level < Level.VERIFY:
            raise ValueError(f'attribute "{name}" invalid at security level "{level.word}"')
        entry.anchors.append(_given(name, value))
    elif lower == "connection_reuse":
        if value.lower() not in ("yes", "no"):
            raise ValueError(f'attribute "{name}" has bad value: "{value}"')
        entry.reuse = value.lower() == "yes"
    elif lower == "protocols":
        _once(name, entry.versions)
        entry.versions = value
    elif lower == "ciphers":
        _once(name, entry.grade)
        entry.grade = _given(name, value)
    elif lower == "exclude":
        _once(name, entry.excluded)
        entry.excluded = [word for word in value.split(":") if word]
    elif lower == "servername":
        _once(name, entry.servername)
        if not is_host(value):
            raise ValueError(f'"{name}={value}" specifies an invalid hostname')
        entry.servername = value
    else:
        raise ValueError(f'invalid attribute name: "{name}"')


def _given(name: str, value: str) -> str:
    if not value:
        raise ValueError(f'attribute "{name}" has empty value')
    return value


def _once(name: str, seen: object) -> None:
    if seen is not None:
        raise ValueError(f'attribute "{name}" is specified multiple times')


def _level(word: str) -> Level | None:
    return next((level for level in Level if level.word == word), None)


def _versions(text: str) -> frozenset[str]:
    words = text.replace(":", " ").replace(",", " ").split()
    try:
        found = frozenset(allowed_versions(words)) & _SPOKEN
    except ValueError as error:
        raise ValueError(f'Invalid TLS protocol list "{text}": {error}') from None
    if not found:
        raise ValueError(f'TLS protocol list "{text}" leaves no protocol that is spoken')
    return found


def is_host(name: str) -> bool:
    return bool(_HOST.fullmatch(name))


def _keys(nexthop: str) -> Iterable[str]:
    yield nexthop
    if is_host(to_ascii(nexthop)):
        at = nexthop.find(".", 1)
        while at > 0:
            yield nexthop[at:]
            at = nexthop.find(".", at + 1)
