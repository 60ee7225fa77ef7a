"""Address lists in header fields: find the addresses, put others in their place; RFC 5322 3.4.

    header = AddressField(b'bob (Bob), "B, C" <b@c>')
    header.addresses                        → ["bob", "b@c"]
    header.replace(["bob@my.domain", "b@c"])
    header.render("To")                     → b'bob@my.domain (Bob), "B, C" <b@c>'

A field in which no address changes comes back as the very bytes that came in, whatever is in it.  One in which an
address changes is written anew, as Postfix does it: comments behind the address they stood in, a blank behind each
comma, lines folded before column 70; no more of it than ``limit`` tokens (header_address_token_limit).  Nothing raises.
"""

from __future__ import annotations

import re

from gateway.addresses.tokens import Address, external_list, parse, scan

SENDER_FIELDS = frozenset(
    (
        "from", "sender", "reply-to", "errors-to", "return-receipt-to", "disposition-notification-to",
        "mail-followup-to", "resent-from", "resent-sender", "return-path",
    )
)  # fmt: skip
"""Fields (lower case) whose addresses are rewritten as those of senders are."""

RECIPIENT_FIELDS = frozenset(
    ("to", "cc", "bcc", "apparently-to", "resent-to", "resent-cc", "resent-bcc", "resent-reply-to")
)
"""Fields (lower case) whose addresses are rewritten as those of recipients are."""

_FOLD_AT = 70
_ATOM = rb"[0-9A-Za-z_+=~/&{}'*#$^?-]++"
_MAILBOX = rb"%b(?>(?:\.%b)*)@[0-9A-Za-z_-]++(?>(?:\.[0-9A-Za-z_-]++)+)" % (_ATOM, _ATOM)
_NAME = rb'(?>(?:[0-9A-Za-z_+=~/&{}\'*#$^?. -]++|"[^"\\\r\n]*+"|[\x80-\xff])*)'
_SIMPLE = re.compile(
    rb"(?>(?:(?>%b[ \t]*+|%b<%b>[ \t]*+)(?:,[ \t\n]*+|\Z))+)\Z" % (_MAILBOX, _NAME, _MAILBOX)
)

_ADDRESS = re.compile(rb"(?<![0-9A-Za-z_+=~/&{}'*#$^?.-])" + _MAILBOX)
"""Not within a word: a long one would be looked through from each of its dots."""

is_simple = _SIMPLE.match
"""Whether a value is nothing but user@site.domain and "Name <user@site.domain>" between commas: in standard form."""


def simple_addresses(value: bytes) -> list[str]:
    """The addresses of a value that is_simple(), and whatever looks like one in a quoted name."""
    return [address.decode("ascii") for address in _ADDRESS.findall(value)]


class AddressField:
    """The value of one field.  ``limit``: how many tokens of it count; 0 = all."""

    def __init__(self, value: bytes, limit: int = 10240) -> None:
        self._value = value
        self._nodes = parse(value.decode("utf-8", "surrogateescape"), limit)
        self._found = [node for node in self._nodes if isinstance(node, Address)]
        self.addresses = [node.written() for node in self._found]
        """In external form, as they are quoted."""
        self._changed = False

    def replace(self, addresses: list[str]) -> None:
        """Put these (external form) in the place of ``self.addresses``, one for one."""
        if addresses != self.addresses:
            self._changed = True
            for node, new in zip(self._found, addresses, strict=True):
                node.tokens = tuple(scan(new))
            self.addresses = addresses

    def render(self, name: str) -> bytes:
        """The value; the same object if no address has changed.  ``name``: of the field, for folding."""
        if not self._changed:
            return self._value
        return _folded(external_list(self._nodes, ",\n"), len(name) + 2).encode("utf-8", "surrogateescape")


def _folded(text: str, indent: int) -> str:
    """One address a line comes in; as many on a line as there is room for go out."""
    lines: list[str] = []
    used = indent
    for line in text.split("\n"):
        if lines and used + 1 + len(line) < _FOLD_AT:
            lines[-1] += " " + line
            used += 1 + len(line)
        elif lines:
            lines.append(line)
            used = len(line)
        else:
            lines.append(line)
            used += len(line)
    return "\n\t".join(line for line in lines)
