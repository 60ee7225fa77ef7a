"""What cleanup makes of the recipients of an envelope."""

from spool.envelope import (
    NOTIFY_DELAY,
    NOTIFY_FAILURE,
    NOTIFY_NEVER,
    NOTIFY_SUCCESS,
    Recipient,
    expanded_recipients,
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
