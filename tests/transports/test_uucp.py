"""uux gets nothing that it would take for something else, and mail is safe before it is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from gateway.interfaces import BOUNCED, DEFERRED, SENT
from transports import uucp
from transports.guard import Refusal
from transports.process import Ending, Outcome
from transports.uucp import GroupSync, UuxGuard
from transports.verdict import judge


async def nothing() -> None:
    pass


GUARD = UuxGuard(nothing)


@pytest.mark.parametrize("recipient, why", [
    ("sp ace@b.example", "white space"),
    ("t\tab@b.example", "control character"),
    ("u@b\nS /etc/passwd ~/stolen uucp -cd D.0 0666\n", "control character"),
    ("no\u00a0break@b.example", "white space"),
    ("pa(ren@b.example", "parentheses"),
    ("pa)r(en@b.example", "parentheses"),
    ("-dash@b.example", "dash"),
])
def test_recipients_that_would_become_others(recipient: str, why: str) -> None:
    refusal = GUARD.refuse_recipient(recipient)
    assert refusal is not None
    assert (refusal.status, refusal.dsn) == (BOUNCED, "5.1.3") and why in refusal.reason


@pytest.mark.parametrize("recipient", ["x;id@b", "$(id)@b", "a|b>c<d&e@b", "pa(ren)s@b", "a!b!c", "grüße@b", "q\"q@b"])
def test_recipients_that_pass(recipient: str) -> None:
    assert GUARD.refuse_recipient(recipient) is None


@pytest.mark.parametrize("nexthop, status", [
    ("", DEFERRED), ("a b", BOUNCED), ("-x", BOUNCED), ("!a", BOUNCED), ("a\nb", BOUNCED), ("a!", BOUNCED),
])
def test_next_hops_that_are_none(nexthop: str, status: str) -> None:
    refusal = GUARD.refuse_delivery("a@b", nexthop)
    assert refusal is not None and refusal.status == status


def test_next_hops() -> None:
    assert GUARD.refuse_delivery("a@b", "uucp-host") is None
    assert GUARD.refuse_delivery("a@b", "hub!leaf") is None
    assert GUARD.refuse_delivery("a\n@b", "hub") is not None


@pytest.mark.parametrize("before, after", [
    (["uux", "-a", "-", "b!rmail", "(u@b)"], ["uux", "-aMAILER-DAEMON", "-", "b!rmail", "(u@b)"]),
    (["uux", "-a", "", "-", "b!rmail"], ["uux", "-a", "MAILER-DAEMON", "-", "b!rmail"]),
    (["uux", "-as@y", "-", "b!rmail"], ["uux", "-as@y", "-", "b!rmail"]),
    (["uux", "-a", "s@y", "-", "b!rmail"], ["uux", "-a", "s@y", "-", "b!rmail"]),
])
def test_the_empty_sender_is_never_an_empty_argument(before: list[str], after: list[str]) -> None:
    assert GUARD.arguments(before) == after


@pytest.mark.parametrize("argv", [
    ["uux", "-", "!rmail", "(u@b)"], ["uux", "-", "rmail", "(a!b)"], ["uux", "-", "b!rmail", "(u\n)"]])
def test_commands_that_must_not_run(argv: list[str]) -> None:
    assert isinstance(GUARD.arguments(argv), Refusal)


@pytest.mark.parametrize("code, output, status", [
    (0, b"Mismatched parentheses", SENT),
    (69, b"uux: nosuch: System not found\n", BOUNCED),
    (69, b"uux: fwrite: Wrote 0 when attempted 1024\n", DEFERRED),
    (69, b"/etc/uucp/sys:6: syntax error\n", DEFERRED),
    (71, b"uux: mkdir (beta): Permission denied", DEFERRED),
    (64, b"Usage: uux", BOUNCED),
])
def test_status_69_has_many_meanings(code: int, output: bytes, status: str) -> None:
    outcome = Outcome(Ending.EXITED, code, output)
    assert GUARD.judge(outcome, judge(outcome, "uux")).status == status


def test_who_is_guarded() -> None:
    def sync(folder: str) -> Callable[[], Deferred[None]]:
        return Deferred

    assert uucp.guard_for(["/usr/bin/uux", "-r"], sync) is not None
    assert uucp.guard_for(["/run/record", "uux"], sync) is None


@pytest.mark.parametrize("option", [["-I", "{}"], ["-I{}"], ["--config", "{}"], ["--config={}"]])
def test_the_spool_of_another_configuration(option: list[str], tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("nodename alpha\nspool /srv/uucp/alpha\n")
    assert uucp.spool_of(["uux", *(word.format(config) for word in option), "-r"]) == "/srv/uucp/alpha"
    assert uucp.spool_of(["uux", "-r"]) == "/var/spool/uucp"


def test_syncing_works_on_real_folders(tmp_path: Path) -> None:
    uucp.sync_file_system(str(tmp_path))
    uucp.sync_file_system(str(tmp_path / "nowhere"))


@ensureDeferred
async def test_deliveries_share_a_sync() -> None:
    running: list[Deferred[None]] = []

    def in_thread(work: Callable[[], None]) -> Deferred[None]:
        running.append(Deferred())
        return running[-1]

    sync = GroupSync("/", in_thread)
    done = [Deferred.fromCoroutine(sync()) for _ in range(3)]
    assert len(running) == 1  # began before the second and third came: they need the next one
    running[0].callback(None)
    assert [each.called for each in done] == [True, False, False]
    assert len(running) == 2
    running[1].callback(None)
    assert [each.called for each in done] == [True, True, True]
    failing = Deferred.fromCoroutine(sync())
    running[2].errback(OSError("no disk"))
    with pytest.raises(OSError, match="no disk"):
        await failing
    again = Deferred.fromCoroutine(sync())
    running[3].callback(None)
    await again
