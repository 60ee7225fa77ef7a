"""Address patterns and cidr: tables.  The warnings are those of Postfix 3.7's postmap."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.tables.networks import BadPattern, NetworkIndex, parse_address, parse_network
from tests.gateway.tables.support import Bench


def table(tmp_path: Path, text: str) -> Bench:
    (tmp_path / "blocks").write_text(text)
    return Bench(tmp_path)


@pytest.mark.parametrize("negation", ["", "!198.51.100.0/24 not there\n"])
def test_order_decides(tmp_path: Path, negation: str) -> None:
    text = "192.0.2.64/26 upper\n192.0.2.0/24  whole\n192.0.2.70 never\n2001:db8::/32 six\n[::1] self\n[fe80::]/10 l\n"
    bench = table(tmp_path, text + negation)
    keys = ("192.0.2.70", "192.0.2.7", "198.51.100.9", "2001:DB8:0::5", "::1", "fe80::1", "no address", "1.2.3")
    assert [bench.ask("cidr:blocks", key) for key in keys] == [
        "upper", "whole", None, "six", "self", "l", None, None,
    ]  # fmt: skip


def test_negated_patterns_are_for_their_own_family(tmp_path: Path) -> None:
    bench = table(tmp_path, "!192.0.2.0/24 elsewhere\n")
    assert [bench.ask("cidr:blocks", key) for key in ("192.0.2.1", "10.0.0.1", "::1")] == [None, "elsewhere", None]


def test_blocks(tmp_path: Path) -> None:
    bench = table(tmp_path, "if 10.0.0.0/8\n10.1.0.0/16 a\nif !10.2.0.0/16\n0.0.0.0/0 b\nendif\nendif\n0.0.0.0/0 c\n")
    assert [bench.ask("cidr:blocks", f"10.{n}.0.1") for n in (1, 2, 3)] == ["a", "c", "b"]
    assert bench.ask("cidr:blocks", "11.1.1.1") == "c"


def test_bad_rules_are_left_out_and_reported(tmp_path: Path) -> None:
    text = (
        "1.2.3.4 a\n1.2.3.4/24 b\n1.2.3.0/33 c\nfoo d\n!2001:db8::/32\n::/0 f\nendif\n010.0.0.1 i\n"
        "if 1.2.3.0/24 x\nif 1.2.3.0/24\n2001:db8::1/32 j\n"
    )
    bench = table(tmp_path, text)
    assert bench.ask("cidr:blocks", "1.2.3.4") == "a"
    assert bench.findings == [
        f"{tmp_path}/blocks, line {line}: cidr map: {what}"
        for line, what in [
            (2, 'non-null host address bits in "1.2.3.4/24", perhaps you should use "1.2.3.0/24" instead: '
                "skipping this rule"),
            (3, 'bad mask length in "1.2.3.0/33": skipping this rule'),
            (4, 'bad address pattern: "foo": skipping this rule'),
            (5, "no lookup result: skipping this rule"),
            (7, "ENDIF without IF: skipping this rule"),
            (8, 'bad address pattern: "010.0.0.1": skipping this rule'),
            (9, 'bad mask value in "1.2.3.0/24 x": skipping this rule'),
            (11, 'non-null host address bits in "2001:db8::1/32", perhaps you should use "2001:db8::/32" instead: '
                 "skipping this rule"),
            (10, "IF has no matching ENDIF"),
        ]
    ]  # fmt: skip


def test_source_and_rules_in_the_name(tmp_path: Path) -> None:
    bench = table(tmp_path, "# c\n10.0.0.0/8 a\n")
    assert bench.tables.open("cidr:blocks", bench.settings).source("10.1.1.1") == f"{tmp_path}/blocks:2"
    assert bench.ask("cidr:{ {10.0.0.0/8 yes} { 0.0.0.0/0 no } }", "11.1.1.1") == "no"


_addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(_addresses, st.lists(st.tuples(_addresses, st.integers(0, 128)), max_size=8))
@hypothesis_settings(max_examples=150, deadline=None)
def test_the_index_finds_what_a_walk_finds(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    blocks: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
) -> None:
    networks = [
        ipaddress.ip_network((base, prefix * base.max_prefixlen // 128), strict=False)
        for base, prefix in [*blocks, *((address, prefix // 2) for _, prefix in blocks)]
    ]
    index: NetworkIndex[str] = NetworkIndex()
    for network in networks:
        index.add(parse_network(str(network)), str(network))
    parsed = parse_address(str(address))
    assert parsed is not None
    assert index.find(parsed) == next((str(network) for network in networks if address in network), None)


@given(st.text("0123456789.:/[]abf x\0\udc80", max_size=20))
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_text_is_a_network_or_refused(text: str) -> None:
    try:
        network = parse_network(text)
    except BadPattern:
        return
    assert network.bits in (32, 128) and 0 <= network.prefix <= network.bits
