"""Mail addresses: their parts, their two forms, and what is one at all; RFC 5321 4.1.2, RFC 3461 4, RFC 6531.

An address has an *external* form, with quotes where the grammar wants them (``"a b"@c``), and an *internal* one, as the
words are meant (``a b@c``).  The envelope, headers and logs have the external form; tables are asked with both.
``unquote`` and ``quote`` go from one to the other.  Text is ``str``; bytes that are no UTF-8 are surrogate escapes.

``parse_path`` takes what a client gave with MAIL or RCPT and accepts what Postfix accepts.  The one error of this
module is AddressError, a ValueError.  Everything is linear in the length of its input.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import idna

from gateway.addresses import tokens
from gateway.addresses.forms import quote, split_domain, unquote

if TYPE_CHECKING:
    from gateway.config import Settings


__all__ = [
    "AddressError", "Extensions", "is_numeric", "is_utf8", "literal_address", "parse_path", "quote", "split_address",
    "split_domain", "to_ascii", "unquote", "valid_domain", "valid_hostname", "xtext_decode", "xtext_encode",
]


class AddressError(ValueError):
    """No address; the text says what is wrong with it."""


# --- extensions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extensions:
    """How user+extension is told apart: recipient_delimiter and its exceptions."""

    delimiters: str = ""
    double_bounce: str = "double-bounce"
    owner_request_special: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Extensions:
        return cls(
            settings.text("recipient_delimiter"),
            settings.text("double_bounce_sender"),
            settings.flag("owner_request_special"),
        )

    def split(self, local: str) -> tuple[str, str]:
        """(user, extension with its delimiter) of a local part in internal form; extension "" if there is none."""
        if not self.delimiters or self._whole(local.lower()):
            return local, ""
        for at, character in enumerate(local):
            if character in self.delimiters:
                return (local[:at], local[at:]) if at else (local, "")
        return local, ""

    def strip(self, address: str) -> tuple[str, str]:
        """(address without extension, extension with its delimiter) of an address in internal form."""
        local, at, domain = address.rpartition("@")
        if not at:
            return self.split(address)
        user, extension = self.split(local)
        return (f"{user}@{domain}", extension) if extension else (address, "")

    def _whole(self, local: str) -> bool:
        """Whether the local part (in lower case) is never split."""
        if local in ("postmaster", "mailer-daemon", self.double_bounce.lower()):
            return True
        if "-" not in self.delimiters or not self.owner_request_special:
            return False
        return local.startswith("owner-") or (local.endswith("-request") and local != "-request")


def split_address(local: str, recipient_delimiter: str) -> tuple[str, str]:
    """(user, extension without its delimiter) of a local part, by the default exceptions."""
    user, extension = Extensions(recipient_delimiter).split(local)
    return user, extension[1:]


# --- domains ---------------------------------------------------------------------------------------------------

_NUMERIC = re.compile(r"[0-9A-Fa-f.:]+\Z")
_LABEL = re.compile(r"[0-9A-Za-z_](?:[-0-9A-Za-z_]{0,61}[0-9A-Za-z_])?\Z")


def valid_hostname(name: str) -> bool:
    """Labels of letters, digits, "-" and "_" between dots, not all digits; non-ASCII names are tried as IDNA."""
    return len(name) <= 255 and _valid_hostname(name)


@lru_cache(maxsize=4096)
def _valid_hostname(name: str) -> bool:
    if not name.isascii():
        name = to_ascii(name)
    if not name or len(name) > 255 or name.replace(".", "").isdigit():
        return False
    return all(map(_LABEL.match, name.split(".")))


def to_ascii(domain: str) -> str:
    """The A-label form of a domain, or "" if it has none."""
    if domain.isascii():
        return domain
    if len(domain) > 255:
        return ""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return _symbols_to_ascii(domain)


def _symbols_to_ascii(domain: str) -> str:
    """The same for what IDNA2008 leaves out and UTS 46 does not: symbols, of which there are names all the same."""
    try:
        labels = idna.uts46_remap(domain, std3_rules=False).split(".")
        coded = ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)
    except (idna.IDNAError, UnicodeError):
        return ""
    return coded if len(coded) <= 255 else ""


def literal_address(domain: str) -> str | None:
    """The IP address of ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``, normalised; None if it is none of them."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return None if "%" in inner else str(ipaddress.IPv6Address(inner[5:]))
        return str(ipaddress.IPv4Address(inner))
    except ValueError:
        return None


def is_numeric(domain: str) -> bool:
    """A bare IP address where a domain should be."""
    if not _NUMERIC.match(domain):
        return False
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        return False
    return True


def valid_domain(domain: str) -> bool:
    """A host name or an address literal: may be a table's key, a DNS query, a file name."""
    return literal_address(domain) is not None if domain.startswith("[") else valid_hostname(domain)


def is_utf8(text: str) -> bool:
    """Whether the bytes that it stands for are UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- paths -----------------------------------------------------------------------------------------------------

_WORD = r"[0-9A-Za-z_+=~/&?{}'*#$^-]++"
_SIMPLE_PATH = re.compile(rf"<({_WORD}(?>(?:\.{_WORD})*)@[0-9A-Za-z.-]++)>\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_path(text: str, *, strict: bool = False, allow_empty: bool = False) -> str:
    """The address, in external form, of a MAIL FROM or RCPT TO argument: ``<a@b>``, ``a@b``, ``<@route:a@b>``,
    ``Name <a@b>``, ``a@b (comment)``.  ``<>`` gives "" with ``allow_empty``.

    ``strict``: strict_rfc821_envelopes.  A source route is dropped.  The domain may be missing or odd: whether mail for
    it can be routed is for Router.acceptable to say.  Raises AddressError.
    """
    simple = _SIMPLE_PATH.match(text)
    if simple:
        return simple[1]
    if _CONTROL.search(text):
        raise AddressError("control character in address")
    inner = text[1:-1] if text.startswith("<") and text.endswith(">") and len(text) > 1 else text
    if inner.startswith("@") and ":" in inner:
        inner = inner.partition(":")[2]
    nodes = tokens.parse(inner)
    addresses = [node for node in nodes if isinstance(node, tokens.Address)]
    if len(addresses) > 1:
        raise AddressError("more than one address")
    if strict:
        beside = any(not isinstance(node, tokens.Address) and node.kind not in "<>" for node in nodes)
        if beside or not text.startswith("<"):
            raise AddressError("text beside the address")
    internal = addresses[0].bare() if addresses else ""
    if strict and internal.startswith("@"):
        raise AddressError("source route only")
    if not internal:
        if allow_empty:
            return ""
        raise AddressError("empty address")
    return quote(internal)


# --- xtext -----------------------------------------------------------------------------------------------------

_TO_XTEXT = re.compile(rb"[^!-*,-<>-~]")
_FROM_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_XTEXT = re.compile(r"(?>(?:[!-*,-<>-~]|\+[0-9A-F]{2})*)\Z")


def xtext_encode(text: str) -> str:
    """RFC 3461 4: "+" and two hexadecimal digits for "+", "=", blanks, control and non-ASCII bytes."""
    data = text.encode("utf-8", "surrogateescape")
    return _TO_XTEXT.sub(lambda match: b"+%02X" % match[0][0], data).decode("ascii")


def xtext_decode(text: str) -> str:
    """The text behind xtext.  Raises AddressError for what is none, and for control characters in the result."""
    if not _XTEXT.match(text):
        raise AddressError("bad xtext")
    data = _FROM_XTEXT.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
    plain = data.decode("utf-8", "surrogateescape")
    if _CONTROL.search(plain):
        raise AddressError("control character in xtext")
    return plain

