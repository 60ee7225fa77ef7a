"""Variable envelope return paths: a sender of its own for each recipient, so that a bounce tells whom it is about.

    owner-list@my.domain → owner-list+joe=example.com@my.domain        for joe@example.com

The recipient is the one before rewriting, as who reads the bounces knows no other; VERP_README.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.addresses.forms import quote, split_domain, unquote
from gateway.config import Settings
from spool.envelope import Recipient


@dataclass(frozen=True, slots=True)
class Delimiters:
    """default_verp_delimiters, and the characters that may be used (verp_delimiter_filter)."""

    default: str = "+="
    allowed: str = "-=+"

    @classmethod
    def of(cls, settings: Settings) -> Delimiters:
        return cls(settings.text("default_verp_delimiters"), settings.text("verp_delimiter_filter"))

    def acceptable(self, delimiters: str) -> bool:
        return len(delimiters) == 2 and all(character in self.allowed for character in delimiters)

    @property
    def wanted(self) -> str:
        """For messages: what acceptable() wants."""
        return f"two characters from {self.allowed}"


def verp_sender(sender: str, delimiters: str, recipient: Recipient) -> str:
    """``sender`` for this recipient; addresses in external form."""
    local, origin = split_domain(unquote(sender))
    name, domain = split_domain(unquote(recipient.original or recipient.address))
    personal = f"{local}{delimiters[0]}{name}{delimiters[1] + domain if domain else ''}"
    return quote(f"{personal}@{origin}" if origin else personal)
