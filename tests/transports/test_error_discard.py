"""error(8), retry, discard(8): the next hop says it all."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from zope.interface.verify import verifyObject

from gateway.interfaces import BOUNCED, DEFERRED, SENT, ITransport
from tests.transports.support import request
from transports.discard import DiscardTransport
from transports.error import ErrorTransport


@pytest.mark.parametrize("transport, nexthop, status, dsn, reason", [
    (ErrorTransport(), "5.1.2 this domain has moved away", BOUNCED, "5.1.2", "this domain has moved away"),
    (ErrorTransport(), "no mail for this domain", BOUNCED, "5.0.0", "no mail for this domain"),
    (ErrorTransport(), "4.1.2 wrong class", BOUNCED, "5.0.0", "wrong class"),
    (ErrorTransport(), "  5.7.1  two  blanks", BOUNCED, "5.7.1", "two  blanks"),
    (ErrorTransport(), " no code", BOUNCED, "5.0.0", "no code"),
    (ErrorTransport(defers=True), "5.1.2 wrong class", DEFERRED, "4.0.0", "wrong class"),
    (DiscardTransport(), "5.1.1 wrong class", SENT, "2.0.0", "wrong class"),
    (ErrorTransport(defers=True), "4.3.0 not today", DEFERRED, "4.3.0", "not today"),
    (ErrorTransport(defers=True), "not today", DEFERRED, "4.0.0", "not today"),
    (DiscardTransport(), "nobody reads it", SENT, "2.0.0", "nobody reads it"),
    (DiscardTransport(), "", SENT, "2.0.0", ""),
])
@ensureDeferred
async def test_results(transport: ITransport, nexthop: str, status: str, dsn: str, reason: str) -> None:
    verifyObject(ITransport, transport)
    results = await transport.deliver(request("a@b", "c@d", nexthop=nexthop))
    assert [(r.status, r.dsn, r.reason, r.relay) for r in results] == [(status, dsn, reason, "none")] * 2
    assert results[0].details is not results[1].details
