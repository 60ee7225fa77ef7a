"""The sender of address verification probes."""

from __future__ import annotations

import pytest

from gateway.addresses.probe_sender import ProbeSender
from gateway.config import ConfigError, Settings

HOUR = 3600


def sender(text, ttl="0s"):
    return ProbeSender(Settings({
        "myorigin": "gw.test", "address_verify_sender": text, "address_verify_sender_ttl": ttl,
    }))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "address"),
    [("probe", "probe@gw.test"), ("probe@other.test", "probe@other.test"), ("<>", ""), ("", "")],
)
def test_one_that_stays(text, address):
    made = sender(text)
    assert made.current(7) == address
    assert made.known("PROBE@" + address.rpartition("@")[2].upper(), 7) == (address or None)
    assert made.known("probeX@gw.test", 7) is None and made.known("", 7) is None


def test_one_that_changes():
    made = sender("probe", "1h")
    now = (31 * 31 + 12) * HOUR
    assert made.current(now) == "probe10D@gw.test"
    for address in ("probe10C@gw.test", "probe10D@gw.test", "Probe10F@GW.test"):
        assert made.known(address, now + HOUR - 1) == "probe@gw.test"
    for address in ("probe10B@gw.test", "probe10G@gw.test", "probe@gw.test", "probe10d@gw.test", "probe10D@x.test"):
        assert made.known(address, now) is None


@pytest.mark.parametrize("text", ["@gw.test", "probe@"])
def test_one_that_is_no_address(text):
    with pytest.raises(ConfigError, match="address_verify_sender"):
        sender(text)
