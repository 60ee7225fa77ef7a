"""Who hears of what, and what the notices look like."""

import base64
import io
import re
import time
from email import message_from_bytes

import pytest

from gateway.interfaces import Attachment, Entry, Rejected
from gateway.notices.notices import Notices
from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_NEVER,
    NOTIFY_SUCCESS,
    Client,
    Envelope,
    Recipient,
    note_expanded,
)
from spool.interfaces import RecipientState, SpoolError
from tests.gateway.content.support import NOW, Way, now

ORIGINAL = b"Received: by gw\nSubject: x\n\nThe body.\n"
SMTP = {"remote_mta": "dns; remote.example", "diagnostic_type": "smtp", "diagnostic": "550 5.1.1 no such user"}
SAID = "host remote.example[192.0.2.25] said: 550 5.1.1 no such user (in reply to RCPT TO command)"


def failed(reason=SAID, details=SMTP, dsn="5.1.1", status="bounced", relay="remote.example[192.0.2.25]:25"):
    return RecipientState(status=status, dsn=dsn, reason=reason, relay=relay, details=dict(details))


class Bounces:
    def __init__(self, content=ORIGINAL, **parameters):
        self.way = Way(**parameters)
        self.notices = Notices(self.way.settings, self.way.cleanup, self.way.spool, self.way.log, self.way.clock)
        if content is not None:
            self.way.spool.add("OLD", content)

    def entry(self, sender="a@client.example", recipients=(), states=None, **more):
        recipients = list(recipients) or [Recipient("x@remote.example", "x@remote.example", "rfc822;x@remote.example")]
        envelope = Envelope(sender, recipients, arrival=NOW - 60, client=Client("c", "1"), **more)
        return Entry("OLD", envelope, states or [failed() for _ in recipients])

    def send(self, kind, entry):
        now(getattr(self.notices, kind)(entry, range(len(entry.states))))
        return self.messages

    @property
    def drafts(self):
        return [draft for id, draft in self.way.spool.stored.items() if id != "OLD"]

    @property
    def messages(self):
        return [message_from_bytes(draft.data) for draft in self.drafts]


def fields(message):
    """The blocks of the machine-readable part."""
    return [dict(block.items()) for block in message.get_payload()[1].get_payload()]


def test_a_non_delivery_notice():
    bounces = Bounces()
    (message,) = bounces.send("bounce", bounces.entry(envid="QQ+314"))
    (draft,) = bounces.drafts
    assert draft.envelope.sender == "" and [one.address for one in draft.envelope.recipients] == ["a@client.example"]
    assert draft.envelope.eight_bit
    assert [name for name, _ in message.items()] == [
        "Received", "Date", "From", "Subject", "To", "Auto-Submitted", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", "Message-Id",
    ]
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@gw.my.domain>"
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["To"] == "a@client.example" and message["Auto-Submitted"] == "auto-replied"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.get_payload()] == [
        "text/plain", "message/delivery-status", "message/rfc822",
    ]
    about, recipient = fields(message)
    assert about["Reporting-MTA"] == "dns; gw.my.domain" and about["Original-Envelope-Id"] == "QQ+314"
    assert about["X-Postfix-Queue-ID"] == "OLD" and "Arrival-Date" in about
    assert about["X-Postfix-Sender"] == "rfc822; a@client.example"
    assert recipient == {
        "Final-Recipient": "rfc822; x@remote.example", "Original-Recipient": "rfc822;x@remote.example",
        "Action": "failed", "Status": "5.1.1", "Remote-MTA": "dns; remote.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
    }
    text = message.get_payload()[0].get_payload()
    assert text.startswith("This is the mail system at host gw.my.domain.\n")
    assert ("<x@remote.example>: host remote.example[192.0.2.25] said: 550 5.1.1 no such\n"
            "    user (in reply to RCPT TO command)\n") in text
    assert draft.data.endswith(b"\n\nReturn-Path: <a@client.example>\n" + ORIGINAL + b"\n--" +
                               message.get_boundary().encode() + b"--\n")
    assert "bounce: OLD: sender non-delivery notification: QID1" in bounces.way.log.text
    assert bounces.way.notified == ["QID1"]


def test_a_reason_of_blanks_is_told_in_time():
    """Another host's reply may be of them, and is told for each recipient."""
    bounces = Bounces()
    begin = time.perf_counter()
    bounces.send("bounce", bounces.entry(states=[failed("host said:" + " " * 10_000 + "x")]))
    assert time.perf_counter() - begin < 0.5


def test_a_header_of_many_fields_comes_back_in_time():
    """As much of it as is returned at most; each bounce of such mail would hold up everybody else."""
    bounces = Bounces(b"a:\n" * 400_000 + b"\nThe body.\n")
    begin = time.perf_counter()
    (message,) = bounces.send("bounce", bounces.entry(ret="HDRS"))
    assert time.perf_counter() - begin < 2.0
    assert message.get_payload()[2].get_payload().endswith("\na:\na:\n")


@pytest.mark.parametrize("kind, state", [
    ("bounce", failed()), ("success", failed("sent", {"action": "delivered"}, "2.0.0", "sent")),
])
def test_what_is_attached_stands_with_the_text(kind, state):
    bounces, picture = Bounces(notify_classes="bounce"), bytes(range(256))
    to = Recipient("x@remote.example", notify=NOTIFY_SUCCESS | NOTIFY_FAILURE)
    attached = [Attachment("page-1.png", "image/png", base64.b64encode(picture).decode())]
    entry = bounces.entry(recipients=[to], states=[state])
    now(getattr(bounces.notices, kind)(entry, [0], attached))
    report, *copies = bounces.messages
    first, status, original = report.get_payload()
    text, shown = first.get_payload()
    assert text.get_content_type() == "text/plain" and "<x@remote.example>: " in text.get_payload()
    assert shown.get_content_type() == "image/png" and shown.get_filename() == "page-1.png"
    assert shown.get_payload(decode=True) == picture
    assert max(map(len, shown.get_payload().split())) == 76
    assert status.get_content_type() == "message/delivery-status"
    assert [part.get_content_type() for copy in copies for part in copy.walk() if part.get_filename()] == []


def test_a_reason_of_our_own():
    bounces = Bounces(mail_name="mail/gateway")
    state = failed("local delivery is disabled", {}, "5.0.0", relay="none")
    (message,) = bounces.send("bounce", bounces.entry(states=[state]))
    assert fields(message)[1]["Diagnostic-Code"] == "X-mail-gateway; local delivery is disabled"
    assert "Remote-MTA" not in fields(message)[1]


@pytest.mark.parametrize(
    ("ret", "limit", "kind"),
    [
        ("", "50000", "message/rfc822"), ("FULL", "50000", "message/rfc822"), ("HDRS", "50000", "text/rfc822-headers"),
        ("FULL", "20", "text/rfc822-headers"),
    ],
)  # fmt: skip
def test_how_much_comes_back(ret, limit, kind):
    bounces = Bounces(bounce_size_limit=limit)
    (message,) = bounces.send("bounce", bounces.entry(ret=ret))
    assert message.get_payload()[2].get_content_type() == kind
    assert (b"The body." in bounces.drafts[0].data) is (kind == "message/rfc822")
    assert b"\nSubject: x\n" in bounces.drafts[0].data


def test_a_message_that_cannot_be_read():
    bounces = Bounces(content=None)
    (message,) = bounces.send("bounce", bounces.entry())
    assert len(message.get_payload()) == 2
    assert "warning: OLD: the message cannot be returned: OLD is gone" in bounces.way.log.text


@pytest.mark.parametrize(
    ("kind", "notify", "told"),
    [
        ("bounce", 0, True), ("bounce", NOTIFY_FAILURE, True), ("bounce", NOTIFY_NEVER, False),
        ("bounce", NOTIFY_DELAY, False), ("bounce", NOTIFY_SUCCESS, False),
        ("delayed", 0, True), ("delayed", NOTIFY_DELAY, True), ("delayed", NOTIFY_FAILURE, False),
        ("delayed", NOTIFY_NEVER, False),
    ],
)  # fmt: skip
def test_what_the_sender_wants_to_hear(kind, notify, told):
    bounces = Bounces()
    recipients = [Recipient("x@remote.example", notify=notify), Recipient("y@remote.example", notify=NOTIFY_NEVER)]
    states = [failed(status={"bounce": "bounced", "delayed": "deferred"}[kind]) for _ in recipients]
    messages = bounces.send(kind, bounces.entry(recipients=recipients, states=states))
    assert len(messages) == told
    if told:
        assert [one["Final-Recipient"] for one in fields(messages[0])[1:]] == ["rfc822; x@remote.example"]


def test_a_warning():
    bounces = Bounces(delay_warning_time="4h")
    state = failed("busy", {}, "4.2.1", "deferred")
    (message,) = bounces.send("delayed", bounces.entry(states=[state]))
    assert message["Subject"] == "Delayed Mail (still being retried)"
    assert "has not been delivered for 4 hour(s)" in message.get_payload()[0].get_payload()
    assert "until it is 5 day(s) old" in message.get_payload()[0].get_payload()
    recipient = fields(message)[1]
    assert recipient["Action"] == "delayed" and recipient["Will-Retry-Until"].startswith("Sun, 29 Nov 2026")
    assert message.get_payload()[2].get_content_type() == "text/rfc822-headers"
    assert "sender delay notification: QID1" in bounces.way.log.text


def test_copies_for_the_postmaster():
    bounces = Bounces(notify_classes="bounce, delay", bounce_notice_recipient="bounces")
    notice, copy = bounces.send("bounce", bounces.entry(recipients=[
        Recipient("x@remote.example"), Recipient("y@remote.example", notify=NOTIFY_NEVER)]))
    assert bounces.drafts[1].envelope.sender == "double-bounce@gw.my.domain"
    assert bounces.drafts[1].envelope.recipients[0].original == "bounces"
    assert copy["To"] == "bounces@gw.my.domain" and copy["Auto-Submitted"] == "auto-generated"
    assert copy["Subject"] == "Postmaster Copy: Undelivered Mail"
    assert copy.get_payload()[2].get_content_type() == "text/rfc822-headers"
    assert "This is the mail system" not in copy.get_payload()[0].get_payload()
    assert len(fields(notice)) == 2 and len(fields(copy)) == 3
    bounces.send("delayed", bounces.entry(states=[failed(status="deferred")]))
    assert bounces.messages[3]["Subject"] == "Postmaster Warning: Delayed Mail"
    assert bounces.messages[3]["To"] == "postmaster@gw.my.domain"
    assert bounces.way.log.text.count("postmaster non-delivery notification: QID2") == 1
    assert bounces.way.log.text.count("postmaster delay notification: QID4") == 1


def test_mail_without_a_sender():
    silent = Bounces()
    assert silent.send("bounce", silent.entry("")) == []
    bounces = Bounces(notify_classes="2bounce", **{"2bounce_notice_recipient": "doubles@gw.my.domain"})
    (copy,) = bounces.send("bounce", bounces.entry(""))
    assert copy["To"] == "doubles@gw.my.domain"
    assert bounces.drafts[0].envelope.sender == "double-bounce@gw.my.domain"
    assert b"\nReturn-Path: <MAILER-DAEMON@gw.my.domain>\n" in bounces.drafts[0].data
    assert "OLD: postmaster non-delivery notification: QID1" in bounces.way.log.text
    assert bounces.send("delayed", bounces.entry("")) == [copy] or len(bounces.messages) == 1
    assert bounces.send("success", bounces.entry("")) and len(bounces.messages) == 1


def test_mail_to_the_postmaster_never_goes_round():
    bounces = Bounces(notify_classes="bounce, 2bounce, delay")
    entry = bounces.entry("Double-Bounce@gw.my.domain", [Recipient("postmaster@x.example", notify=NOTIFY_SUCCESS)])
    for kind in ("bounce", "delayed", "success", "verify"):
        assert bounces.send(kind, entry) == []
    assert bounces.way.log.text == "bounce: warning: OLD: undeliverable postmaster notification discarded"


def test_success():
    def sent(reason, relay, **details):
        return RecipientState(True, "sent", "2.0.0", reason, relay, details)

    bounces = Bounces()
    names = ["joe@gw.my.domain", "many@gw.my.domain", "x@plain.example", "x@remote.example", "no@remote.example"]
    remote = {"remote_mta": "dns; plain.example", "diagnostic_type": "smtp", "diagnostic": "250 2.0.0 Ok"}
    states = [
        sent("delivered to mailbox", "local", action="delivered"),
        sent("forwarded as QID9", "local", action="passed"),
        sent("250 2.0.0 Ok", "plain.example[192.0.2.26]:25", action="relayed", **remote),
        sent("250 2.0.0 Ok", "remote.example[192.0.2.25]:25", action="passed", **remote),
        sent("250 2.0.0 Ok", "remote.example[192.0.2.25]:25", action="relayed", **remote),
    ]
    recipients = [Recipient(name, notify=NOTIFY_SUCCESS) for name in names]
    recipients[4].notify = NOTIFY_NEVER
    states[1].others = (
        RecipientState(True, "expanded", "2.0.0", "alias expanded", "local", {"action": "expanded"}),
        RecipientState(True, "sent", "2.0.0", "delivered to mailbox", "local", {"action": "delivered"},
                       Recipient("member@gw.my.domain", notify=NOTIFY_NEVER)),
    )
    (message,) = bounces.send("success", bounces.entry(recipients=recipients, states=states, ret="FULL"))
    assert message["Subject"] == "Successful Mail Delivery Report"
    told = [(one["Final-Recipient"][8:], one["Action"], one["Diagnostic-Code"]) for one in fields(message)[1:]]
    assert told == [
        ("joe@gw.my.domain", "delivered", "X-Postfix; delivery via local: delivered to mailbox"),
        ("many@gw.my.domain", "expanded", "X-Postfix; delivery via local: alias expanded"),
        ("x@plain.example", "relayed", "smtp; 250 2.0.0 Ok"),
    ]
    assert message.get_payload()[2].get_content_type() == "text/rfc822-headers"
    assert "OLD: sender delivery status notification: QID1" in bounces.way.log.text


def test_a_list_that_an_alias_stood_for_is_told_of_as_expanded():
    bounces = Bounces()
    entry = bounces.entry(states=[RecipientState(True, "sent", "2.0.0", "250 Ok", "host")])
    note_expanded(entry.envelope, Recipient("list@gw.my.domain", "list", "rfc822;list@old.example", NOTIFY_SUCCESS))
    note_expanded(entry.envelope, Recipient("other@gw.my.domain", "other@gw.my.domain"))
    expected = [
        ("rfc822; list@gw.my.domain", "rfc822;list@old.example", "expanded", "2.0.0", "X-Postfix; alias expanded"),
        ("rfc822; other@gw.my.domain", None, "expanded", "2.0.0", "X-Postfix; alias expanded"),
    ]
    names = ("Final-Recipient", "Original-Recipient", "Action", "Status", "Diagnostic-Code")
    for kind, others in (("success", 0), ("verify", 1)):
        message = bounces.send(kind, entry)[-1]
        assert [tuple(one.get(name) for name in names) for one in fields(message)[1 + others :]] == expected


def test_reports_that_were_asked_for():
    bounces = Bounces()
    states = [
        failed(status="undeliverable"), RecipientState(True, "deliverable", "2.0.0", "delivers to mailbox", "local")]
    states[1].others = (
        RecipientState(True, "deliverable", "2.0.0", "forwards to x@y", "local", recipient=Recipient("x@y", "c")),)
    entry = bounces.entry(recipients=[Recipient("a@b"), Recipient("c@d")], states=states, trace="verify")
    (message,) = bounces.send("verify", entry)
    assert message["Subject"] == "Mail Delivery Status Report"
    assert [(one["Final-Recipient"], one.get("Original-Recipient"), one["Action"]) for one in fields(message)[1:]] == [
        ("rfc822; a@b", None, "undeliverable"), ("rfc822; c@d", None, "deliverable"),
        ("rfc822; x@y", "rfc822;c", "deliverable")]
    assert "delivery via local: delivers to mailbox" in message.get_payload()[0].get_payload()


@pytest.mark.parametrize(("status", "details", "action"), [
    ("sent", {"action": "delivered"}, "delivered"), ("sent", {"action": "passed"}, "relayed"), ("sent", {}, "relayed"),
    ("bounced", {}, "failed"), ("deferred", {}, "delayed"), ("expanded", {"action": "expanded"}, "expanded")])
def test_reports_on_watched_mail(status, details, action):
    bounces = Bounces()
    state = RecipientState(True, status, "2.0.0", "text", "local", details)
    (message,) = bounces.send("verify", bounces.entry(states=[state], trace="record"))
    assert fields(message)[1]["Action"] == action


def members(sender="a@client.example", notify=0):
    """An alias of which one member failed, another is put off, the third got it; and a list with an owner."""
    owned = failed("command failed", {"return_to": "owner-list@gw.my.domain"}, relay="local")
    owned.recipient = Recipient("list@gw.my.domain", notify=notify)
    states = [failed("later", {}, "4.3.0", "deferred"), owned]
    states[0].others = (
        RecipientState(True, "sent", "2.0.0", "delivered to mailbox", "local", {}, Recipient("x@gw.my.domain")),
        RecipientState(True, "bounced", "5.1.1", "unknown user", "local", {},
                       Recipient("ann@gw.my.domain", "team", notify=notify)),
    )
    return [Recipient("team@gw.my.domain", "team", notify=notify), Recipient("list@gw.my.domain", "list")], states


def told(message):
    return [(one["Final-Recipient"][8:], one.get("Original-Recipient")) for one in fields(message)[1:]]


def test_members_of_an_alias_and_owners_of_lists():
    bounces = Bounces()
    recipients, states = members()
    entry = bounces.entry(recipients=recipients, states=states)
    notice, owners = bounces.send("bounce", entry)
    assert notice["To"] == "a@client.example"
    assert told(notice) == [("team@gw.my.domain", "rfc822;team"), ("ann@gw.my.domain", "rfc822;team")]
    assert owners["To"] == "owner-list@gw.my.domain" and told(owners) == [("list@gw.my.domain", None)]
    assert bounces.drafts[1].envelope.recipients[0].address == "owner-list@gw.my.domain"
    assert b"\nReturn-Path: <a@client.example>\n" in bounces.drafts[1].data
    assert told(bounces.send("delayed", entry)[2]) == [("team@gw.my.domain", "rfc822;team")]


def test_an_owner_hears_of_mail_without_a_sender():
    bounces = Bounces()
    recipients, states = members()
    (message,) = bounces.send("bounce", bounces.entry("", recipients, states))
    assert message["To"] == "owner-list@gw.my.domain"


def test_members_of_whom_nobody_wants_to_hear():
    bounces = Bounces()
    recipients, states = members(notify=NOTIFY_NEVER)
    assert bounces.send("bounce", bounces.entry(recipients=recipients, states=states)) == []


def test_smtputf8():
    bounces = Bounces()
    entry = bounces.entry("ä@client.example", [Recipient("ü@remote.example", "ü@her.example")], smtputf8=True)
    (message,) = bounces.send("bounce", entry)
    (draft,) = bounces.drafts
    assert draft.envelope.smtputf8
    assert message.get_param("report-type") == "delivery-status"
    assert re.findall(rb"\nContent-Type: (message/\S+)", draft.data) == [
        b"message/global-delivery-status", b"message/global",
    ]
    assert "Final-Recipient: utf-8; ü@remote.example\nOriginal-Recipient: utf-8;ü@".encode() in draft.data


def test_what_others_say_cannot_break_out():
    bounces = Bounces()
    evil = "no\r\nBcc: x@y\n\n--boundary\x1b[2J"
    state = failed(evil, {"remote_mta": evil, "diagnostic_type": "smtp", "diagnostic": evil})
    recipient = Recipient("x@remote.example", "o\nriginal@x", "rfc822;x\ny")
    (message,) = bounces.send("bounce", bounces.entry(recipients=[recipient], states=[state], envid="e\nX: y"))
    assert len(message.get_payload()) == 3 and message["Bcc"] is None
    assert set(fields(message)[1]) == {
        "Final-Recipient", "Original-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
    assert b"\x1b" not in bounces.drafts[0].data and b"\n--boundary" not in bounces.drafts[0].data


def test_trouble_reaches_the_caller():
    bounces = Bounces()
    bounces.way.spool.trouble = SpoolError("disk full", no_room=True)
    with pytest.raises(Rejected):
        bounces.send("bounce", bounces.entry())
    assert bounces.way.spool.drafts[0].aborted and "notification" not in bounces.way.log.text


def test_what_cleanup_refused():
    bounces = Bounces()
    file = io.BytesIO(b"envelope" + ORIGINAL)
    file.seek(8)
    envelope = Envelope("joe", [Recipient("x@remote.example")], size=len(ORIGINAL))
    now(bounces.notices.refused("NEW", envelope, file, Rejected(554, "5.4.0", "Error: too many hops")))
    (message,) = bounces.messages
    assert message["To"] == "joe@gw.my.domain"
    assert fields(message)[1]["Status"] == "5.4.0"
    assert fields(message)[1]["Diagnostic-Code"] == "X-Postfix; too many hops"
    assert ORIGINAL in bounces.drafts[0].data and not file.closed
    assert "NEW: to=<x@remote.example>, relay=none, " in bounces.way.log.text
    assert "dsn=5.4.0, status=bounced (too many hops)" in bounces.way.log.text


def test_threads():
    bounces = Bounces(enable_threaded_bounces="yes")
    (message,) = bounces.send("bounce", bounces.entry(message_id="<m@x>"))
    assert message["References"] == message["In-Reply-To"] == "<m@x>"


def test_the_transcript_of_a_session():
    bounces = Bounces(notify_classes="policy", error_notice_recipient="errors@gw.my.domain")
    lines = [" Out: 220 gw.my.domain ESMTP", " In:  QUIT"]
    now(bounces.notices.session({"protocol"}, "unknown[198.51.100.7]", lines))
    assert bounces.messages == []
    now(bounces.notices.session({"protocol", "policy"}, "unknown[198.51.100.7]", lines))
    (message,) = bounces.messages
    assert [name for name, _ in message.items()] == ["Received", "Date", "From", "To", "Subject", "Message-Id"]
    assert message["To"] == "Postmaster <errors@gw.my.domain>"
    assert message["Subject"] == "Postfix SMTP server: errors from unknown[198.51.100.7]"
    assert message.get_payload() == (
        "Transcript of session follows.\n\n Out: 220 gw.my.domain ESMTP\n In:  QUIT\n\n\n"
        "For other details, see the local mail logfile\n"
    )
    now(bounces.notices.session({"policy"}, "unknown[198.51.100.7]", lines, "too many errors"))
    assert bounces.messages[1].get_payload().endswith(
        " In:  QUIT\n\nSession aborted, reason: too many errors\n\nFor other details, see the local mail logfile\n"
    )
    now(bounces.notices.client_session({"policy"}, "mx.example[192.0.2.25]", lines))
    assert bounces.messages[2]["Subject"] == "Postfix SMTP client: errors from mx.example[192.0.2.25]"
    assert bounces.messages[2].get_payload().startswith(
        "Unexpected response from mx.example[192.0.2.25].\n\nTranscript of session follows.\n\n Out: 220"
    )


VERP_RECIPIENTS = (Recipient("x@remote.example", "x@remote.example"), Recipient("y@remote.example", "Y@list.example"))


def test_with_verp_each_recipient_has_a_notice_of_its_own():
    bounces = Bounces(notify_classes="bounce")
    sent = bounces.send("bounce", bounces.entry(recipients=VERP_RECIPIENTS, verp="+="))
    assert [message["To"] for message in sent] == [
        "a+x=remote.example@client.example", "postmaster@gw.my.domain",
        "a+Y=list.example@client.example", "postmaster@gw.my.domain",
    ]
    for message, address in zip(sent, ("x", "x", "y", "y"), strict=True):
        about, *parts = fields(message)
        assert [part["Final-Recipient"] for part in parts] == [f"rfc822; {address}@remote.example"]
        assert about["X-Postfix-Sender"] == "rfc822; a@client.example"


@pytest.mark.parametrize(
    ("sender", "more", "told"),
    [
        ("a@client.example", {"disable_verp_bounces": "yes"}, ["a@client.example"]),
        ("", {}, []),
        ("double-bounce@gw.my.domain", {}, []),
    ],
)
def test_one_notice_in_spite_of_verp(sender, more, told):
    bounces = Bounces(notify_classes="", **more)
    sent = bounces.send("bounce", bounces.entry(sender, recipients=VERP_RECIPIENTS, verp="+="))
    assert [message["To"] for message in sent] == told


def arrived(action):
    return failed("250 Ok", {"action": action}, "2.0.0", "sent")


@pytest.mark.parametrize(("confirm", "told"), [("yes", ["a@b.c", "b@b.c"]), ("no", [])])
def test_the_end_of_a_delay_is_told_to_who_was_told_of_the_delay(confirm, told):
    bounces = Bounces(confirm_delay_cleared=confirm)
    recipients = [
        Recipient("a@b.c"), Recipient("b@b.c", notify=NOTIFY_DELAY), Recipient("c@b.c", notify=NOTIFY_FAILURE),
        Recipient("d@b.c", notify=NOTIFY_NEVER), Recipient("e@b.c", notify=NOTIFY_SUCCESS),
    ]
    entry = bounces.entry(recipients=recipients, states=[arrived("passed") for _ in recipients], warned=True)
    sent = bounces.send("success", entry)
    assert [part["Final-Recipient"].removeprefix("rfc822; ") for one in sent for part in fields(one)[1:]] == told
    assert {part["Action"] for one in sent for part in fields(one)[1:]} <= {"relayed"}


def test_without_a_delay_nobody_hears_of_its_end():
    bounces = Bounces(confirm_delay_cleared="yes")
    assert bounces.send("success", bounces.entry(states=[arrived("delivered")])) == []


def test_a_long_line_of_a_session_is_folded_and_templates_do_not_sign_it(tmp_path):
    (tmp_path / "templates").write_text("failure_template = <<EOF\nFrom: Me <me@x>\nSubject: s\n\nx\nEOF\n")
    bounces = Bounces(notify_classes="policy", bounce_template_file=str(tmp_path / "templates"))
    now(bounces.notices.session({"policy"}, "c[192.0.2.7]", [" In:  " + "word " * 20]))
    (message,) = bounces.messages
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@gw.my.domain>"
    (tmp_path / "templates").write_text("failure_template = <<EOF\nFrom: MAILER-DAEMON (Me)\nSubject: s\n\nx\nEOF\n")
    again = Bounces(notify_classes="", bounce_template_file=str(tmp_path / "templates"))
    assert again.send("bounce", again.entry())[0]["From"] == "MAILER-DAEMON@gw.my.domain (Me)"
    lines = message.get_payload().splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith(" In:"))
    assert len(lines[at]) <= 78 and lines[at + 1].startswith("     word")


def test_what_went_no_way_is_reported_without_one():
    bounces = Bounces()
    nowhere = failed("User unknown in virtual alias table", {}, "5.1.1", "undeliverable", "none")
    (message,) = bounces.send("verify", bounces.entry(states=[nowhere]))
    assert fields(message)[1]["Diagnostic-Code"] == "X-Postfix; User unknown in virtual alias table"
