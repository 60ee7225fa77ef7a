"""Milters of other programs: one that changes and refuses, two opendkims, one to sign and one to verify; rspamd."""

from __future__ import annotations

import smtplib
from contextlib import ExitStack

import pytest

from gateway.content.milter import protocol
from tests.system.milter import Milter, make_key, opendkim, rspamd

pytestmark = pytest.mark.system

CONTINUE = (protocol.CONTINUE, b"")


def opinion(command: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
    if command == protocol.RCPT and data.startswith(b"<bad@"):
        return [(protocol.REPLY, b"550 5.7.1 Not him\0")]
    if command == protocol.END:
        more = (protocol.ADD_RECIPIENT, b"<more@far.example>\0")
        return [(protocol.ADD_HEADER, b"X-Seen\0by a milter\0"), more, CONTINUE]
    return [CONTINUE]


@pytest.fixture
def relay(either, make_sink):
    made = either("twistd")
    made.sink = make_sink()
    made.set(transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{made.sink.port}}}")
    return made


def test_a_message_is_changed_and_a_recipient_refused(relay):
    with Milter(opinion) as milter:
        relay.set(smtpd_milters=milter.place, non_smtpd_milters=milter.place)
        relay.start()
        with relay.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            client.sendmail("a@b.example", ["bad@far.example"], "Subject: x\n\nx\n")
        assert caught.value.recipients["bad@far.example"] == (550, b"5.7.1 Not him")
        relay.send("joe@far.example", "Subject: x\n\n" + "large\n" * 100_000)
        received = relay.sink.wait(1)
        assert {address for one in received for address in one.recipients} == {"joe@far.example", "more@far.example"}
        assert all(one.message["X-Seen"] == "by a milter" and one.data.count(b"large\n") == 100_000 for one in received)
        relay.run("sendmail", "-f", "a@b.example", "ann@far.example", stdin="Subject: local\n\nx\n", check=True)
        assert relay.sink.wait(len(received) + 1)[-1].message["X-Seen"] == "by a milter"


def test_one_that_is_away_is_a_temporary_failure(relay):
    with Milter(opinion) as gone:
        pass
    relay.set(smtpd_milters=gone.place)
    relay.start()
    with relay.client() as client:
        assert client.docmd("MAIL FROM:<a@b.example>") == (451, b"4.7.1 Service unavailable - try again later")
    relay.wait_for(f"warning: connect to Milter service {gone.place}: Connection refused")


@pytest.mark.programs("opendkim", "opendkim-genkey", package="opendkim, opendkim-tools")
def test_what_opendkim_signs_opendkim_finds_good(relay, folder):
    make_key(folder)
    with ExitStack() as stack:
        places = [stack.enter_context(opendkim(folder, mode)) for mode in "sv"]
        relay.set(smtpd_milters=" ".join(places))
        relay.start()
        text = "From: ann@example.com\nTo: joe@far.example\nSubject: signed\nDate: Tue, 24 Nov 2026 12:00:00 +0000\n\n"
        relay.send("joe@far.example", f"{text}Hello.\n.dot\n\n\n", sender="ann@example.com")
        (one,) = relay.sink.wait(1)
    assert "d=example.com" in one.message["DKIM-Signature"]
    assert "dkim=pass" in one.message["Authentication-Results"]


PATTERN = "JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""With X in front, mail is to be refused, with Y to be marked, with Z to have another subject (rspamd's documentation,
GTUBE-like test patterns)."""


@pytest.mark.programs("rspamd", package="rspamd")
def test_what_rspamd_takes_for_spam(relay, folder):
    with rspamd(folder) as place:
        relay.set(smtpd_milters=place, non_smtpd_milters=place)
        relay.start()
        text = "From: ann@example.com\nTo: joe@far.example\nMessage-Id: <x@example.com>\nSubject: %s\n\nHello.\n%s\n"
        with relay.client() as client, pytest.raises(smtplib.SMTPDataError) as caught:
            client.sendmail("ann@example.com", ["joe@far.example"], text % ("reject", f"X{PATTERN}"))
        assert (caught.value.smtp_code, caught.value.smtp_error) == (554, b"5.7.1 Gtube pattern")
        relay.wait_for("milter-reject: END-OF-MESSAGE from .*: 5.7.1 Gtube pattern; from=<")
        for subject, body in (("good", ""), ("mark", f"Y{PATTERN}"), ("rename", f"Z{PATTERN}")):
            relay.send("joe@far.example", text % (subject, body))
        good, marked, renamed = relay.sink.wait(3)
    assert good.message["X-Rspamd"] == "has seen it" and good.message["X-Spam"] is None
    assert marked.message["X-Spam"] == "Yes" and renamed.message["Subject"] == "*** SPAM *** rename"
