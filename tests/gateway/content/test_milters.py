"""What milters hear of a message, and what becomes of it by their wishes."""

from __future__ import annotations

import struct

import pytest
from twisted.internet.defer import Deferred

from gateway.config import Settings
from gateway.content.header_scan import scan_some
from gateway.content.milter import client, config, message, protocol
from gateway.content.milter.filters import Filters
from gateway.content.milter.header import Header, line
from gateway.content.options import INTERNAL, IntakeOptions
from gateway.interfaces import Rejected
from gateway.log import MemoryLog
from gateway.tables.requests import Reach
from spool.envelope import NOTIFY_DELAY, NOTIFY_NEVER, NOTIFY_SUCCESS
from tests.gateway.content.support import NOW, Way
from tests.gateway.milters import FakeMilter, Reactor

RECEIVED = [b"Received: ours", b"\tid %(id)s"]
MESSAGE = b"From: a@b\nTo: c@d\nDate: now\nMessage-Id: <x@y>\nSubject: one\nSubject: two\n folded\n\nHello\nthere\n"
CONTINUE = (b"c", b"")


def strings(*parts, number=None):
    head = b"" if number is None else struct.pack("!I", number)
    return head + b"".join(part + b"\0" for part in parts)


def way(*milters, **settings):
    names = " ".join(f"inet:127.0.0.1:{8000 + at}" for at in range(len(milters)))
    made = Way(non_smtpd_milters=names, **settings)
    reactor = Reactor()
    reactor.advance(NOW)
    reactor.milters = {8000 + at: milter for at, milter in enumerate(milters)}
    made.cleanup.filters = Filters(made.settings, made.tables, Reach(reactor, None), made.log)
    return made


def changed(*changes, **settings):
    """The message after a milter's changes, and the way it took."""
    taken = way(FakeMilter({protocol.END: [*changes, CONTINUE]}), **settings)
    return taken.receive(MESSAGE, received=RECEIVED), taken


def test_they_hear_the_whole_message():
    milter = FakeMilter()
    taken = way(milter)
    stored = taken.receive(MESSAGE, received=RECEIVED)
    assert milter.commands() == "OCHMRTLLLLLLNBEQ"
    assert milter.data(protocol.HEADER)[4:] == [b"Subject\0one\0", b"Subject\0two\n folded\0"]
    assert milter.data(protocol.BODY) == [b"Hello\r\nthere\r\n"]
    assert milter.data(protocol.CONNECT)[0].startswith(b"localhost\0004")
    assert milter.macros[protocol.END] == {b"i": stored.id.encode()}
    assert stored.data == b"Received: ours\n\tid " + stored.id.encode() + b"\n" + MESSAGE


def test_the_session_that_is_played_for_local_mail():
    milter = FakeMilter()
    macros = "{mail_addr} {rcpt_addr} {auth_type} {x} {y}"
    way(
        milter, always_bcc="copy@my.domain", virtual_alias_maps="inline:{ann@gw.my.domain=bob}",
        milter_data_macros=macros, milter_end_of_data_macros=macros, milter_macro_defaults="x=1, {auth_type}=none",
    ).receive(MESSAGE, sender="")  # fmt: skip
    assert milter.data(b"H") == [b"localhost\0"] and milter.data(b"M") == [b"\0"]
    assert milter.data(b"R") == [b"ann@gw.my.domain\0"]
    values = {b"{mail_addr}": b"", b"{rcpt_addr}": b"ann@gw.my.domain", b"{auth_type}": b"none", b"{x}": b"1"}
    assert milter.macros[b"T"] == milter.macros[b"B"] == milter.macros[b"E"] == values


def test_the_blank_behind_the_colon_for_those_who_want_it():
    milter = FakeMilter(options=protocol.LEADING_SPACE)
    way(milter).receive(MESSAGE)
    assert milter.data(protocol.HEADER)[-2] == b"Subject\0 one\0"


def test_headers_are_changed():
    draft, _ = changed(
        (protocol.ADD_HEADER, strings(b"X-Last", b"1\n 2")),
        (protocol.INSERT_HEADER, strings(b"X-First", b"0", number=0)),
        (protocol.INSERT_HEADER, strings(b"X-Third", b"1", number=2)),
        (protocol.CHANGE_HEADER, strings(b"subject", b"new", number=2)),
        (protocol.CHANGE_HEADER, strings(b"Subject", b"", number=1)),
        (protocol.CHANGE_HEADER, strings(b"Received", b"not ours", number=1)),
        (protocol.CHANGE_HEADER, strings(b"Bad Name", b"x", number=1)),
    )
    lines = draft.data.decode().replace(draft.id, "ID").split("\n")
    assert lines == [
        "X-First: 0", "Received: ours", "\tid ID", "X-Third: 1", "From: a@b", "To: c@d", "Date: now",
        "Message-Id: <x@y>", "subject: new", "X-Last: 1", " 2", "Received: not ours", "", "Hello", "there", "",
    ]  # fmt: skip


def test_a_header_line_cannot_be_broken_out_of():
    assert line(b"X", b"a\nBcc: b\r\n\r\nc\0", spaced=False) == b"X: a\n\tBcc: b\n\t\n\tc\n"
    assert line(b"X", b" a\n b\n", spaced=True) == b"X: a\n b\n"
    assert line(b"X y", b"", spaced=False) is None


def test_the_body_is_replaced():
    draft, _ = changed((protocol.REPLACE_BODY, b"new\r\n"), (protocol.REPLACE_BODY, b"body"))
    assert draft.data.endswith(b"Subject: two\n folded\n\nnew\nbody\n")


def test_the_envelope_is_changed():
    draft, taken = changed(
        (protocol.ADD_RECIPIENT, strings(b"<more@my.domain>")), (protocol.DELETE_RECIPIENT, strings(b"<ann>")),
        (protocol.CHANGE_SENDER, strings(b"<>")), (protocol.QUARANTINE, strings(b"why")),
    )  # fmt: skip
    assert [one.address for one in draft.envelope.recipients] == ["more@my.domain"] and draft.envelope.sender == ""
    assert draft.id in taken.spool.held
    held = "milter-hold: END-OF-MESSAGE from localhost[127.0.0.1]: milter triggers HOLD action; from=<>"
    assert f"{draft.id}: {held}" in [text for _, text in taken.log.lines]


def test_what_is_to_be_told_of_those_whom_it_adds():
    draft, taken = changed(
        (protocol.ADD_RECIPIENT, strings(b"<plain@my.domain>")),
        (b"2", strings(b"<more@my.domain>", b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bx@my.domain")),
        (b"2", strings(b"<bad@my.domain>", b"NOTIFY=NEVER,DELAY ORCPT=x SIZE=1 NOTIFY=NEVER notify=delay")),
    )
    told = {one.address: (one.orcpt, one.notify) for one in draft.envelope.recipients[1:]}
    assert told == {
        "plain@my.domain": ("", 0), "bad@my.domain": ("", NOTIFY_NEVER),
        "more@my.domain": ("rfc822;old+x@my.domain", NOTIFY_SUCCESS | NOTIFY_DELAY),
    }  # fmt: skip
    source = "from Milter or header/body_checks:"
    assert [text for _, text in taken.log.lines if source in text] == [
        f'warning: {draft.id}: Bad NOTIFY parameter {source} "NOTIFY=NEVER,DELAY"',
        f'warning: {draft.id}: Bad ORCPT parameter {source} "ORCPT=x"',
        f'warning: {draft.id}: ignoring ESMTP argument {source} "SIZE=1"',
        f'warning: {draft.id}: Bad NOTIFY parameter {source} "notify=delay"',
    ]


def test_what_comes_with_the_sender_that_it_sets():
    draft, taken = changed((b"e", strings(b"<new@x.test>", b"RET=hdrs ENVID=a+2Bb RET=all BODY=7BIT ENVID=+0A")))
    envelope = draft.envelope
    assert (envelope.sender, envelope.ret, envelope.envid) == ("new@x.test", "HDRS", "a+b")
    ignored = [text.partition("ESMTP parameter ")[2] for _, text in taken.log.lines if "ESMTP" in text]
    assert ignored == [f'"{word}" in SMFI_CHGFROM request' for word in ("RET=all", "BODY=7BIT", "ENVID=+0A")]


def test_without_recipients_it_goes_nowhere():
    draft, taken = changed((protocol.DELETE_RECIPIENT, strings(b"ann@gw.my.domain")))
    assert draft is None and not taken.notified


def test_the_second_sees_what_the_first_has_made():
    first = FakeMilter({protocol.END: [(protocol.ADD_HEADER, strings(b"X-One", b"1")), (b"b", b"b\r\n"), CONTINUE]})
    second = FakeMilter()
    way(first, second).receive(MESSAGE)
    assert second.data(protocol.HEADER)[-1] == b"X-One\x001\0" and second.data(protocol.BODY) == [b"b\r\n"]


@pytest.mark.parametrize("command", [protocol.MAIL, protocol.HEADER, protocol.END_OF_HEADER, protocol.BODY, b"E"])
def test_refused(command):
    where = "MAIL" if command == protocol.MAIL else "END-OF-MESSAGE"
    milter = FakeMilter({command: [(b"y", b"554 5.7.9 Bad\r\n554 mail\0")]})
    taken = way(milter)
    with pytest.raises(Rejected) as caught:
        taken.receive(MESSAGE)
    assert (caught.value.code, caught.value.dsn, caught.value.text) == (554, "5.7.9", "Bad\nmail")
    assert not taken.spool.stored and any(f"milter-reject: {where} from" in text for _, text in taken.log.lines)


def test_discarded():
    taken = way(FakeMilter({protocol.BODY: [(b"d", b"")]}))
    assert taken.receive(MESSAGE) is None and not taken.notified


def test_skip_and_accept():
    milter = FakeMilter({protocol.BODY: [(b"s", b"")]})
    taken = way(milter)
    taken.receive(MESSAGE + b"x" * 70 + b"\n" + b"y\n" * 40000)
    assert milter.commands().endswith("NBEQ")
    milter = FakeMilter({protocol.HEADER: [(b"s", b"")]})
    assert way(milter).receive(MESSAGE) and milter.commands().endswith("TLNBEQ")
    milter = FakeMilter({protocol.END_OF_HEADER: [(b"a", b"")]})
    assert way(milter).receive(MESSAGE) and milter.commands().endswith("NQ")


def test_a_large_body_comes_in_pieces():
    milter = FakeMilter()
    body = b"0123456789\n" * 20000
    way(milter).receive(MESSAGE + body)
    pieces = milter.data(protocol.BODY)
    assert max(map(len, pieces)) <= protocol.CHUNK
    assert b"".join(pieces) == b"Hello\r\nthere\r\n" + body.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([(protocol.PROGRESS, b"")] * 20, "says too much to SMFIC_BODYEOB"),
        ([(protocol.ADD_HEADER, strings(b"X", b"y"))] * 20, "says too much to SMFIC_BODYEOB"),
        ([(protocol.ADD_HEADER, strings(b"X", b"y" * 4000))] * 2, "changes more of a message than it may"),
        ([(protocol.REPLACE_BODY, b"y" * 4000)] * 2, "changes more of a message than it may"),
    ],
)
def test_one_that_does_not_come_to_an_end(answers, why, monkeypatch):
    monkeypatch.setattr(client, "MOST_PACKETS", 20)
    monkeypatch.setattr(client, "MOST_CHANGED", 1000)
    taken = way(FakeMilter({protocol.END: [*answers, CONTINUE]}), message_size_limit="4000")
    with pytest.raises(Rejected):
        taken.receive(MESSAGE)
    assert why in taken.log.text and not taken.spool.stored


def test_one_that_talks_without_being_asked():
    fake, reactor = FakeMilter(), Reactor()
    reactor.milters = {8000: fake}
    (configured,) = config.milters(Settings({"non_smtpd_milters": "inet:127.0.0.1:8000"}), "non_smtpd_milters")
    milter = client.Milter(configured, Reach(reactor, None), MemoryLog(), "cleanup")
    Deferred.fromCoroutine(milter.connect(b"", lambda name: ""))
    for _ in range(11):
        assert not fake.transport.disconnecting
        fake.transport.protocol.dataReceived(protocol.packet(b"c") * 1000)
    assert fake.transport.disconnecting, "thousands of empty packets are kept by nobody"


def test_an_answer_that_is_announced_again_and_again():
    fake, reactor, ended = FakeMilter({protocol.END: []}), Reactor(), []
    reactor.milters = {8000: fake}
    (configured,) = config.milters(Settings({"non_smtpd_milters": "inet:127.0.0.1:8000"}), "non_smtpd_milters")
    milter = client.Milter(configured, Reach(reactor, None), MemoryLog(), "cleanup")
    Deferred.fromCoroutine(milter.connect(b"", lambda name: ""))
    Deferred.fromCoroutine(milter.end(lambda name: "", [], 1000)).addBoth(ended.append)
    for _ in range(40):
        assert ended == []
        fake.transport.protocol.dataReceived(protocol.packet(protocol.PROGRESS))
        reactor.advance(90)
    assert ended == [client.TEMPFAILED]


LARGE_HEADER = MESSAGE.replace(b"Subject: one\n", b"X: %b\n" % (b"\n " + b"y" * 770) * 2000)


def test_a_large_header():
    milter = FakeMilter({protocol.END: [(protocol.CHANGE_HEADER, strings(b"X", b"z", number=2000)), CONTINUE]})
    draft = way(milter).receive(LARGE_HEADER)
    assert len(milter.data(protocol.HEADER)) == 2005
    end = MESSAGE[MESSAGE.index(b"Subject: two") :]
    assert len(draft.data) > 1_500_000 and draft.data.endswith(b"yy\nX: z\n" + end)


def test_large_headers_are_looked_at_one_by_one():
    milter = FakeMilter({protocol.END_OF_HEADER: []})
    taken, ended, transports = way(milter), [], []
    for _ in range(2):
        Deferred.fromCoroutine(taken.receiving(LARGE_HEADER)).addBoth(ended.append)
        taken.pump()
        transports.append(milter.transport)
    assert milter.sessions == 2 and len(milter.data(protocol.HEADER)) == 2005
    milter.script.clear()
    transports[0].protocol.dataReceived(protocol.packet(b"c"))
    taken.pump()
    assert len(ended) == 2 and len(milter.data(protocol.HEADER)) == 2 * 2005


@pytest.mark.parametrize(("limit", "value"), [("MOST_HEADER", 100_000), ("MOST_FIELDS", 1000)])
def test_a_header_without_bounds_is_refused(monkeypatch, limit, value):
    monkeypatch.setattr(message, limit, value)
    with pytest.raises(Rejected) as caught:
        way(FakeMilter()).receive(LARGE_HEADER)
    assert (caught.value.code, caught.value.dsn) == (552, "5.3.4")


def test_milter_header_checks():
    add = (protocol.ADD_HEADER, strings(b"X-Bad", b"1"))
    draft, taken = changed(add, milter_header_checks="inline:{{X-Bad: 1=WARN seen}}")
    assert b"X-Bad: 1\n" in draft.data
    assert any(": milter-header-warning: header X-Bad: 1 from local;" in text for _, text in taken.log.lines)
    draft, _ = changed(add, milter_header_checks="inline:{{X-Bad: 1=IGNORE}}")
    assert b"X-Bad" not in draft.data
    with pytest.raises(Rejected):
        changed(add, milter_header_checks="inline:{{X-Bad: 1=REJECT no}}")


def test_whose_mail_they_see():
    milter = FakeMilter()
    taken = way(milter, internal_mail_filter_classes="bounce")
    taken.receive(MESSAGE, options=INTERNAL)
    taken.receive(MESSAGE, options=IntakeOptions(milters=False))
    taken.receive(MESSAGE, service="smtpd")
    assert milter.sessions == 0
    taken.receive(MESSAGE, options=IntakeOptions(internal=True, internal_class="bounce"))
    assert milter.sessions == 1


def test_the_hidden_field_is_the_first_received_one():
    header = Header(scan_some(b"X: 1\nReceived: a\nReceived: b\n", 0, True)[0], hidden=True)
    assert header.shown() == [(b"X", b" 1"), (b"Received", b" b")]
    assert header.change(b"received", 1, None) and header.encode() == b"X: 1\nReceived: a\n"
    assert not header.change(b"received", 1, None)
