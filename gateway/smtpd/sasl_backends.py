"""Who knows users: the file of `mailgateway passwd`, and twisted.cred checkers of other packages.

A checker is named by smtpd_sasl_type = python, smtpd_sasl_path = NAME or NAME:ARGUMENT; its package has an
IGatewayPlugin of the kind ICredentialsChecker.  Its credentialInterfaces say what is on offer: IUsernamePassword gives
PLAIN and LOGIN, IUsernameHashedPassword CRAM-MD5, and IBearerToken OAUTHBEARER and XOAUTH2.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import CramMD5Credentials, IUsernameHashedPassword, IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.internet.defer import maybeDeferred
from zope.interface import implementer

from gateway.config import Settings
from gateway.credentials import IBearerToken
from gateway.plugins import make
from gateway.smtpd.sasl_mechanisms import Unavailable, cram_digest
from gateway.smtpd.sasl_passwords import Entry, PasswordFile, PasswordsError
from gateway.smtpd.sasl_scram import Keys, invented

InThread = Callable[..., Awaitable[Any]]

_WITH_PASSWORDS = frozenset(("PLAIN", "LOGIN"))
_WITH_KEYS = frozenset(("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"))
_WITH_TOKENS = frozenset(("OAUTHBEARER", "XOAUTH2"))


class FileBackend:
    """``realm``: what is put behind a name without "@" if there is none without it (smtpd_sasl_local_domain)."""

    def __init__(self, file: PasswordFile, realm: str, in_thread: InThread) -> None:
        self._file = file
        self._realm = realm
        self._in_thread = in_thread
        self._secret = secrets.token_bytes(32)

    def mechanisms(self) -> frozenset[str]:
        entries = self._entries()
        found = _WITH_PASSWORDS | _WITH_KEYS
        if any(entry.plain is not None for entry in entries.values()):
            found |= {"CRAM-MD5"}
        return found

    async def password(self, user: str, password: str) -> str | None:
        name, entry = self._find(user)
        if entry is None:  # as much work as for somebody who is there
            entry, name = Entry(keys=invented(self._secret, user)), None
        return name if await self._in_thread(entry.check, password) else None

    async def keys(self, user: str) -> tuple[Keys, str | None]:
        name, entry = self._find(user)
        if entry is None:
            return invented(self._secret, user), None
        return entry.keys or await self._in_thread(Keys.of, entry.plain), name

    async def cram(self, user: str, challenge: bytes, digest: bytes) -> str | None:
        name, entry = self._find(user)
        if entry is None or entry.plain is None:
            return None
        return name if hmac.compare_digest(cram_digest(entry.plain, challenge), digest) else None

    async def token(self, user: str, token: str) -> str | None:
        return None

    def _find(self, user: str) -> tuple[str | None, Entry | None]:
        entries = self._entries()
        for name in (user, f"{user}@{self._realm}") if self._realm and "@" not in user else (user,):
            if name in entries:
                return name, entries[name]
        return None, None

    def _entries(self) -> Any:
        try:
            return self._file.entries()
        except PasswordsError as problem:
            raise Unavailable(str(problem)) from None


@implementer(IBearerToken)
class BearerToken:
    def __init__(self, username: str, token: str) -> None:
        self.username, self.token = username, token


class _Challenged(CramMD5Credentials):
    def __init__(self, user: str, challenge: bytes, digest: bytes) -> None:
        super().__init__()
        self.username, self.challenge, self.response = user.encode(), challenge, digest


class CheckerBackend:
    def __init__(self, checker: Any) -> None:
        self._checker = checker

    def mechanisms(self) -> frozenset[str]:
        known = self._checker.credentialInterfaces
        found: frozenset[str] = frozenset()
        if any(one.isOrExtends(IUsernamePassword) or one is IUsernameHashedPassword for one in known):
            found |= _WITH_PASSWORDS
        if IUsernameHashedPassword in known:
            found |= {"CRAM-MD5"}
        if IBearerToken in known:
            found |= _WITH_TOKENS
        return found

    async def password(self, user: str, password: str) -> str | None:
        return await self._ask(UsernamePassword(user.encode(), password.encode()), user)

    async def keys(self, user: str) -> tuple[Keys, str | None]:
        raise Unavailable("a checker has no keys for SCRAM")

    async def cram(self, user: str, challenge: bytes, digest: bytes) -> str | None:
        return await self._ask(_Challenged(user, challenge, digest), user)

    async def token(self, user: str, token: str) -> str | None:
        return await self._ask(BearerToken(user, token), user)

    async def _ask(self, credentials: Any, user: str) -> str | None:
        try:
            avatar = await maybeDeferred(self._checker.requestAvatarId, credentials)
        except (UnauthorizedLogin, LoginFailed):
            return None
        except Exception as problem:
            raise Unavailable(f"{type(problem).__name__}: {problem}") from problem
        name = avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else avatar
        return (name if isinstance(name, str) else user) or None


def load_checker(name: str, settings: Settings) -> CheckerBackend:
    """Raises ValueError."""
    return CheckerBackend(make(ICredentialsChecker, name, settings))
