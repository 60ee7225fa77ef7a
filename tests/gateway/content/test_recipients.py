"""What cleanup makes of the recipients of an envelope."""

import time

from gateway.content.recipients import AT_ONCE
from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_NEVER,
    NOTIFY_SUCCESS,
    Envelope,
    Recipient,
    expanded_recipients,
    note_expanded,
)
from tests.gateway.content.support import Way


def test_who_has_no_dsn_original_recipient_gets_the_rewritten_address_without_quotes():
    to = ["ann", '"q q"@far.example', Recipient("eve", orcpt="rfc822;x")]
    found = Way().receive(b"\n", to=to).envelope.recipients
    assert [one.orcpt for one in found] == ["rfc822;ann@gw.my.domain", "rfc822;q q@far.example", "rfc822;x"]


def test_success_of_a_member_is_not_success_of_the_list():
    """RFC 3461 5.2.7.1 (c): the sender hears that the list was expanded."""
    way = Way(virtual_alias_maps="inline:{ {list=ann, bob}, {one=ann}, {self=self} }")
    both = NOTIFY_SUCCESS | NOTIFY_FAILURE
    to = [
        Recipient("list", notify=both), Recipient("one", orcpt="rfc822;x", notify=NOTIFY_SUCCESS),
        Recipient("self", notify=NOTIFY_SUCCESS), Recipient("list", notify=NOTIFY_DELAY),
    ]
    envelope = way.receive(b"\n", to=to).envelope
    assert [one.notify for one in envelope.recipients] == [
        NOTIFY_FAILURE, NOTIFY_FAILURE, NOTIFY_NEVER, NOTIFY_SUCCESS, NOTIFY_DELAY, NOTIFY_DELAY,
    ]
    assert [(one.address, one.original, one.orcpt) for one in expanded_recipients(envelope)] == [
        ("list@gw.my.domain", "list", "rfc822;list@gw.my.domain"), ("one@gw.my.domain", "one", "rfc822;x"),
    ]


def test_what_is_told_of_many_lists_is_put_down_in_time():
    """A thousand recipients of one catch-all, each with a long original recipient."""
    begin = time.perf_counter()
    envelope = Envelope("a@b")
    for number in range(1000):
        note_expanded(envelope, Recipient(f"u{number}@c", "o", "rfc822;" + "x" * 1900, NOTIFY_SUCCESS))
    assert time.perf_counter() - begin < 1.0
    assert [one.address for one in expanded_recipients(envelope)] == [f"u{number}@c" for number in range(1000)]


def test_others_have_a_turn_while_many_recipients_are_worked_on():
    way, turns = Way(), []
    next_turn = way.cleanup.next_turn
    way.cleanup.next_turn = lambda: (turns.append(1), next_turn())[1]
    envelope = way.receive(b"\n", to=[f"u{number}@far.example" for number in range(2 * AT_ONCE + 1)]).envelope
    assert (len(turns), len(envelope.recipients)) == (2, 2 * AT_ONCE + 1)
