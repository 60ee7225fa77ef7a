"""Odd addresses through the SMTP server, cleanup, and the resolver: all as Postfix 3.7 does it."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest

from gateway.addresses.forms import unquote
from gateway.addresses.resolve import Router
from gateway.addresses.rewriting import Rewriting
from gateway.content.checks import Checks
from gateway.content.cleanup import Cleanup
from tests.gateway.addresses.odd.questions import ADDRESSES, MAIL_PARAMETERS, SITE, SITES, Answer, load, message
from tests.gateway.addresses.odd.record import header_values
from tests.gateway.content.support import Spool, now
from tests.gateway.smtpd.rig import Rig

ANSWERS = load()

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_ASCII = re.compile(r"[\x80-\xff]+")
_QUESTIONS = re.compile(r"\?+")
REFUSED = {
    b"a@[192.0.2.01]": "a number that begins with 0 is octal to some programs",
    b"a@[192.0.2.9": "the bracket is never closed, and where the address ends is anybody's guess",
}
"""What Postfix takes and we do not; and control characters, which have no place in a path (RFC 5321 4.1.2)."""
OWN_ADDRESSES = ("127.0.0.1", "192.0.2.1")


class _Site:
    """The gateway in memory, in one of the configurations."""

    def __init__(self, name: str) -> None:
        self.parameters = MAIL_PARAMETERS.get(name, "").encode()
        settings: dict[str, Any] = {**SITE, **SITES[name]}
        rig = Rig(own=OWN_ADDRESSES, **settings)
        self.spool = cast(Any, Spool())
        rig.cleanup = Cleanup(  # type: ignore[assignment]
            rig.settings, self.spool, Rewriting.from_settings(rig.settings, rig.tables, OWN_ADDRESSES, rig.log),
            rig.log, rig.clock, notify=lambda *message: None, checks=Checks.of(rig.settings, rig.tables),
        )
        rig.factory.service = rig.service()
        self.router = Router.from_settings(rig.settings, rig.tables, OWN_ADDRESSES, rig.log)
        self.client = rig.connect("127.0.0.1", greet=False)
        self.client.say("EHLO pc.my.domain")

    def ask(self, address: bytes) -> Answer:
        answer: Answer = {}
        client = self.client
        answer["mail"] = self._say(b"MAIL FROM:<%b>%b" % (address, self.parameters))
        if answer["mail"][0] != "2":
            self._say(b"MAIL FROM:<s@x.tld>" + self.parameters)
        answer["rcpt"] = self._say(b"RCPT TO:<%b>" % address)
        if answer["rcpt"][0] != "2":
            self._say(b"RCPT TO:<x@my.domain>")
        client.say("DATA")
        client.send(message(address).replace(b"\n", b"\r\n") + b".\r\n")
        client.say("RSET")
        (draft,) = self.spool.held.values()
        self.spool.held.clear()
        envelope = draft.envelope
        answer["sender"] = _latin(unquote(envelope.sender))
        answer["recipients"] = [
            [_latin(unquote(one.address)), _latin(unquote(one.original)), _latin(_as_rfc822(one.orcpt))]
            for one in envelope.recipients
        ]
        answer["header"] = header_values(draft.data.partition(b"\n\n")[0])
        answer["route"] = self._route(envelope.sender, envelope.recipients[0].address)
        return answer

    def _say(self, line: bytes) -> str:
        self.client.protocol.dataReceived(line + b"\r\n")
        return self.client.got().rstrip("\n")

    def _route(self, sender: str, address: str) -> list[Any]:
        found = now(self.router.explain(sender, address))
        if found.broken:
            return ["broken"]
        route = found.route
        return [
            route.address_class.value, found.routed, route.transport, _latin(route.nexthop),
            _latin(unquote(route.recipient)),
        ]


def _as_rfc822(orcpt: str) -> str:
    """Postfix does not know the address type "utf-8" (RFC 6533 3)."""
    return orcpt.replace("utf-8;", "rfc822;", 1) if orcpt.startswith("utf-8;") else orcpt


def _as_utf8(reply: str) -> str:
    """A reply whose bytes are recorded as Latin-1."""
    try:
        return reply.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return _QUESTIONS.sub("?", _NOT_ASCII.sub("?", reply))


def _latin(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


@pytest.mark.parametrize("name", SITES)
def test_as_postfix_does(name: str) -> None:
    site = _Site(name)
    different = []
    for address in ADDRESSES:
        text = address.decode("latin-1")
        expected, got = ANSWERS[name][text], site.ask(address)
        if address in REFUSED or _CONTROL.search(address):
            assert (got["mail"][:3], got["rcpt"][:3]) == ("501", "501")
            expected, got = {"header": expected["header"]}, {"header": got["header"]}
        for key in ("mail", "rcpt"):  # what is not UTF-8 is no part of a reply here
            expected |= {key: _as_utf8(expected.get(key, ""))}
            got |= {key: _QUESTIONS.sub("?", got.get(key, ""))}
        different += [
            f"{text!r} {key}: {got.get(key)!r}, not {expected.get(key)!r}"
            for key in {**expected, **got} if got.get(key) != expected.get(key)
        ]
    assert not different, "\n" + "\n".join(different)
