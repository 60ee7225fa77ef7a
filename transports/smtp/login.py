"""Who we are for the servers that mail goes to: smtp_sasl_password_maps, SASL_README.

An entry "user:password" is looked for by the sender's address (smtp_sender_dependent_authentication), by the host's
name, and by the next hop as it is configured.  Where there is none, we talk to the server as a stranger.

What a server has refused with 535 is not tried again within smtp_sasl_auth_cache_time, if smtp_sasl_auth_cache_name is
set: such failures are kept in memory, without the password, which is told apart by a digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.addresses.basis import Basis
from gateway.addresses.find import AddressFinder, Maps
from gateway.addresses.syntax import unquote
from gateway.config.settings import Settings
from gateway.interfaces import TableError
from gateway.tables.lists import StringList
from gateway.tables.registry import Tables
from transports.smtp.sasl import MECHANISMS, Credentials, Mechanism, SaslError, choose

MOST_FAILURES = 1000

_KNOWN = frozenset(("noplaintext", "noanonymous", "noactive", "nodictionary", "forward_secrecy", "mutual_auth"))
_NO_MECHANISM = "offered no compatible authentication mechanisms for this type of connection security"


class NothingInCommon(SaslError):
    """smtp_sasl_mechanism_filter lets nothing through of what the server offers."""


@dataclass(frozen=True, slots=True)
class Login:
    """One set of credentials, and how it may be used."""

    credentials: Credentials
    rules: Logins
    forbidden: frozenset[str] = frozenset()
    """Mechanisms that smtp_sasl_mechanism_filter has not."""

    def begin(self, offered: Iterable[str], *, secure: bool, verified: bool) -> tuple[str, Mechanism]:
        """The mechanism to use.  ``secure``: within TLS; ``verified``: with a server that has shown who it is.  Raises
        SaslError."""
        rules = self.rules
        try:
            wanted = [name for name in offered if name not in self.forbidden and rules.may_use(name)]
        except TableError as problem:
            raise SaslError(str(problem)) from None
        if not wanted:
            raise NothingInCommon(_NO_MECHANISM)
        options = rules.verified if verified else rules.secure if secure else rules.clear
        return choose(wanted, self.credentials, rules.nonce, plaintext="noplaintext" not in options)

    def softened(self, dsn: str) -> str:
        """smtp_sasl_auth_soft_bounce."""
        return "4" + dsn[1:] if self.rules.soft_bounce else dsn

    def failed_before(self, host: str, now: float) -> tuple[str, str] | None:
        """What the server said to these credentials a while ago: enhanced code and text."""
        failures = self.rules.failures
        return None if failures is None else failures.find(host, self.credentials, now)

    def note_failure(self, host: str, dsn: str, text: str, now: float) -> None:
        if self.rules.failures is not None:
            self.rules.failures.note(host, self.credentials, dsn, text, now)


class _Failed(NamedTuple):
    password: bytes
    dsn: str
    text: str
    until: float


class Failures:
    """Logins that have failed, by server and user."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._salt = os.urandom(16)
        self._known: dict[tuple[str, str], _Failed] = {}

    def find(self, host: str, credentials: Credentials, now: float) -> tuple[str, str] | None:
        known = self._known.get((host, credentials.user))
        if known is None or known.until < now or known.password != self._digest(credentials):
            return None
        return known.dsn, known.text

    def note(self, host: str, credentials: Credentials, dsn: str, text: str, now: float) -> None:
        key = host, credentials.user
        self._known.pop(key, None)
        self._known[key] = _Failed(self._digest(credentials), dsn, text, now + self._lifetime)
        if len(self._known) > MOST_FAILURES:
            del self._known[next(iter(self._known))]

    def _digest(self, credentials: Credentials) -> bytes:
        return hashlib.blake2b(credentials.password.encode("utf-8", "surrogateescape"), key=self._salt).digest()


class Logins:
    """Those of one service."""

    def __init__(
        self, settings: Settings, passwords: Maps, by_sender: AddressFinder | None, mechanisms: StringList, prefix: str,
        nonce: Callable[[], str],
    ) -> None:
        self._passwords = passwords
        self._by_sender = by_sender
        self._mechanisms = mechanisms
        self.nonce = nonce
        self.clear = _options(settings, prefix + "sasl_security_options")
        self.secure = _options(settings, prefix + "sasl_tls_security_options")
        self.verified = _options(settings, prefix + "sasl_tls_verified_security_options")
        self.soft_bounce = settings.flag(prefix + "sasl_auth_soft_bounce")
        remembers = settings.text(prefix + "sasl_auth_cache_name")
        self.failures = Failures(settings.seconds(prefix + "sasl_auth_cache_time")) if remembers else None

    @classmethod
    def of(
        cls,
        settings: Settings,
        tables: Tables,
        nonce: Callable[[], str],
        *,
        lmtp: bool = False,
        own_addresses: Iterable[str] = (),
    ) -> Logins | None:
        """None if the service does not log in anywhere.  ``nonce``: makes random text of letters, digits, "-" and "_".
        Raises ConfigError."""
        prefix = "lmtp_" if lmtp else "smtp_"
        if not settings.flag(prefix + "sasl_auth_enable"):
            return None
        parameter = prefix + "sasl_password_maps"
        words = settings.words(parameter)
        if not words:
            raise settings.error(parameter, f"specify a password table via the `{parameter}' configuration parameter")
        by_sender = None
        if not lmtp and settings.flag("smtp_sender_dependent_authentication"):
            by_sender = Basis.of(settings, tables, own_addresses).finder(parameter, "smtp")
        program = "lmtp" if lmtp else "smtp"
        passwords = tables.maps(words, settings, title=parameter, program=program)
        mechanisms = tables.string_list(prefix + "sasl_mechanism_filter", settings, program=program)
        return cls(settings, passwords, by_sender, mechanisms, prefix, nonce)

    def may_use(self, mechanism: str) -> bool:
        """As far as the filter says without asking a table.  Raises TableError."""
        return self._mechanisms.empty or self._mechanisms.match_now(mechanism) is not False

    async def _forbidden(self) -> frozenset[str]:
        if self._mechanisms.constant:
            return frozenset()
        return frozenset([name for name in MECHANISMS if not await self._mechanisms.match(name)])

    def owner(self, sender: str) -> str:
        """Whose login a session for that sender has: "" = everybody's."""
        return sender if self._by_sender is not None else ""

    async def find(self, sender: str, host: str, nexthop: str) -> Login | None:
        """Raises TableError."""
        value = None
        if self._by_sender is not None and sender and (found := await self._by_sender.find(unquote(sender))):
            value = found.value
        for key in (host, nexthop):
            if value is None and (match := await self._passwords.find(key)):
                value = match.value
        if value is None:
            return None
        user, _, password = value.partition(":")
        return Login(Credentials(user, password), self, await self._forbidden())


def _options(settings: Settings, parameter: str) -> frozenset[str]:
    words = frozenset(word.lower() for word in settings.words(parameter))
    if unknown := words - _KNOWN:
        raise settings.error(parameter, f"{parameter}: unknown option {min(unknown)}", f"choose from {sorted(_KNOWN)}")
    return words
