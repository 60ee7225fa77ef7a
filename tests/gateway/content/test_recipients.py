"""What cleanup makes of the recipients of an envelope."""

from spool.envelope import Recipient
from tests.gateway.content.support import Way


def test_who_has_no_dsn_original_recipient_gets_the_rewritten_address_without_quotes():
    to = ["ann", '"q q"@far.example', Recipient("eve", orcpt="rfc822;x")]
    found = Way().receive(b"\n", to=to).envelope.recipients
    assert [one.orcpt for one in found] == ["rfc822;ann@gw.my.domain", "rfc822;q q@far.example", "rfc822;x"]
