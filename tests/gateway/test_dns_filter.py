"""smtp_dns_reply_filter, smtpd_dns_reply_filter: records that a table takes away."""

from __future__ import annotations

from typing import Any

import dns.rdata
import dns.rdatatype
import pytest
from pytest_twisted import ensureDeferred

from gateway.dns_filter import RecordFilter
from gateway.interfaces import DNSError, TableError
from gateway.log import MemoryLog


def records(kind: str, *texts: str) -> list[Any]:
    return [dns.rdata.from_text("IN", kind, text) for text in texts]


def filter_with(actions: dict[str, str], log: MemoryLog) -> RecordFilter:
    async def find(line: str) -> str | None:
        if "fail" in actions:
            raise TableError("away")
        return next((action for part, action in actions.items() if part in line), None)

    return RecordFilter(find, "smtp_dns_reply_filter", log, "smtp")


@ensureDeferred
async def test_records_that_are_taken_away() -> None:
    log = MemoryLog()
    found = records("MX", "10 a.test.", "20 b.test.")
    kept = await filter_with({"IN MX 10 ": "ignore"}, log).kept("x.test", "MX", 59.6, found)
    assert [each.preference for each in kept] == [20]
    assert log.lines == [("smtp", "ignoring DNS RR: x.test. 60 IN MX 10 a.test.")]
    texts = records("TXT", '"one\\000" "two"', '"three"')
    assert await filter_with({"IN TXT one ": "IGNORE"}, log).kept("x.test", "TXT", 1, texts) == texts[1:]
    assert await filter_with({}, log).kept("x.test.", "A", 1, records("A", "192.0.2.1")) == records("A", "192.0.2.1")


@pytest.mark.parametrize(
    ("actions", "text", "dsn"),
    [
        ({"192.0.2.1": "IGNORE"}, "DNS reply filter drops all results", "4.7.0"),
        ({"192.0.2.1": "REJECT"}, "Invalid DNS reply filter syntax", ""),
        ({"fail": ""}, "Invalid DNS reply filter syntax", ""),
    ],
)
@ensureDeferred
async def test_when_mail_has_to_wait(actions: dict[str, str], text: str, dsn: str) -> None:
    log = MemoryLog()
    with pytest.raises(DNSError, match=f"Error looking up name=x.test type=A: {text}") as caught:
        await filter_with(actions, log).kept("x.test", "A", 60, records("A", "192.0.2.1"))
    assert (caught.value.temporary, caught.value.dsn) == (True, dsn)
    if "REJECT" in actions.values():
        assert log.text == 'smtp: warning: smtp_dns_reply_filter: unknown DNS filter action: "REJECT"'
