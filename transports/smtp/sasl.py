"""SASL mechanisms, the client's side: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM (RFC 5802, 7677).

``choose`` gives the best mechanism for what a server offers.  ``first`` is what goes out with AUTH (None = nothing);
``next`` answers a challenge, both without base64.  SaslError says what is wrong with a challenge.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

PLAINTEXT = frozenset(("PLAIN", "LOGIN"))
"""They show the password to the server, and without TLS to everybody."""
MOST_ROUNDS = 1_000_000
"""A server may not keep us busy with more (SCRAM)."""


class SaslError(ValueError):
    """The login cannot go on; one line."""


class Credentials(NamedTuple):
    user: str
    password: str

    def __repr__(self) -> str:
        """The password is nobody's business."""
        return f"Credentials({self.user!r}, …)"


class Mechanism(Protocol):
    def first(self) -> bytes | None: ...

    def next(self, challenge: bytes) -> bytes: ...


class _Plain:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def first(self) -> bytes | None:
        return f"\0{self._credentials.user}\0{self._credentials.password}".encode()

    def next(self, challenge: bytes) -> bytes:
        raise SaslError("another step is needed in authentication")


class _Login:
    def __init__(self, credentials: Credentials) -> None:
        self._left = [credentials.password, credentials.user]

    def first(self) -> bytes | None:
        return None

    def next(self, challenge: bytes) -> bytes:
        if not self._left:
            raise SaslError("another step is needed in authentication")
        return self._left.pop().encode()


class _CramMd5:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._done = False

    def first(self) -> bytes | None:
        return None

    def next(self, challenge: bytes) -> bytes:
        if self._done:
            raise SaslError("another step is needed in authentication")
        self._done = True
        digest = hmac.new(self._credentials.password.encode(), challenge, "md5").hexdigest()
        return f"{self._credentials.user} {digest}".encode()


class _Scram:
    """Without channel binding.  The server proves that it knows the password too."""

    def __init__(self, digest: str, credentials: Credentials, nonce: str) -> None:
        self._digest = digest
        self._password = credentials.password.encode()
        user = credentials.user.replace("=", "=3D").replace(",", "=2C")
        self._nonce = nonce
        self._begin = f"n={user},r={nonce}"
        self._signature: bytes | None = None
        self._done = False

    def first(self) -> bytes | None:
        return f"n,,{self._begin}".encode()

    def next(self, challenge: bytes) -> bytes:
        if self._done:
            raise SaslError("another step is needed in authentication")
        said = self._parsed(challenge)
        if self._signature is None:
            return self._proof(challenge, said)
        self._done = True
        try:
            signature = b64decode(said.get("v", ""), validate=True)
        except ValueError:
            signature = b""
        if not hmac.compare_digest(signature, self._signature):
            raise SaslError("the server does not know the password")
        return b""

    @staticmethod
    def _parsed(challenge: bytes) -> dict[str, str]:
        try:
            words = challenge.decode("ascii").split(",")
        except UnicodeDecodeError:
            raise SaslError("bad SCRAM challenge") from None
        return dict(word.partition("=")[::2] for word in words)

    def _proof(self, challenge: bytes, said: dict[str, str]) -> bytes:
        nonce, rounds = said.get("r", ""), said.get("i", "")
        try:
            salt = b64decode(said.get("s", ""), validate=True)
        except ValueError:
            salt = b""
        good = nonce.startswith(self._nonce) and nonce != self._nonce and salt and rounds.isascii() and rounds.isdigit()
        if not good or "m" in said or not 0 < int(rounds[:9]) <= MOST_ROUNDS:
            raise SaslError("bad SCRAM challenge")
        salted = hashlib.pbkdf2_hmac(self._digest, self._password, salt, int(rounds))
        end = f"c=biws,r={nonce}"
        message = b",".join((self._begin.encode(), challenge, end.encode()))
        client_key = self._hmac(salted, b"Client Key")
        signed = self._hmac(hashlib.new(self._digest, client_key).digest(), message)
        proof = bytes(one ^ other for one, other in zip(client_key, signed, strict=True))
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        return f"{end},p={b64encode(proof).decode()}".encode()

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._digest).digest()


Maker = Callable[[Credentials, Callable[[], str]], Mechanism]

_MAKERS: dict[str, Maker] = {
    "SCRAM-SHA-256": lambda credentials, nonce: _Scram("sha256", credentials, nonce()),
    "SCRAM-SHA-1": lambda credentials, nonce: _Scram("sha1", credentials, nonce()),
    "CRAM-MD5": lambda credentials, nonce: _CramMd5(credentials),
    "PLAIN": lambda credentials, nonce: _Plain(credentials),
    "LOGIN": lambda credentials, nonce: _Login(credentials),
}
MECHANISMS = tuple(_MAKERS)
"""The best first."""


def choose(
    offered: Collection[str], credentials: Credentials, nonce: Callable[[], str], *, plaintext: bool
) -> tuple[str, Mechanism]:
    """``offered``: names in upper case; ``plaintext``: whether the password may be shown.  Raises SaslError."""
    for name, make in _MAKERS.items():
        if name in offered and (plaintext or name not in PLAINTEXT):
            return name, make(credentials, nonce)
    raise SaslError("no mechanism available")
