"""What all that check logins have in common: the step of an exchange, and what a checker is told of the client."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Outcome(enum.Enum):
    MORE = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()
    TEMPORARY = enum.auto()


class Step(NamedTuple):
    outcome: Outcome
    number: int = 0
    text: str = ""
    """The challenge in base64, or the reason; "" = none was given."""
    user: str | None = None
    """The user name, if it is known."""


class Facts(NamedTuple):
    """What the server is told of the client."""

    service: str
    server_address: str
    client_address: str
    secured: bool
    binding: Callable[[str], bytes | None] = lambda kind: None
    """Channel binding of the TLS connection by its type (RFC 5929, 9266)."""


class Authenticator(Protocol):
    """Responses and challenges are base64, as SMTP has them."""

    async def mechanisms(self) -> dict[str, frozenset[str]]:
        """Names and properties, such as {"plaintext"}.  Raises NoAnswer."""
        ...

    async def first(self, mechanism: str, response: bytes | None, facts: Facts) -> Step:
        """Begin an exchange.  ``response``: what the client has said with it, None = nothing."""
        ...

    async def more(self, number: int, response: bytes) -> Step: ...

    def forget(self, number: int) -> None:
        """The client does not go on with an exchange."""
        ...
