"""Addresses as tokens: the RFC 822 grammar in the way that mail really uses it.

``scan`` makes tokens of a text, ``parse`` a header value's tree: what belongs to an address is gathered in an Address,
all else (phrases, comments, commas, groups) stands beside it.  ``external`` and ``internal`` print either one:
external form has quotes where RFC 5322 wants them, internal form has none.  Nothing here raises, whatever the text;
all of it is linear in the length of the text.

The choices are those of Postfix, so that what it passes unchanged is unchanged here, and what it rewrites comes out
the same: "%" and "!" are operators; a missing comma between two words is put in; a comment within an address moves
behind it; white space within quotes becomes blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.addresses.forms import quote

ATOM, QUOTED, COMMENT, LITERAL, GROUP = "atom", "quoted", "comment", "literal", "group"
"""Kinds of tokens; an operator's kind is its character.  GROUP is the colon of a named group."""

_WORDS = frozenset((ATOM, QUOTED, LITERAL))

_TOKEN = re.compile(
    r"""
      [ \t\r\n]+
    | "(?P<quoted>(?>(?:[^"\\]++|\\.)*))(?:"|\\?\Z)
    | \[(?P<literal>(?>(?:[^\]\\]++|\\.)*))(?:\]|\\?\Z)
    | (?P<comment>\()
    | (?P<operator>[|%!)<>@,;:.\]])
    | (?P<atom>(?>(?:[^ \t\r\n|%!"(),:;<>@.\[\]\\]++|\\.)+)(?:\\\Z)?|\\\Z)
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_BLANKS = str.maketrans("\t\r\n", "   ")
_NEEDS_QUOTES = re.compile(r'[\x00-\x20\x7f|%!"(),:;<>@.\[\]\\]')
_IN_COMMENT = re.compile(r"[()]|\\.?", re.DOTALL)
_MAX_BESIDE = 250


class Token(NamedTuple):
    kind: str
    text: str
    tight: bool = False
    """No blank is put behind it."""


class Address:
    """What belongs to one address; ``tokens`` may be replaced."""

    __slots__ = ("tokens",)
    kind = "address"

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)

    def external(self) -> str:
        """In standard external form."""
        return quote(internal(self.tokens))

    def bare(self) -> str:
        """Without quotes, and without blanks that were not there."""
        return "".join(map(_bare, self.tokens))

    def written(self) -> str:
        """With quotes where they were."""
        return "".join(map(_quoted, self.tokens))

    def __repr__(self) -> str:
        return f"Address({self.external()!r})"


Node = Token | Address


def scan(text: str, limit: int = 0) -> list[Token]:
    """The tokens of a text; at most ``limit`` of them, if not 0."""
    tokens: list[Token] = []
    position, end = 0, len(text)
    while position < end:
        match = _TOKEN.match(text, position)
        assert match is not None, "every character begins a token"
        position = match.end()
        kind = match.lastgroup
        if kind is None:
            continue
        if kind == "comment":
            position = _comment_end(text, position)
            tokens.append(Token(COMMENT, text[match.start() : position]))
        elif kind == "operator":
            tokens.append(Token(match[0], match[0]))
        else:
            found = _plain(match[kind])
            if kind == ATOM and _NEEDS_QUOTES.search(found):
                kind = QUOTED
            tokens.append(Token(kind, found))
        if limit and len(tokens) >= limit:
            break
    return tokens


def _plain(text: str) -> str:
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    return text.translate(_BLANKS)


def _comment_end(text: str, position: int) -> int:
    """Where the comment ends whose parenthesis has just been read; comments nest."""
    level = 1
    for match in _IN_COMMENT.finditer(text, position):
        if match[0] == "(":
            level += 1
        elif match[0] == ")":
            level -= 1
            if level == 0:
                return match.end()
    return len(text)


def parse(text: str, limit: int = 0) -> list[Node]:
    """The tree of an address list."""
    return _Grouping(scan(text, limit)).run()


class _Grouping:
    """Goes through the tokens from the right, because it is what comes later (";", ">") that tells what came before.

    ``done`` (last node first) is settled; ``pending`` (last token first) will be one address.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._left = tokens
        self._done: list[Node] = []
        self._pending: list[Token] = []

    def run(self) -> list[Node]:
        left, pending = self._left, self._pending
        word_is_new, in_group = True, False
        while left:
            token = left.pop()
            kind = token.kind
            if kind == COMMENT:
                self._done.append(token)
                continue
            if kind == ";":
                self._close(comma=True)
                self._done.append(token)
                in_group = word_is_new = True
            elif kind == ":" and in_group:
                self._close()
                self._done.append(Token(GROUP, ":"))
                self._keep_until(",")
            elif kind == ">":
                self._angles(token, in_group)
                word_is_new = True
            elif kind == ",":
                self._close()
                self._done.append(token)
                word_is_new = True
            elif kind in _WORDS:
                if not word_is_new:
                    self._close(comma=True)
                pending.append(token)
                word_is_new = False
            else:
                pending.append(token)
                word_is_new = True
        self._close()
        self._done.reverse()
        return self._done

    def _close(self, comma: bool = False) -> None:
        """What is pending is one address.  ``comma``: and one was missing in front of it."""
        if self._pending:
            self._done.append(Address(self._pending[::-1]))
            self._pending.clear()
            if comma:
                self._done.append(Token(",", ","))

    def _keep_until(self, ends: str) -> None:
        """A phrase: left as it is."""
        left = self._left
        while left and left[-1].kind not in ends:
            self._done.append(left.pop())

    def _angles(self, closing: Token, in_group: bool) -> None:
        """"phrase <address>", its ">" just read."""
        left = self._left
        self._close(comma=True)
        self._done.append(closing)
        while left and left[-1].kind != "<":
            token = left.pop()
            if token.kind == COMMENT:
                self._done.append(token)
            else:
                self._pending.append(token)
        self._close()
        self._keep_until(">;,:")
        if left and left[-1].kind == ":" and not in_group:
            self._done.append(left.pop())


# --- printing --------------------------------------------------------------------------------------------------


def internal(tokens: Iterable[Node]) -> str:
    """Without quotes."""
    return "".join(_spelled(tuple(tokens), _bare))


def external(tokens: Iterable[Node], comma: str = ", ") -> str:
    """With quotes.  ``comma``: what is put between the members of a list."""
    return "".join(_spelled(tuple(tokens), _quoted, comma))


def external_list(nodes: Sequence[Node], comma: str) -> str:
    """A list, in which comments and phrases are left out of a member that has more than 250 characters of them:
    programs are known that break on more."""
    members = []
    for member in _members(nodes):
        text = external(member)
        addresses = [node for node in member if isinstance(node, Address)]
        if len(text) > _MAX_BESIDE and addresses:
            address = addresses[-1].external()
            if len(text) - len(address) > _MAX_BESIDE:
                text = f"<{address}>"
        members.append(text + " " if member and member[-1].kind == GROUP else text)
    if nodes and nodes[-1].kind == GROUP:
        members[-1] = members[-1].removesuffix(" ")
    return comma.join(members)


def _members(nodes: Sequence[Node]) -> Iterator[Sequence[Node]]:
    start = 0
    for at, node in enumerate(nodes):
        if node.kind == ",":
            yield nodes[start:at]
            start = at + 1
    yield nodes[start:]


def _spelled(nodes: Sequence[Node], spell: Callable[[Node], str], comma: str = "") -> Iterator[str]:
    """Pieces of text, with blanks between where words would run together."""
    last = len(nodes) - 1
    for at, node in enumerate(nodes):
        if comma and node.kind == ",":
            yield comma
            continue
        yield spell(node)
        if at < last and _apart(node, nodes[at + 1].kind):
            yield " "


_OPERANDS = frozenset((ATOM, QUOTED, LITERAL, COMMENT, Address.kind))


def _apart(node: Node, following: str) -> bool:
    if isinstance(node, Token) and node.tight:
        return False
    return node.kind in (",", GROUP) or following == "<" or (node.kind in _OPERANDS and following in _OPERANDS)


def _bare(node: Node) -> str:
    if isinstance(node, Address):
        return internal(node.tokens)
    return f"[{node.text}]" if node.kind == LITERAL else node.text


def _quoted(node: Node) -> str:
    if isinstance(node, Address):
        return node.external()
    if node.kind == QUOTED:
        return '"' + _escaped(node.text, '"\\') + '"'
    if node.kind == LITERAL:
        return "[" + _escaped(node.text, "\\") + "]"
    return node.text


def _escaped(text: str, characters: str) -> str:
    return "".join(f"\\{character}" if character in characters else character for character in text)
