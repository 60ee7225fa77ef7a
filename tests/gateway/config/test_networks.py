from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from gateway.config import ConfigError, Settings, networks
from tests.gateway.config.postfix import needs_postfix, postconf

SYSTEM = [
    ipaddress.ip_interface(text)
    for text in ("127.0.0.1/8", "192.0.2.1/25", "172.16.5.4/24", "::1/128", "2001:db8::5/64", "192.0.2.1/25")
]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "system_interfaces", lambda: SYSTEM)


def mynetworks(**values: str) -> str:
    return Settings({"compatibility_level": "3.6", **values}).text("mynetworks")


@pytest.mark.usefixtures("system")
def test_styles() -> None:
    assert mynetworks() == "127.0.0.1/32 192.0.2.1/32 172.16.5.4/32 [::1]/128 [2001:db8::5]/128"
    assert mynetworks(mynetworks_style="subnet") == "127.0.0.0/8 192.0.2.0/25 172.16.5.0/24 [::1]/128 [2001:db8::]/64"
    assert mynetworks(mynetworks_style="class", inet_protocols="ipv4") == "127.0.0.0/8 192.0.2.0/24 172.16.0.0/16"


@pytest.mark.usefixtures("system")
def test_level_0_means_subnet() -> None:
    assert mynetworks(compatibility_level="0", inet_protocols="ipv6") == "[::1]/128 [2001:db8::]/64"


@pytest.mark.usefixtures("system")
def test_chosen_interfaces() -> None:
    assert mynetworks(inet_interfaces="loopback-only") == "127.0.0.1/32 [::1]/128"
    assert mynetworks(inet_interfaces="[2001:db8::5], 192.0.2.1") == "[2001:db8::5]/128 192.0.2.1/32"
    assert mynetworks(inet_interfaces="203.0.113.9", mynetworks_style="subnet") == "203.0.113.9/32"
    assert mynetworks(inet_interfaces="no-such-host.invalid") == ""


def test_the_system_has_a_loopback_address() -> None:
    assert any(each.is_loopback for each in networks.system_interfaces())


@needs_postfix
@pytest.mark.parametrize("style", ["host", "subnet", "class"])
@pytest.mark.parametrize("interfaces", ["all", "loopback-only", "127.0.0.1"])
def test_as_postfix(tmp_path: Path, style: str, interfaces: str) -> None:
    text = f"mynetworks_style = {style}\ninet_interfaces = {interfaces}\n"
    (tmp_path / "main.cf").write_text(text)
    (tmp_path / "master.cf").write_text("")
    ours = mynetworks(mynetworks_style=style, inet_interfaces=interfaces)
    assert ours.split() == postconf(tmp_path, "-hx", "mynetworks").split()


def test_proxies_are_addresses_or_names() -> None:
    settings = Settings({"proxy_interfaces": "192.0.2.77, [2001:db8::7] localhost"})
    found = networks.proxy_addresses(settings)
    assert found[:2] == ["192.0.2.77", "2001:db8::7"] and {"127.0.0.1", "::1"} & set(found)
    with pytest.raises(ConfigError, match="proxy_interfaces: no such host: no.such.invalid"):
        networks.proxy_addresses(Settings({"proxy_interfaces": "no.such.invalid"}))
