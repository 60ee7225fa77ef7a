"""Policies that need more than one process: limits that all receivers share, addresses that are verified by probes."""

from __future__ import annotations

import os

import pytest

from tests.system.gateway import poll

pytestmark = pytest.mark.system

LIMIT, SESSIONS = 6, 40


@pytest.mark.root
def test_a_rate_is_counted_by_all_receivers(make_gateway):
    gateway = make_gateway("twistd")
    gateway.set(
        smtpd_client_message_rate_limit=str(LIMIT), anvil_rate_time_unit="600s", smtpd_client_event_limit_exceptions=""
    )
    gateway.start()
    receivers = len(os.sched_getaffinity(0))  # each is counted with once it has its line to the scheduler
    poll(lambda: gateway.run("status").stdout.count("  receiver ") == receivers, f"{receivers} receivers are connected")
    accepted = 0
    for _ in range(SESSIONS):
        with gateway.client() as client:
            accepted += client.docmd("MAIL FROM:<a@b.example>")[0] == 250
    assert accepted == LIMIT


def test_recipients_are_verified_by_probes(either, make_sink):
    gateway = either("twistd")
    sink = make_sink({"RCPT TO:<nobody@": "550 5.1.1 no such user"})
    gateway.set(
        relay_domains="far.example", transport_maps=f"inline:{{far.example=smtp:[127.0.0.1]:{sink.port}}}",
        smtpd_recipient_restrictions="reject_unverified_recipient", address_verify_poll_delay="1s",
        unverified_recipient_reject_code="550",
    )
    gateway.start()
    with gateway.client() as client:
        client.docmd("MAIL FROM:<a@b.example>")
        assert client.docmd("RCPT TO:<joe@far.example>") == (250, b"2.1.5 Ok")
        code, text = client.docmd("RCPT TO:<nobody@far.example>")
    assert code == 550 and b"undeliverable address: host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no such user" in text
    gateway.wait_for(r"to=<joe@far.example>, .*status=deliverable")
    gateway.stop()
    gateway.start()
    with gateway.client() as client:
        client.docmd("MAIL FROM:<a@b.example>")
        assert client.docmd("RCPT TO:<nobody@far.example>")[0] == 550
    assert gateway.log.count("status=undeliverable") == 1, "the result has outlived the restart"
    gateway.wait_until_empty()
