"""What `mailgateway explain` hears of the SMTP client: hosts by preference, TLS, and as whom it would log in."""

from __future__ import annotations

from typing import Any

from gateway.interfaces import DNSError, Request
from spool.envelope import Envelope, Recipient
from spool.interfaces import Entry, RecipientState
from tests.transports.smtp.world import World

LOGINS: dict[str, Any] = {
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_password_maps":
        "inline:{ {one.test=anna:geheim} {two.test=bert:secreto} {[relay.test]:587=carl:skrytyj} }",
}


def described(world: World, nexthop: str) -> list[str]:
    entry = Entry("ID", Envelope("a@b.c", [Recipient("joe@dest.test")]), [RecipientState()])
    lines: list[str] = world.net.run(world.transport.describe(Request(entry, "smtp", nexthop, [0], ["joe@dest.test"])))
    return [line for line in lines if "TLS" not in line]


NOT_TRIED = "not tried: this host, not better than it, or without address"


def hosts(world: World) -> None:
    world.names.mxs["dest.test"] = [(10, "one.test"), (20, "two.test"), (30, "gone.test")]
    world.names.hosts = {"one.test": ["192.0.2.1"], "two.test": ["192.0.2.2"], "relay.test": ["192.0.2.9"]}


def test_mail_exchangers_with_their_preferences() -> None:
    world = World()
    hosts(world)
    assert described(world, "dest.test") == [
        "dest.test: MX 10 one.test[192.0.2.1]:25", "dest.test: MX 20 two.test[192.0.2.2]:25",
        f"dest.test: MX 30 gone.test: {NOT_TRIED}",
    ]


def test_hosts_behind_this_one_are_not_tried() -> None:
    world = World(own=("192.0.2.2",))
    hosts(world)
    assert described(world, "dest.test") == [
        "dest.test: MX 10 one.test[192.0.2.1]:25", f"dest.test: MX 20 two.test: {NOT_TRIED}",
        f"dest.test: MX 30 gone.test: {NOT_TRIED}",
    ]


def test_no_mail_exchanger_is_asked_for_in_brackets() -> None:
    world = World()
    hosts(world)
    assert described(world, "[relay.test]:587") == ["[relay.test]:587: relay.test[192.0.2.9]:587"]
    world.names.mxs["away.test"] = DNSError("try again", temporary=True)
    assert described(world, "away.test") == ["away.test: would wait or be returned: try again"]


def test_names_of_logins_and_no_passwords() -> None:
    world = World(**LOGINS)
    hosts(world)
    assert described(world, "dest.test")[-2:] == [
        "dest.test: one.test: logs in as anna", "dest.test: two.test: logs in as bert",
    ]
    assert described(world, "[relay.test]:587")[-1] == "[relay.test]:587: logs in as carl"
    assert described(world, "[192.0.2.7]")[-1] == "[192.0.2.7]: does not log in"
