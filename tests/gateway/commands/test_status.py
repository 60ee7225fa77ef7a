"""What `mailgateway status` says."""

import time

from gateway.commands.status import told

RECEIVER = {
    "pid": 7, "clients": 2, "most_clients": 100, "messages": 1, "most_messages": 10, "pause": 0.0, "accepted": 30,
    "refused": 4,
}
QUIET = {
    "active": 3, "active_limit": 20_000, "crowded": False, "trouble": "",
    "transports": {"smtp": {"delivering": 2, "most": 100, "waiting": 5}}, "receivers": [RECEIVER], "jobs": {},
    "free_bytes": 10**9, "least_free": 15_000_000.0,
}


def test_what_is_going_on():
    assert list(told(QUIET)) == [
        "mailgateway: running, 3 messages active",
        "  smtp: 2 deliveries, 5 recipients waiting",
        "  receiver 7: 2 of 100 clients, 1 of 10 messages coming in; 30 served, 4 turned away",
    ]


def test_what_waits_elsewhere():
    waiting = {"messages": 2, "bytes": 4711, "since": time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1)), "state": ""}
    lines = list(told({**QUIET, "jobs": {"uucp": {"far": waiting, "hub": {**waiting, "state": "Dial failed"}}}}))
    assert lines[2:4] == [
        "  uucp: 2 messages, 4711 bytes, wait for far since 2026-11-24 12:00:00",
        "  uucp: 2 messages, 4711 bytes, wait for hub since 2026-11-24 12:00:00 (Dial failed)",
    ]


def said(**changes):
    return [line.removeprefix("  overload: ") for line in told({**QUIET, **changes}) if "overload" in line]


def test_whatever_is_at_its_limit():
    full = {**RECEIVER, "clients": 101, "messages": 10, "pause": 1.0}
    assert said(receivers=[RECEIVER, full]) == [
        "receiver 7 is full: clients are turned away with 421",
        "receiver 7 takes as many messages as it can: more are refused with 451",
        "receiver 7 lets each new message wait 1 seconds (in_flow_delay)",
    ]
    assert said(crowded=True) == ["the queue has 20000 active messages, as many as may be: new mail has to wait"]
    assert said(free_bytes=1000) == ["1000 bytes free for the queue, 15000000 must be: mail is refused with 452"]
    assert said(free_bytes=0, least_free=0.0) == ["0 bytes free for the queue, 0 must be: mail is refused with 452"]
    assert said(free_bytes=None, trouble="Read-only file system") == ["no deliveries: Read-only file system"]
    assert said(receivers=[{**RECEIVER, "most_clients": 0, "most_messages": 0}]) == []


def test_a_service_that_is_at_its_process_limit():
    lines = list(told({**QUIET, "transports": {"slow": {"delivering": 1, "most": 1, "waiting": 9}}}))
    assert lines[1] == "  slow: 1 deliveries (as many as may be: 1), 9 recipients waiting"
