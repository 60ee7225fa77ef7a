"""Address patterns, ``1.2.3.4``, ``1.2.3.0/24``, ``[::1]/128``: cidr_table(5), mynetworks; and cidr: tables.

Addresses are compared as numbers.  An address matches only patterns of its own family, also negated ones.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from gateway.tables.base import Environment, Spec
from gateway.tables.rules import Rule, RuleList, Rules, RuleTable, first_match
from gateway.tables.text import Line, Problem

V = TypeVar("V")

_BRACKETED = re.compile(r"\[([^\[\]]*)\](/.*)?")
_IPV4 = re.compile(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}")
_SPACE = " \t\r\n\v\f"


class Address(NamedTuple):
    """An address as a number of 32 or 128 bits."""

    bits: int
    value: int


class Network(NamedTuple):
    """A block of addresses: those whose first ``prefix`` bits are those of ``value``."""

    bits: int
    value: int
    prefix: int

    def holds(self, address: Address) -> bool:
        shift = self.bits - self.prefix
        return address.bits == self.bits and address.value >> shift == self.value >> shift


class BadPattern(ValueError):
    """An address pattern that cannot be used; the message says why."""


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """An IPv4 or IPv6 address without brackets; None if it is none."""
    try:
        if ":" in text:
            return Address(128, int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big"))
        if _IPV4.fullmatch(text):
            return Address(32, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
    except (OSError, UnicodeError, ValueError):
        pass
    return None


def parse_network(pattern: str) -> Network:
    """Raises BadPattern, in Postfix's words."""
    match = _BRACKETED.fullmatch(pattern)
    text, slash, length = (match.group(1) + (match.group(2) or "") if match else pattern).partition("/")
    address = parse_address(text)
    if address is None:
        raise BadPattern(f'bad network value in "{pattern}"' if slash else f'bad address pattern: "{pattern}"')
    bits, value = address
    if not slash:
        return Network(bits, value, bits)
    if not (length.isascii() and length.isdigit()):
        raise BadPattern(f'bad mask value in "{pattern}"')
    if int(length[:4]) > bits:
        raise BadPattern(f'bad mask length in "{pattern}"')
    prefix = int(length)
    network = value >> (bits - prefix) << (bits - prefix)
    if network != value:
        family, size = (socket.AF_INET6, 16) if bits == 128 else (socket.AF_INET, 4)
        right = socket.inet_ntop(family, network.to_bytes(size, "big"))
        raise BadPattern(
            f'non-null host address bits in "{pattern}", perhaps you should use "{right}/{prefix}" instead'
        )
    return Network(bits, value, prefix)


class NetworkIndex(Generic[V]):
    """Networks in an order; finding the first that holds an address takes a step per prefix length in use."""

    def __init__(self) -> None:
        self._values: list[V] = []
        self._lengths: dict[tuple[int, int], dict[int, int]] = {}

    def add(self, network: Network, value: V) -> None:
        shift = network.bits - network.prefix
        self._lengths.setdefault((network.bits, shift), {}).setdefault(network.value >> shift, len(self._values))
        self._values.append(value)

    def find(self, address: Address) -> V | None:
        first = len(self._values)
        for (bits, shift), known in self._lengths.items():
            if bits == address.bits:
                first = min(first, known.get(address.value >> shift, first))
        return self._values[first] if first < len(self._values) else None


class CidrRules(Rules[Network]):
    """A cidr table, with an index where neither "if" nor "!" is used."""

    __slots__ = ("index",)

    def __init__(self, rules: list[Rule[Network]], problems: list[Problem]) -> None:
        super().__init__(rules, problems)
        self.index: NetworkIndex[Rule[Network]] | None = None
        if not any(rule.negated or rule.end >= 0 for rule in rules):
            self.index = NetworkIndex()
            for rule in rules:
                self.index.add(rule.test, rule)

    def find(self, key: str) -> Rule[Network] | None:
        address = parse_address(key)
        if address is None:
            return None
        if self.index is not None:
            return self.index.find(address)

        def matches(rule: Rule[Network]) -> bool:
            return address.bits == rule.test.bits and rule.test.holds(address) is not rule.negated

        found = first_match(self.rules, matches)
        return found[0] if found else None


class CidrTable(RuleTable[Network]):
    """``cidr:FILE``."""

    def __init__(self, spec: Spec, environment: Environment) -> None:
        super().__init__(spec, environment)

    async def lookup(self, key: str) -> str | None:
        rule = self._find(key)
        return rule.result if rule is not None else None

    def source(self, key: str) -> str | None:
        rule = self._find(key)
        return f"{self._place}:{rule.line}" if rule is not None else None

    def _find(self, key: str) -> Rule[Network] | None:
        rules = self.rules
        assert isinstance(rules, CidrRules)
        return rules.find(key)

    def parse_lines(self, lines: Sequence[Line], problems: list[Problem]) -> CidrRules:
        rules: RuleList[Network] = RuleList(problems)
        for number, text in lines:
            try:
                _parse_line(number, text.strip(_SPACE), rules)
            except BadPattern as problem:
                problems.append(Problem(number, f"{problem}: skipping this rule"))
        return CidrRules(rules.finish(), problems)


def _parse_line(number: int, text: str, rules: RuleList[Network]) -> None:
    word, _, rest = text.replace("\t", " ").partition(" ")
    if word.lower() == "endif":
        if rest.strip():
            raise BadPattern("garbage after ENDIF")
        if not rules.end():
            raise BadPattern("ENDIF without IF")
        return
    block = word.lower() == "if"
    negated, pattern, result = _split(rest if block else text)
    if block:
        rules.begin(Rule(number, parse_network(f"{pattern} {result}".strip()), negated))
        return
    if not result:
        raise BadPattern("no lookup result")
    rules.add(Rule(number, parse_network(pattern), negated, result))


def _split(text: str) -> tuple[bool, str, str]:
    """(negated, pattern, result)."""
    text = text.strip(_SPACE)
    negated = False
    while text.startswith("!"):
        negated = not negated
        text = text[1:].lstrip(_SPACE)
    pattern, _, result = text.replace("\t", " ").partition(" ")
    if not pattern:
        raise BadPattern("no address pattern")
    return negated, pattern, text[len(pattern) :].strip(_SPACE)
