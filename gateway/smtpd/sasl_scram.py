"""SCRAM-SHA-256, the server's side, and the keys that are stored for it; RFC 5802, 7677, 5929, 9266.

``Keys`` are what a password becomes: nobody can log in with them, but what a client proves can be checked.  They check
a password that is given in plain as well.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 4096
"""RFC 7677 4; a client has to do as many, and so has whoever tries passwords on a stolen file."""
MOST_ROUNDS = 1_000_000
_SALT = 16

BINDINGS = ("tls-exporter", "tls-server-end-point")

_FIRST = re.compile(rb"([ny]|p=([A-Za-z0-9.-]+)),(?:a=([^,]*))?,(n=([^,]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)\Z")
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([^,]+)(?:,.*)?),p=([A-Za-z0-9+/=]+)\Z")


class ScramError(ValueError):
    """The client does not keep to the rules; one line."""


class Keys(NamedTuple):
    rounds: int
    salt: bytes
    stored: bytes
    server: bytes

    @classmethod
    def of(cls, password: str, salt: bytes | None = None, rounds: int = ROUNDS) -> Keys:
        salt = secrets.token_bytes(_SALT) if salt is None else salt
        salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, rounds)
        stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(rounds, salt, stored, _hmac(salted, b"Server Key"))

    @classmethod
    def parse(cls, text: str) -> Keys:
        """"ROUNDS,SALT,STORED,SERVER" in base64.  Raises ValueError."""
        rounds, *parts = text.split(",")
        salt, stored, server = (b64decode(part, validate=True) for part in parts)
        if not 1 <= int(rounds) <= MOST_ROUNDS or len(stored) != 32 or len(server) != 32 or not salt:
            raise ValueError("bad keys")
        return cls(int(rounds), salt, stored, server)

    def __str__(self) -> str:
        parts = (self.salt, self.stored, self.server)
        return ",".join([str(self.rounds), *(b64encode(part).decode() for part in parts)])

    def check(self, password: str) -> bool:
        """Takes its time: not for the reactor."""
        return hmac.compare_digest(Keys.of(password, self.salt, self.rounds).stored, self.stored)


def invented(secret: bytes, user: str) -> Keys:
    """For a user who is not there: always the same, so that nobody can tell."""
    salt = _hmac(secret, user.encode("utf-8", "surrogateescape"))[:_SALT]
    return Keys(ROUNDS, salt, secrets.token_bytes(32), secrets.token_bytes(32))


def prepared(text: str) -> str:
    """A password or user name in the one form that it is compared in; RFC 4013 as far as it matters."""
    return unicodedata.normalize("NFKC", text) if not text.isascii() else text


class Scram:
    """One exchange: ``begin`` and then ``finish``.  ``binding``: the channel's, by type; ``plus``: this is the
    mechanism with channel binding; ``offered``: it was on offer."""

    def __init__(
        self, *, plus: bool, offered: bool, binding: Callable[[str], bytes | None], nonce: Callable[[], str]
    ) -> None:
        self._plus = plus
        self._offered = offered
        self._binding = binding
        self._nonce = nonce
        self._keys: Keys | None = None
        self._bound = self._bare = self._said = b""
        self._whole_nonce = b""
        self.user = ""

    def begin(self, message: bytes) -> str:
        """Take the client's first message; whose keys are needed.  Raises ScramError."""
        match = _FIRST.match(message)
        if match is None:
            raise ScramError("malformed first message")
        flag, kind, authorization, self._bare, name, nonce = match.groups()
        self._bound = message[: match.start(4)]
        if self._plus != (kind is not None):
            raise ScramError("channel binding is not what the mechanism says")
        if flag == b"y" and self._offered:
            raise ScramError("channel binding was on offer")
        if kind is not None:
            data = self._binding(kind.decode()) if kind.decode() in BINDINGS else None
            if data is None:
                raise ScramError("unsupported channel binding")
            self._bound += data
        self.user = _name(name)
        if authorization and _name(authorization) != self.user:
            raise ScramError("nobody may act for somebody else")
        self._whole_nonce = nonce + self._nonce().encode()
        return self.user

    def challenge(self, keys: Keys) -> bytes:
        self._keys = keys
        self._said = b"r=%b,s=%b,i=%d" % (self._whole_nonce, b64encode(keys.salt), keys.rounds)
        return self._said

    def finish(self, message: bytes) -> bytes | None:
        """Take the client's proof; our own, or None if it is wrong.  Raises ScramError."""
        assert self._keys is not None
        match = _FINAL.match(message)
        if match is None:
            raise ScramError("malformed final message")
        unproven, bound, nonce, proof = match.groups()
        try:
            bound, proof = b64decode(bound, validate=True), b64decode(proof, validate=True)
        except ValueError:
            raise ScramError("malformed final message") from None
        if bound != self._bound or nonce != self._whole_nonce or len(proof) != 32:
            raise ScramError("channel binding or nonce does not match")
        everything = b",".join((self._bare, self._said, unproven))
        signature = _hmac(self._keys.stored, everything)
        key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(key).digest(), self._keys.stored):
            return None
        return b"v=" + b64encode(_hmac(self._keys.server, everything))


def _name(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ScramError("malformed user name") from None
    if re.search(r"=(?!2C|3D)", text):
        raise ScramError("malformed user name")
    return prepared(text.replace("=2C", ",").replace("=3D", "="))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
