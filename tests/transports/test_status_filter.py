from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from twisted.internet.defer import Deferred

from gateway.interfaces import BOUNCED, DEFERRED, EXPANDED, SENT, Recipient, Request, Result, TableError
from gateway.log import MemoryLog
from spool.envelope import Envelope
from spool.interfaces import Entry
from transports.status_filter import FilteredTransport


class Match(NamedTuple):
    value: str


class Tables:
    def __init__(self, rules: dict[str, str]) -> None:
        self.rules = rules

    async def find(self, key: str) -> Match | None:
        if key.startswith("4.9.9"):
            raise TableError("away")
        return next((Match(value) for pattern, value in self.rules.items() if re.search(pattern, key)), None)


class Transport:
    program = "smtp"

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results

    async def deliver(self, request: Request) -> Sequence[Result]:
        return self.results

    async def describe(self, request: Request) -> list[str]:
        return ["as it is"]

    async def stop(self) -> None:
        pass


RULES = {
    "^5.1.1 .* said: 550": "4.2.2  a full box",
    "^4.1.1 ": "5.0.1 never",
    "^2.0.0 250": "2.6.6",
    "^5.7.1": "no line",
    "^2.1.5": "5.0.0 lost",
    "^5.4.4": "2.0.0 found",
}


def filtered(*results: Result) -> tuple[list[Result], MemoryLog]:
    log = MemoryLog()
    transport = FilteredTransport(Transport(results), Tables(RULES), "smtp_delivery_status_filter", log)  # type: ignore[arg-type]
    request = Request(Entry("ID", Envelope("a@b", [Recipient("c@d")]), []), "smtp", "d", [0], ["c@d"])
    found: list[Result] = []
    Deferred.fromCoroutine(transport.deliver(request)).addCallback(found.extend)
    return found, log


@pytest.mark.parametrize(
    ("status", "dsn", "reason", "expected"),
    [
        (BOUNCED, "5.1.1", "host x said: 550 full", (DEFERRED, "4.2.2", "a full box", "delayed")),
        (DEFERRED, "4.1.1", "later", (BOUNCED, "5.0.1", "never", "failed")),
        (SENT, "2.0.0", "250 Ok", (SENT, "2.6.6", "", "relayed")),
        (BOUNCED, "5.0.0", "no rule", (BOUNCED, "5.0.0", "no rule", "relayed")),
    ],
)
def test_other_results(status: str, dsn: str, reason: str, expected: tuple[str, str, str, str]) -> None:
    details = {"action": "relayed", "remote_mta": "dns; x"}
    (result,), log = filtered(Result(status, dsn, reason, "x[192.0.2.1]:25", 7.0, details=dict(details)))
    assert (result.status, result.dsn, result.reason, result.details["action"]) == expected
    assert (result.relay, result.connected, result.details["remote_mta"]) == ("x[192.0.2.1]:25", 7.0, "dns; x")
    assert log.lines == []


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (Result(BOUNCED, "5.7.1", "x"), "bad status code: no line"),
        (Result(SENT, "2.1.5", "x"), "bad status code: 5.0.0 lost"),
        (Result(BOUNCED, "5.4.4", "x"), "bad status code: 2.0.0 found"),
    ],
)
def test_a_filter_makes_no_success_of_failure_nor_failure_of_success(result: Result, told: str) -> None:
    assert filtered(result)[0] == [result]
    assert filtered(result)[1].lines == [("smtp", f"warning: smtp_delivery_status_filter: {told}")]


def test_what_is_left_alone() -> None:
    away, passed = Result(DEFERRED, "4.9.9", "x"), Result(DEFERRED, "4.1.1", "x", program="lmtp")
    expanded = Result(EXPANDED, "4.1.1", "x", others=(Result(DEFERRED, "4.1.1", "x"),))
    found, log = filtered(away, passed, expanded)
    assert found[:2] == [away, passed] and found[2].status == EXPANDED
    assert [(one.status, one.reason) for one in found[2].others] == [(BOUNCED, "never")]
    assert log.lines == []
