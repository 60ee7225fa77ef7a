"""The SASL mechanisms that the gateway speaks itself: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-256 and
-PLUS (RFC 5802, 7677), OAUTHBEARER (RFC 7628), XOAUTH2.

Each is a coroutine function that asks the client by ``ask(challenge)`` and comes back with the name of the user, or
raises Denied.  Messages are without base64.  Who a user is, is for the Backend to say.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.smtpd.sasl_scram import Keys, Scram, ScramError, prepared

MECHANISMS: dict[str, frozenset[str]] = {
    "SCRAM-SHA-256-PLUS": frozenset(("dictionary", "active", "mutual-auth")),
    "SCRAM-SHA-256": frozenset(("dictionary", "active", "mutual-auth")),
    "CRAM-MD5": frozenset(("dictionary", "active")),
    "OAUTHBEARER": frozenset(("plaintext",)),
    "XOAUTH2": frozenset(("plaintext",)),
    "PLAIN": frozenset(("plaintext",)),
    "LOGIN": frozenset(("plaintext",)),
}
"""With their properties, in the order in which they are offered."""

MISMATCH = "authentication failure"
_BEARER = re.compile(
    rb"n,(?:a=([^,\x01]*))?,\x01(?:[a-zA-Z]+=[^\x01]*\x01)*?auth=[Bb]earer ([^\x01]+)\x01.*\x01\Z", re.DOTALL
)
_XOAUTH2 = re.compile(rb"user=([^\x01]*)\x01auth=[Bb]earer ([^\x01]+)\x01\x01\Z")


class Denied(Exception):
    """The login is no good; ``user``, as far as he is known."""

    def __init__(self, reason: str = MISMATCH, user: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.user = reason, user


class Unavailable(Exception):
    """Whether it is good cannot be told now; one line for the log."""


class Backend(Protocol):
    """Knows users.  Each method is used only if mechanisms() says so, and raises Unavailable."""

    def mechanisms(self) -> frozenset[str]: ...

    async def password(self, user: str, password: str) -> str | None:
        """The name of the user if the password is his."""
        ...

    async def keys(self, user: str) -> tuple[Keys, str | None]:
        """For SCRAM; invented ones, and no name, if there is no such user."""
        ...

    async def cram(self, user: str, challenge: bytes, digest: bytes) -> str | None:
        """The name of the user if the digest is right."""
        ...

    async def token(self, user: str, token: str) -> str | None:
        """The name of the user whom a bearer token stands for; ``user``: whom the client says, may be ""."""
        ...


Ask = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a mechanism has to work with.  ``first``: the client's initial response."""

    backend: Backend
    first: bytes | None
    ask: Ask
    nonce: Callable[[], str]
    hostname: str
    secured: bool
    binding: Callable[[str], bytes | None] = field(default=lambda kind: None)

    async def opening(self, prompt: bytes = b"") -> bytes:
        return self.first if self.first is not None else await self.ask(prompt)


async def plain(exchange: Exchange) -> str:
    parts = (await exchange.opening()).split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise Denied("bad protocol / cancel")
    authorization, user, password = (_text(part) for part in parts)
    if authorization and authorization != user:
        raise Denied("nobody may act for somebody else", user)
    return _known(await exchange.backend.password(prepared(user), password), user)


async def login(exchange: Exchange) -> str:
    user = _text(await exchange.opening(b"Username:"))
    password = _text(await exchange.ask(b"Password:"))
    if not user or not password:
        raise Denied("bad protocol / cancel", user or None)
    return _known(await exchange.backend.password(prepared(user), password), user)


async def cram_md5(exchange: Exchange) -> str:
    if exchange.first:
        raise Denied("bad protocol / cancel")
    challenge = f"<{exchange.nonce()}@{exchange.hostname}>".encode()
    name, _, digest = (await exchange.ask(challenge)).rpartition(b" ")
    user = _text(name)
    return _known(await exchange.backend.cram(user, challenge, digest), user)


async def scram(exchange: Exchange) -> str:
    return await _scram(exchange, plus=False)


async def scram_plus(exchange: Exchange) -> str:
    return await _scram(exchange, plus=True)


async def _scram(exchange: Exchange, *, plus: bool) -> str:
    offered = exchange.secured and "SCRAM-SHA-256-PLUS" in exchange.backend.mechanisms()
    dialogue = Scram(plus=plus, offered=offered, binding=exchange.binding, nonce=exchange.nonce)
    try:
        user = dialogue.begin(await exchange.opening())
        keys, name = await exchange.backend.keys(user)
        proof = dialogue.finish(await exchange.ask(dialogue.challenge(keys)))
    except ScramError as problem:
        raise Denied(str(problem), dialogue.user or None) from None
    if proof is None or name is None:
        raise Denied(MISMATCH, user)
    await exchange.ask(proof)
    return name


async def oauthbearer(exchange: Exchange) -> str:
    match = _BEARER.match(await exchange.opening())
    if match is None:
        await exchange.ask(b'{"status":"invalid_request"}')
        raise Denied("bad protocol / cancel")
    return await _bearer(exchange, match, b'{"status":"invalid_token"}')


async def xoauth2(exchange: Exchange) -> str:
    match = _XOAUTH2.match(await exchange.opening())
    if match is None:
        raise Denied("bad protocol / cancel")
    return await _bearer(exchange, match, b'{"status":"401","schemes":"bearer"}')


async def _bearer(exchange: Exchange, match: re.Match[bytes], problem: bytes) -> str:
    user = _text(match[1] or b"").replace("=2C", ",").replace("=3D", "=")
    name = await exchange.backend.token(user, _text(match[2]))
    if name is None:
        await exchange.ask(problem)
    return _known(name, user)


def cram_digest(password: str, challenge: bytes) -> bytes:
    return hmac.new(password.encode(), challenge, "md5").hexdigest().encode()


def _known(name: str | None, user: str) -> str:
    if name is None:
        raise Denied(MISMATCH, user)
    return name


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Denied("bad protocol / cancel") from None
    if "\0" in text:
        raise Denied("bad protocol / cancel")
    return text


RUN: dict[str, Callable[[Exchange], Awaitable[str]]] = {
    "PLAIN": plain, "LOGIN": login, "CRAM-MD5": cram_md5, "SCRAM-SHA-256": scram, "SCRAM-SHA-256-PLUS": scram_plus,
    "OAUTHBEARER": oauthbearer, "XOAUTH2": xoauth2,
}  # fmt: skip
