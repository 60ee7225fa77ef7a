"""What becomes of a message on its way into the spool."""

import re
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from gateway.addresses.rewriting import Rewriting
from gateway.content.cleanup import Cleanup
from gateway.content.header_scan import AT_ONCE
from gateway.content.intake import IN_MEMORY
from gateway.content.options import INTERNAL, IntakeOptions
from gateway.interfaces import ICleanup, IIntake, Rejected
from spool.envelope import NOTIFY_NEVER, NOTIFY_SUCCESS, Client, Envelope, Recipient
from spool.interfaces import SpoolError
from spool.memory import MemorySpool
from tests.gateway.content.support import Way, now

REMOTE = Client("client.example", "198.51.100.7", helo="client", protocol="ESMTP", rewrite_context="remote")


def test_interfaces():
    way = Way()
    assert verifyObject(ICleanup, way.cleanup)
    assert verifyObject(IIntake, now(way.cleanup.begin("pickup", Envelope("a@b", [Recipient("c@d")]))))


def test_a_local_message_is_completed():
    way = Way()
    draft = way.receive(
        b"To: Jane <jane>, someone@elsewhere.example\nCc: bob (Bob)\nBcc: secret\nSubject: x\n\nTwo.\n",
        full_name="Joe",
        received=[b"Received: by gw.my.domain (Postfix, from userid 1000)", b"\tid %(id)s; now"],
    )
    lines = draft.data.decode().splitlines()
    assert lines[:2] == ["Received: by gw.my.domain (Postfix, from userid 1000)", "\tid QID1; now"]
    assert lines[2:5] == [
        "To: Jane <jane@gw.my.domain>, someone@elsewhere.example", "Cc: bob@gw.my.domain (Bob)", "Subject: x",
    ]
    assert lines[5] == "Message-Id: <20261124120000.QID1@gw.my.domain>"
    assert re.fullmatch(r"Date: Tue, 24 Nov 2026 \d\d:00:00 [+-]\d{4} \(.*\)", lines[6])
    assert lines[7:] == ["From: Joe <joe@gw.my.domain>", "", "Two."]
    assert draft.envelope.sender == "joe@gw.my.domain"
    assert draft.envelope.message_id == "<20261124120000.QID1@gw.my.domain>"
    assert draft.envelope.size == len(draft.data)
    assert way.notified == ["QID1"]
    assert way.log.text == "cleanup: QID1: message-id=<20261124120000.QID1@gw.my.domain>"


def test_a_remote_message_stays_as_it_is():
    way = Way()
    content = b"To: jane\nMessage-ID:\n <a@b>\nX:y\n\nbody"
    draft = way.receive(content, sender="a@client.example", to=["ann@gw.my.domain"], service="smtpd", client=REMOTE)
    assert draft.data == content + b"\n"
    assert way.log.text == "cleanup: QID1: message-id=<a@b>"


def test_without_a_message_id_the_log_says_so():
    way = Way()
    way.receive(b"\nx\n", sender="a@b", client=REMOTE)
    assert way.log.text == "cleanup: QID1: message-id=<>"


def test_recipients_keep_their_first_form():
    way = Way()
    bob = Recipient("bob@my.domain", orcpt="rfc822;b@old.example", notify=NOTIFY_SUCCESS)
    draft = way.receive(b"\n", to=["ann", bob])
    assert draft.envelope.recipients == [
        Recipient("ann@gw.my.domain", "ann", "rfc822;ann@gw.my.domain"),
        Recipient("bob@my.domain", "bob@my.domain", "rfc822;b@old.example", NOTIFY_SUCCESS),
    ]


def test_aliases_are_expanded_and_duplicates_dropped():
    way = Way(virtual_alias_maps="inline:{ {team@gw.my.domain = joe, ann@gw.my.domain, joe} }")
    draft = way.receive(b"\n", to=[Recipient("team", notify=NOTIFY_SUCCESS), Recipient("TEAM", notify=NOTIFY_SUCCESS)])
    assert [(one.address, one.original, one.orcpt, one.notify) for one in draft.envelope.recipients] == [
        ("joe@gw.my.domain", "team", "rfc822;team@gw.my.domain", NOTIFY_NEVER),
        ("ann@gw.my.domain", "team", "rfc822;team@gw.my.domain", NOTIFY_NEVER),
    ]


@pytest.mark.parametrize(("apart", "expected"), [("yes", ["ann", "team"]), ("no", ["ann"])])
def test_several_ways_to_one_mailbox(apart, expected):
    way = Way(enable_original_recipient=apart, virtual_alias_maps="inline:{ {team@gw.my.domain = ann} }")
    draft = way.receive(b"\n", to=["ann", Recipient("team", notify=NOTIFY_SUCCESS)])
    assert [(one.address, one.original) for one in draft.envelope.recipients] == [
        ("ann@gw.my.domain", original) for original in expected]


def test_address_mappings_can_be_left_for_later():
    way = Way(virtual_alias_maps="inline:{ {team@gw.my.domain = joe} }", always_bcc="root")
    draft = way.receive(b"To: team\n\n", to=["team"], options=IntakeOptions(address_mappings=False))
    assert [one.address for one in draft.envelope.recipients] == ["team@gw.my.domain"]
    assert b"To: team@gw.my.domain\n" in draft.data


def test_blind_copies():
    way = Way(always_bcc="root")
    assert way.receive(b"\n").envelope.recipients[1:] == [
        Recipient("root@gw.my.domain", "root@gw.my.domain", "", NOTIFY_NEVER)
    ]
    assert len(way.receive(b"\n", options=INTERNAL).envelope.recipients) == 1
    copied = way.receive(b"\n", options=IntakeOptions(copies=("c@d.example",)))
    assert [one.address for one in copied.envelope.recipients][1:] == ["root@gw.my.domain", "c@d.example"]


def test_redirected_mail_goes_to_one():
    """It has the history of the recipient that comes first by domain and name, copies included, as in Postfix."""
    options = IntakeOptions(copies=("archive@gw.my.domain",))
    for to, original in ((["joe", "bob"], "archive@gw.my.domain"), (["joe", "z@a.example", "ann"], "z@a.example")):
        draft = Way().receive(b"\n", to=to, redirect="eve", options=options)
        found = [(one.address, one.original, one.orcpt) for one in draft.envelope.recipients]
        assert found == [("eve@gw.my.domain", original, f"rfc822;{original}")]


def test_where_mail_is_redirected_to_is_no_alias():
    way = Way(virtual_alias_maps="inline:{ {eve@gw.my.domain = joe} }")
    draft = way.receive(b"\n", to=["eve"], redirect="eve@gw.my.domain")
    assert [(one.address, one.original) for one in draft.envelope.recipients] == [("eve@gw.my.domain", "eve")]


def test_names_of_fields_take_no_room():
    """A message of 10 megabytes may have more than a million of them."""
    way = Way()
    names = b"".join(b"%x:\n" % number for number in range(1_000_000, 1_200_000))
    tracemalloc.start()
    way.receive(b"Resent-X: 1\n" + names + b"\nx\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 15 * len(names)


def test_resent_mail_gets_resent_fields():
    way = Way()
    draft = way.receive(b"Resent-To: two@remote.example\nFrom: a@b.example\nSubject: again\n\nx\n")
    added = draft.data.split(b"Subject: again\n")[1]
    assert re.match(rb"Resent-Message-Id: <.*>\nResent-Date: .*\nResent-From: joe@gw.my.domain\n\nx\n\Z", added)
    assert "resent-message-id=<20261124120000.QID1@gw.my.domain>" in way.log.text
    assert "QID1: message-id=<>" in way.log.text


@pytest.mark.parametrize(
    ("name", "style", "value"),
    [
        ('The "List"', "standard", '"The \\"List\\"" <joe@gw.my.domain>'),
        ("Joe", "standard", "Joe <joe@gw.my.domain>"),
        ("", "standard", "joe@gw.my.domain"),
        ("Joe (x)", "obsolete", "joe@gw.my.domain (Joe (x))"),
        ("Joe )x(", "obsolete", "joe@gw.my.domain (Joe \\)x\\()"),
        ("Joe \\", "obsolete", "joe@gw.my.domain (Joe \\\\)"),
        ("Jöe", "standard", "Jöe <joe@gw.my.domain>"),
        ("a\nBcc: x", "standard", '"a Bcc: x" <joe@gw.my.domain>'),
    ],
)
def test_a_missing_from(name, style, value):
    draft = Way(header_from_format=style).receive(b"\n", full_name=name)
    assert f"\nFrom: {value}\n".encode() in draft.data


@pytest.mark.parametrize(
    ("name", "style", "value"),
    [
        ("J. Jöe", "standard", "=?utf8?Q?J=2E_J=C3=B6e?= <joe@gw.my.domain>"),
        ("Jöe", "obsolete", "joe@gw.my.domain (=?utf8?Q?J=C3=B6e?=)"),
        ("Дмитрий", "standard", "=?utf8?B?0JTQvNC40YLRgNC40Lk=?= <joe@gw.my.domain>"),
        ("Joe", "standard", "Joe <joe@gw.my.domain>"),
    ],
)
def test_a_name_of_other_letters_in_a_missing_from(name, style, value):
    draft = Way(header_from_format=style, compatibility_level="3.10").receive(b"\n", full_name=name)
    assert f"\nFrom: {value}\n".encode() in draft.data


def test_a_long_name_is_several_words():
    from email.header import decode_header, make_header

    name = "Дмитрий " * 20
    draft = Way(compatibility_level="3.10").receive(b"\n", full_name=name)
    (line,) = [line for line in draft.data.splitlines() if line.startswith(b"From: ")]
    words = line.decode().removeprefix("From: ").split(" ")[:-1]
    assert len(words) > 3 and max(map(len, words)) <= 75
    assert str(make_header(decode_header(" ".join(words)))) == name.strip()


def test_a_missing_from_without_a_sender():
    assert b"From: MAILER-DAEMON\n" in Way().receive(b"\n", sender="", full_name="Joe").data


def test_a_missing_recipient_field_is_added_when_configured():
    way = Way(undisclosed_recipients_header="To: undisclosed-recipients:;")
    assert b"\nTo: undisclosed-recipients:;\n\n" in way.receive(b"\n").data
    assert b"undisclosed" not in way.receive(b"Cc: a@b.example\n\n").data


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"Subject: x\nno header\nmore\n", b"\n\nno header\nmore\n"),
        (b"Subject: x\n", b"\n"),
        (b"Subject: x\n\n", b"\n\n"),
        (b"", b"\n"),
        (b" a blank\n", b"\n\n a blank\n"),
        (b"From joe Thu Jan  1\n>From ann Thu\nSubject: x\n\ny\n", b"\n\ny\n"),
    ],
)
def test_the_header_ends_at_the_first_line_that_is_none(content, rest):
    draft = Way().receive(content, received=[b"Received: by us"])
    assert draft.data.endswith(b"From: joe@gw.my.domain" + rest)
    assert draft.data.count(b"\nFrom ") == 0


def test_mailbox_lines_of_an_smtp_client_are_kept_as_fields():
    draft = Way().receive(b"From a b\nSubject: x\n\n", sender="a@b", service="smtpd", client=REMOTE)
    assert draft.data == b"X-Mailbox-Line: From a b\nSubject: x\n\n"


@given(st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=50, deadline=None)
def test_however_the_blocks_are_cut(cuts):
    content = b"From x\nTo: jane\n folded@a.example\nno header\n\nbody\r\n.\nend"
    places = [0, *sorted(cuts), len(content)]
    blocks = [content[start:end] for start, end in zip(places, places[1:], strict=False)]
    assert Way().receive(blocks).data == Way().receive(content).data


@pytest.mark.parametrize("size", [1000, IN_MEMORY - 100])
def test_a_large_message_is_passed_on_as_it_comes(size):
    way = Way(message_size_limit="0")
    block = b"y" * (size - 1) + b"\n"
    count = 3 * IN_MEMORY // size + 2
    draft = way.receive([b"Subject: x\n", b"\n", *[block] * count])
    assert draft.writes > 2
    assert draft.data.endswith(b"\n\n" + block * count)


def test_a_header_larger_than_memory_for_blocks_is_still_a_header():
    field = b"X-A: " + b"y" * 90 + b"\n"
    draft = Way().receive([field] * (3 * IN_MEMORY // len(field)) + [b"To: jane\n\nx\n"])
    assert b"\nTo: jane@gw.my.domain\n" in draft.data


def test_a_flood_of_fields_is_passed_on_as_it_comes():
    """Others have their turns, and no more than a piece of the header is in memory."""
    way = Way()
    count = 5 * AT_ONCE + 7
    header = b"".join(b"X-%d: a\n b\n" % number for number in range(count))
    draft = way.receive([header[at : at + 10_001] for at in range(0, len(header), 10_001)], client=REMOTE)
    assert draft.data == header
    assert draft.writes > 1
    draft = way.receive(header + b"To: jane\n\nx\n")
    assert draft.data.startswith(header + b"To: jane@gw.my.domain\nMessage-Id: <")
    assert draft.writes > 5


def test_a_long_field_is_cut():
    draft = Way(header_size_limit="21").receive(b"X-Long: 0123456789\n 0123456789\nSubject: y\n\n")
    assert draft.data.startswith(b"X-Long: 0123456789\n 0\nSubject: y\n")


def test_a_field_ends_at_a_nul():
    draft = Way().receive(b"Subject: n\0ul\n X: y\n\na\0b\n", sender="a@b", client=REMOTE)
    assert draft.data == b"Subject: n\n\na\0b\n"


def test_too_large():
    way = Way(message_size_limit="2000")
    with pytest.raises(Rejected, match="552 5.3.4 Error: message file too big"):
        way.receive([b"Subject: x\n\n", *[b"y" * 99 + b"\n"] * 20])
    assert way.spool.stored == {} and way.notified == []


def test_too_many_hops():
    way = Way(hopcount_limit="3")
    one = b"Received: from one\n"
    way.receive(one + b"\n", received=[b"Received: by us"])
    with pytest.raises(Rejected, match="554 5.4.0 Error: too many hops"):
        way.receive(one + one + b"\n", received=[b"Received: by us"])
    assert "cleanup: warning: QID2: message rejected: hopcount exceeded" in way.log.text


def test_no_recipient():
    with pytest.raises(Rejected, match="550 5.1.0"):
        Way().receive(b"\n", to=[])


def test_trouble_with_the_disk_is_temporary():
    way = Way()
    way.spool.trouble = SpoolError("disk full", no_room=True)
    with pytest.raises(Rejected, match="452 4.3.1"):
        way.receive(b"\n")
    way.spool.trouble = SpoolError("input/output error")
    with pytest.raises(Rejected, match="451 4.3.0"):
        way.receive(b"\n")
    assert all(draft.aborted for draft in way.spool.drafts) and way.notified == []


def test_a_table_that_is_away_is_temporary():
    way = Way(virtual_alias_maps="fail:away")
    with pytest.raises(Rejected, match="451 4.3.0 Error: queue file write error"):
        way.receive(b"\n")
    assert "message not accepted, try again later" in way.log.text


def test_a_mistake_of_ours_is_temporary_and_logged():
    class Broken:
        async def envelope_sender(self, address):
            raise ZeroDivisionError("oops")

        def without_mappings(self):
            return self

    way = Way()
    way.cleanup.ways[True].envelopes._rewriting = Broken()
    with pytest.raises(Rejected, match="451 4.3.0"):
        way.receive(b"\n")
    assert "error: QID1: internal: ZeroDivisionError: oops" in way.log.text


@pytest.mark.parametrize(
    ("classes", "seen"), [("", []), ("bounce", ["bounce"]), ("bounce, notify", ["bounce", "notify"])]
)
def test_mail_of_our_own_is_checked_where_that_is_wanted(classes, seen):
    way = Way(internal_mail_filter_classes=classes, header_checks="regexp:{{/^Subject: x/ PREPEND X-Seen: yes}}")
    for kind in ("bounce", "notify", ""):
        draft = way.receive(b"Subject: x\n\n", service="bounce", options=replace(INTERNAL, internal_class=kind))
        assert (b"X-Seen: yes\n" in draft.data) is (kind in seen)


def test_held_and_discarded_mail():
    way = Way()
    way.receive(b"\n", options=IntakeOptions(hold=True))
    way.receive(b"\n", options=IntakeOptions(discard=True))
    assert list(way.spool.held) == ["QID1"] and way.spool.stored == {} and way.notified == []


@pytest.mark.parametrize(
    ("field", "declared", "eight_bit"),
    [
        (b"", "8bit", True), (b"", "", False),
        (b"Content-Transfer-Encoding: 8BIT\n", "", True),
        (b"content-transfer-encoding: base64\n", "8bit", True),
        (b"Content-Transfer-Encoding:\n binary\n", "7bit", True),
        (b"Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n", "", True),
        (b"Content-Transfer-Encoding: nonsense\n", "8bit", True),
    ],
)  # fmt: skip
def test_the_body_type_is_what_the_message_says(field, declared, eight_bit):
    assert Way().receive(field + b"\n\xc3\xa4\n", encoding=declared).envelope.eight_bit is eight_bit


PARTS = b"""Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain
Content-Transfer-Encoding: 8bit

--x--
"""


@pytest.mark.parametrize(
    ("content", "more", "eight_bit"),
    [
        (PARTS, {}, True), (PARTS.replace(b"8bit", b"base64"), {}, False),
        (PARTS.replace(b"multipart/mixed", b"message/rfc822"), {}, True),
        (PARTS.replace(b"multipart/mixed", b"text/plain"), {}, False),
        (PARTS, {"detect_8bit_encoding_header": "no"}, False),
        (PARTS, {"disable_mime_input_processing": "yes"}, False),
    ],
)  # fmt: skip
def test_a_part_of_8_bits_makes_the_message_one(content, more, eight_bit):
    assert Way(**more).receive(content).envelope.eight_bit is eight_bit


@pytest.mark.parametrize("at", [150_000 - 60, 150_000 - 30, 150_000 - 7])
def test_a_mark_of_8_bits_that_comes_in_two_blocks(at):
    front, back = PARTS.split(b"--x\n", 1)
    content = front + b"y" * (at - len(front) - 1) + b"\n--x\n" + back
    blocks = [content[start : start + 150_000] for start in range(0, len(content), 150_000)]
    assert Way().receive(blocks).envelope.eight_bit


def test_smtputf8_is_noticed_in_what_users_submit():
    way = Way()
    assert way.receive("Subject: ä\n\n".encode()).envelope.smtputf8
    assert way.receive(b"\n", to=["ä@x.example"]).envelope.smtputf8
    assert not way.receive("Subject: x\n\nä\n".encode()).envelope.smtputf8
    assert not way.receive("Subject: ä\n\n".encode(), service="smtpd", client=REMOTE).envelope.smtputf8


def test_characters_that_are_not_wanted():
    way = Way(message_strip_characters=r"\0", message_reject_characters=r"\001")
    assert way.receive(b"Subject: a\0b\n\nc\0d\re\n", client=REMOTE).data == b"Subject: ab\n\ncd e\n"
    with pytest.raises(Rejected, match="550 5.7.1 disallowed character"):
        way.receive(b"\nx\1\n")
    assert Way(cleanup_replace_stray_cr_lf="no").receive(b"\na\rb\n", client=REMOTE).data == b"\na\rb\n"


def test_into_a_real_spool():
    """What is notified can be leased, and read back as it was written."""
    way = Way()
    spool = MemorySpool(reactor=way.clock)
    adopted = []
    cleanup = Cleanup(
        way.settings, spool, Rewriting.from_settings(way.settings, way.tables), way.log, way.clock,
        notify=lambda id, envelope, stored: adopted.append(spool.adopt(id, envelope)),
    )  # fmt: skip

    async def work():
        intake = await cleanup.begin("pickup", Envelope("joe", [Recipient("ann")]))
        intake.write(b"Subject: x\n\n" + b"y" * 3 * IN_MEMORY)
        assert not intake.full
        return await intake.finish()

    id = now(work())
    assert [entry.id for entry in adopted] == [id]
    assert adopted[0].envelope.recipients[0].address == "ann@gw.my.domain"
    content = now(spool.content(id))
    data = content.read()
    assert len(data) == adopted[0].envelope.size == content.size and data.startswith(b"Subject: x\nMessage-Id: <")


def test_aborting():
    way = Way()
    intake = now(way.cleanup.begin("smtpd", Envelope("a@b", [Recipient("c@d")])))
    intake.write(b"x" * 2 * IN_MEMORY)
    intake.abort()
    intake.abort()
    assert way.spool.drafts[0].aborted and way.spool.stored == {}


def test_blanks_at_the_end_of_an_address_field_may_be_quoted():
    draft = Way().receive(b'To: joe, "not closed  \nCc: ann  \n\n')
    assert b'To: joe@gw.my.domain, "not closed  "@gw.my.domain\n' in draft.data
    assert b"Cc: ann@gw.my.domain\n" in draft.data
