"""permit_mx_backup."""

from __future__ import annotations

import pytest

from gateway.interfaces import MX
from tests.gateway.smtpd.rig import Rig

DENIED = "554 5.7.1 <a@far.test>: Relay access denied"
AWAY = "450 4.4.4 <a@far.test>: Recipient address rejected: Unable to look up mail exchanger"


def ask(servers, hosts=(), recipient="a@far.test", **settings):
    restrictions = "permit_mx_backup, reject_unauth_destination"
    rig = Rig(own=("192.0.2.1",), smtpd_relay_restrictions=restrictions, **settings)
    rig.resolver.servers["far.test"] = servers
    rig.resolver.hosts.update(hosts)
    return rig.connect().say("EHLO x", "MAIL FROM:<a@b.test>", f"RCPT TO:<{recipient}>")[2]


BOTH = [MX(10, "mx.far.test"), MX(20, "other.test")]
HERE = {"mx.far.test": ["198.51.100.1"], "other.test": ["203.0.113.5", "192.0.2.1"]}


@pytest.mark.parametrize(
    "servers, hosts, settings, reply",
    [
        (BOTH, HERE, {}, "250 2.1.5 Ok"),
        ([MX(10, "mx.far.test"), MX(20, "gw.test")], {}, {}, "250 2.1.5 Ok"),
        ([MX(10, "mx.far.test"), MX(20, "gw.test")], {"mx.far.test": ["192.0.2.1"]}, {}, DENIED),
        ([MX(10, "gw.test"), MX(20, "other.test")], HERE, {}, DENIED),
        ([MX(10, "gw.test")], {}, {}, DENIED),
        ([MX(10, "other.test")], HERE, {}, DENIED),
        (BOTH, {**HERE, "other.test": ["198.51.100.2"]}, {}, DENIED),
        (BOTH, {"mx.far.test": ["198.51.100.1"]}, {}, f"{AWAY} host other.test: Name or service not known"),
        ([MX(10, "mx.far.test"), MX(20, "other.test")], {**HERE, "mx.far.test": None},
         {"permit_mx_backup_networks": "198.51.100.0/24"},
         f"{AWAY} host mx.far.test: Temporary failure in name resolution"),
        ([], {}, {}, DENIED),
        (BOTH, HERE, {"permit_mx_backup_networks": "198.51.100.0/24"}, "250 2.1.5 Ok"),
        (BOTH, HERE, {"permit_mx_backup_networks": "10.0.0.0/8"}, DENIED),
        (None, {}, {}, f"{AWAY} information: try again"),
    ],
)  # fmt: skip
def test_foreign_domains(servers, hosts, settings, reply):
    assert ask(servers, hosts, **settings) == reply


@pytest.mark.parametrize(
    "recipient, code",
    [("joe@gw.test", "250"), ("a%b@far.test", "554"), ("a@[198.51.100.1]", "554"), ("a@no.test", "554")],
)
def test_others(recipient, code):
    assert ask(BOTH, HERE, recipient).startswith(code)
