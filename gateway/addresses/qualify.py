"""Addresses to standard form, user@domain: what trivial-rewrite(8) does in its contexts "local" and "remote".

    site!user → user@site          swap_bangpath
    user%domain → user@domain      allow_percent_hack
    user → user@$myorigin          append_at_myorigin
    user@host → user@host.$mydomain        append_dot_mydomain
    user@site. → user@site
    @route:user@site → user@site

The first three concern addresses without "@".  In the remote context remote_header_rewrite_domain stands for both
myorigin and mydomain.  Takes and gives the external form; broken addresses come back as they are.  Needs no table, so
nothing is awaited; an address in plain full form costs one match of a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.addresses.forms import quote
from gateway.addresses.tokens import LITERAL, QUOTED, Token, internal, scan
from gateway.config import Settings

_WORD = r"[0-9A-Za-z_+=~/&{}'*#$^?-]++"
_PLAIN = re.compile(rf"{_WORD}(?>(?:\.{_WORD})*)@[0-9A-Za-z_-]++(?>(?:\.[0-9A-Za-z_-]++)+)\Z")
_MOST_KEPT = 4096

is_plain = _PLAIN.match
"""Whether an address has the full form user@site.domain without anything special in it: nothing to do here."""

_AT = Token("@", "@")
_DOT = Token(".", ".")


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters, for one context."""

    origin: str = ""
    domain: str = ""
    swap_bangpath: bool = True
    percent_hack: bool = True
    append_origin: bool = True
    append_domain: bool = True

    @classmethod
    def local(cls, settings: Settings) -> Rules:
        return cls._of(settings, settings.text("myorigin"), settings.text("mydomain"))

    @classmethod
    def remote(cls, settings: Settings) -> Rules:
        domain = settings.text("remote_header_rewrite_domain")
        return cls._of(settings, domain, domain)

    @classmethod
    def _of(cls, settings: Settings, origin: str, domain: str) -> Rules:
        return cls(
            origin,
            domain,
            settings.flag("swap_bangpath"),
            settings.flag("allow_percent_hack"),
            settings.flag("append_at_myorigin"),
            settings.flag("append_dot_mydomain"),
        )


class Qualifier:
    """Brings addresses to standard form; remembers the last few thousand that were not plain."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._origin = scan(rules.origin) if rules.append_origin else []
        self._domain = scan(rules.domain) if rules.append_domain else []
        self._known: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        if _PLAIN.match(address) or not address:
            return address
        found = self._known.get(address)
        if found is None:
            found = quote(internal(self.rewrite(scan(address)))) if address != '""' else address
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[address] = found
        return found

    def rewrite(self, tokens: Sequence[Token]) -> list[Token]:
        """The same for an address that is in tokens."""
        tokens = list(tokens)
        if not tokens or (len(tokens) == 1 and tokens[0] == Token(QUOTED, "")):
            return tokens
        if tokens == [_AT]:
            return [Token(QUOTED, "")]
        if tokens[0].kind == "@":
            colon = _find(tokens, ":")
            if 0 <= colon < len(tokens) - 1:
                tokens = tokens[colon + 1 :]
        if _rfind(tokens, "@") < 0:
            tokens = self._with_domain(tokens)
        if self._domain and self._incomplete(tokens):
            tokens += [_DOT, *self._domain]
        if len(tokens) > 1 and tokens[-1].kind == "." and tokens[-2].kind not in ".@":
            tokens.pop()
        return tokens

    def _with_domain(self, tokens: list[Token]) -> list[Token]:
        if self.rules.swap_bangpath and (bang := _find(tokens, "!")) >= 0:
            local = tokens[bang + 1 :]
            if bang == 0:  # a broken form, spelled as Postfix spells it
                local = [token._replace(tight=True) for token in local]
            return [*local, _AT, *tokens[:bang]]
        if self.rules.percent_hack and (percent := _rfind(tokens, "%")) >= 0:
            return [*tokens[:percent], _AT, *tokens[percent + 1 :]]
        if self._origin:
            return [*tokens, _AT, *self._origin]
        return tokens

    @staticmethod
    def _incomplete(tokens: list[Token]) -> bool:
        """Whether the domain is one word, a host's."""
        at = _rfind(tokens, "@")
        if at < 0 or at == len(tokens) - 1:
            return False
        return not any(token.kind in (".", LITERAL) for token in tokens[at:])


def _find(tokens: Sequence[Token], kind: str) -> int:
    return next((at for at, token in enumerate(tokens) if token.kind == kind), -1)


def _rfind(tokens: Sequence[Token], kind: str) -> int:
    return next((at for at in range(len(tokens) - 1, -1, -1) if tokens[at].kind == kind), -1)
