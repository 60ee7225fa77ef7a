"""Mails through the SMTP server and cleanup, and their routes: all as Postfix 3.7 does it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.addresses.forms import unquote
from gateway.addresses.resolve import Router
from gateway.addresses.rewriting import Rewriting, blind_copies
from gateway.content.checks import Checks
from gateway.content.cleanup import Cleanup
from tests.gateway.content.mails.questions import SITE, SITES, Mail, load
from tests.gateway.content.mails.record import header
from tests.gateway.content.support import Spool, now
from tests.gateway.smtpd.rig import Rig

ANSWERS = load()
OWN_ADDRESSES = ("127.0.0.1", "192.0.2.1")


class _Site:
    """The gateway in memory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        own = ("127.0.0.1", *settings["proxy_interfaces"].split(", "))
        rig = Rig(own=own, **settings)
        self.spool = Spool()
        surroundings = (rig.settings, rig.tables, own)
        cleanup: Any = Cleanup(
            rig.settings, cast(Any, self.spool), Rewriting.from_settings(*surroundings, rig.log), rig.log, rig.clock,
            notify=lambda *message: None, checks=Checks.of(rig.settings, rig.tables),
            sender_bcc=blind_copies("sender_bcc_maps", *surroundings),
            recipient_bcc=blind_copies("recipient_bcc_maps", *surroundings),
        )  # fmt: skip
        rig.cleanup = cleanup
        rig.factory.service = rig.service()
        self.router = Router.from_settings(*surroundings, rig.log)
        self.client = rig.connect("127.0.0.1", greet=False)
        self.client.say("EHLO pc.my.domain")

    def ask(self, mail: Mail) -> dict[str, Any]:
        client = self.client
        answer: dict[str, Any] = {}
        (answer["mail"],) = client.say(f"MAIL FROM:<{mail.sender}")
        answer["rcpt"] = client.say(*(f"RCPT TO:<{one}" for one in mail.to))
        client.say("DATA")
        reply = client.send(f"{mail.header}\nbody\n.\n".replace("\n", "\r\n")).rstrip("\n")
        answer["data"] = "queued" if "queued as" in reply else reply
        for draft in self.spool.held.values():
            envelope = draft.envelope
            answer |= {
                "sender": unquote(envelope.sender),
                "recipients": [
                    [unquote(one.address), unquote(one.original), one.orcpt, str(one.notify)]
                    for one in envelope.recipients
                ],
                "header": header(draft.data),
                "routes": [self._route(envelope.sender, one.address) for one in envelope.recipients],
            }
        self.spool.held.clear()
        return answer

    def _route(self, sender: str, address: str) -> list[Any]:
        found = now(self.router.explain(sender, address))
        if found.broken:
            return ["broken"]
        route = found.route
        kind = route.address_class.value
        return [kind, found.routed, route.transport, route.nexthop, unquote(route.recipient)]


@pytest.mark.parametrize("name", SITES)
def test_as_postfix_does(name: str) -> None:
    settings, mails = SITES[name]
    site = _Site({**SITE, **settings})
    different = []
    for number, (mail, expected) in enumerate(zip(mails, ANSWERS[name], strict=True)):
        got = site.ask(mail)
        for key in {**expected, **got}:
            one, other = got.get(key), expected.get(key)
            if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
                different += [
                    f"{number} {key} {at}: {mine!r}, not {theirs!r}"
                    for at, (mine, theirs) in enumerate(zip(one, other, strict=True)) if mine != theirs
                ]
            elif one != other:
                different.append(f"{number} {key}: {one!r},\n      not {other!r}")
    assert not different, "\n" + "\n".join(different)
