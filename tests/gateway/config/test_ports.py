from __future__ import annotations

import pytest

from gateway.config import ConfigError, Settings
from gateway.config.ports import known_ports, tcp_port

NONE: dict[str, int] = {}


def test_names_of_known_tcp_ports_need_no_services_file() -> None:
    ports = known_ports(Settings())
    assert ports == {"lmtp": 24, "smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}
    assert tcp_port("submissions", ports) == 465


def test_they_come_before_the_services_file() -> None:
    assert tcp_port("smtp", known_ports(Settings({"known_tcp_ports": "smtp = 2525"}))) == 2525


def test_numbers() -> None:
    assert tcp_port("2525", NONE) == 2525


@pytest.mark.parametrize("text", ["0", "65536", "99999999999", "no-such-port-name", "", "-1", "²"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError):
        tcp_port(text, NONE)


@pytest.mark.parametrize("value", ["smtp", "smtp=", "=25", "smtp=x", "smtp=70000"])
def test_bad_members_are_named(value: str) -> None:
    with pytest.raises(ConfigError, match="known_tcp_ports: bad member"):
        known_ports(Settings({"known_tcp_ports": value}))
