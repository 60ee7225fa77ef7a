"""reject_unverified_sender and reject_unverified_recipient, as the SMTP client sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.defer import succeed

from tests.gateway.smtpd.rig import Rig as PlainRig


class Rig(PlainRig):
    """``answers``: by address; a list is what is said one time after the other."""

    def __init__(self, answers, **settings):
        self.answers, self.asked = answers, []
        super().__init__(**{"smtpd_recipient_restrictions": "reject_unverified_recipient", **settings})

    def collaborators(self):
        return replace(super().collaborators(), verify=self.verify)

    def verify(self, address):
        self.asked.append(address)
        answer = self.answers[address]
        if isinstance(answer, Exception):
            raise answer
        return succeed(answer.pop(0) if isinstance(answer, list) else answer)


WAITING = ("waiting", "Address verification in progress")
BAD = ("bounced", "no such one")


def say(rig, sender="", recipient="joe@gw.test"):
    client = rig.connect()
    client.say("EHLO x", f"MAIL FROM:<{sender}>")
    return client, client.say(f"RCPT TO:<{recipient}>")[0]


@pytest.mark.parametrize(
    "answer, settings, reply",
    [
        (("ok", ""), {}, "250 2.1.5 Ok"),
        (BAD, {}, "450 4.1.1 <joe@gw.test>: Recipient address rejected: unverified address: no such one"),
        (
            BAD, {"unverified_recipient_reject_code": "550"},
            "550 5.1.1 <joe@gw.test>: Recipient address rejected: undeliverable address: no such one",
        ),
        (
            BAD, {"unverified_recipient_reject_code": "550", "unverified_recipient_reject_reason": "failed"},
            "550 5.1.1 <joe@gw.test>: Recipient address rejected: undeliverable address: failed",
        ),
        (
            ("deferred", "later"), {"unverified_recipient_defer_code": "451"},
            "451 4.1.1 <joe@gw.test>: Recipient address rejected: unverified address: later",
        ),
        (RuntimeError("away"), {}, "450 4.3.0 <joe@gw.test>: Recipient address rejected: Address lookup failure"),
    ],
)
def test_recipients(answer, settings, reply):
    assert say(Rig({"joe@gw.test": answer}, **settings))[1] == reply


def test_a_result_is_waited_for():
    rig = Rig({"joe@gw.test": [WAITING, WAITING, ("ok", "")]})
    client, reply = say(rig)
    assert reply == ""
    rig.clock.pump([3, 3])
    assert client.got() == "250 2.1.5 Ok\n"
    rig = Rig({"joe@gw.test": WAITING}, address_verify_poll_count="1")
    assert say(rig)[1].endswith("unverified address: Address verification in progress")


def test_senders():
    rig = Rig(
        {"s@far.test": BAD}, smtpd_recipient_restrictions="", smtpd_sender_restrictions="reject_unverified_sender",
        unverified_sender_reject_code="551",
    )
    reply = "551 5.1.7 <s@far.test>: Sender address rejected: undeliverable address: no such one"
    assert say(rig, "s@far.test")[1] == reply
    assert say(rig, "")[1] == "250 2.1.5 Ok"


def test_who_verifies_the_sender_of_our_probes_is_not_asked_for_anything():
    rig = Rig({}, myorigin="gw.test", local_recipient_maps="inline:{x=x}", smtpd_client_restrictions="reject")
    assert say(rig, recipient="double-bounce@gw.test")[1] == "250 2.1.5 Ok" and rig.asked == []
    assert say(rig, recipient="double-bounce1@gw.test")[1].startswith("554")


def test_a_sender_of_probes_that_changes():
    rig = Rig({}, myorigin="gw.test", address_verify_sender_ttl="1h", smtpd_client_restrictions="reject")
    sender = rig.factory.service.probe_sender.current(rig.clock.seconds())
    for _ in range(2):
        client, reply = say(rig, recipient=sender.upper())
        assert reply == "250 2.1.5 Ok"
        rig.clock.advance(3600)
    assert say(rig, recipient=sender)[1].startswith("554") and say(rig, recipient="double-bounce@gw.test")[1][0] == "5"


def test_where_nobody_can_be_asked():
    rig = PlainRig(smtpd_recipient_restrictions="reject_unverified_recipient")
    assert say(rig)[1].startswith("450 4.3.0")
