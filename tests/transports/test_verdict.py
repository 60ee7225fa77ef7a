"""What an exit status means; the wordings are those of pipe(8) and local(8)."""

from __future__ import annotations

import pytest

from gateway.interfaces import BOUNCED, DEFERRED, SENT
from transports.process import Ending, Outcome
from transports.verdict import judge, readable


@pytest.mark.parametrize("code, status, dsn, reason", [
    (0, SENT, "2.0.0", ""),
    (1, BOUNCED, "5.3.0", 'Command died with status 1: "/x y"'),
    (64, BOUNCED, "5.3.0", "command line usage error"),
    (65, BOUNCED, "5.6.0", "data format error"),
    (67, BOUNCED, "5.1.1", "user unknown"),
    (68, BOUNCED, "5.1.2", "host name unknown"),
    (69, BOUNCED, "5.3.0", "service unavailable"),
    (71, DEFERRED, "4.3.0", "system resource problem"),
    (73, BOUNCED, "5.2.0", "can't create user output file"),
    (75, DEFERRED, "4.3.0", "temporary failure"),
    (76, BOUNCED, "5.5.0", "remote error in protocol"),
    (77, BOUNCED, "5.7.0", "permission denied"),
    (78, BOUNCED, "5.3.5", "local configuration error"),
    (79, BOUNCED, "5.3.0", 'Command died with status 79: "/x y"'),
    (255, BOUNCED, "5.3.0", 'Command died with status 255: "/x y"'),
])
def test_exit_status(code: int, status: str, dsn: str, reason: str) -> None:
    verdict = judge(Outcome(Ending.EXITED, code), "/x y")
    assert (verdict.status, verdict.dsn, verdict.reason) == (status, dsn, reason)


@pytest.mark.parametrize("code, output, status, dsn, reason", [
    (77, b"do not want it\n", BOUNCED, "5.7.0", "permission denied. Command output: do not want it "),
    (75, b"5.7.2 list closed, for ever\n", BOUNCED, "5.7.2", "list closed, for ever "),
    (65, b"4.3.9 not quite\n", DEFERRED, "4.3.9", "not quite "),
    (67, b"2.0.0 fine\n", BOUNCED, "5.0.0", "fine "),
    (67, b"5.7 no code\n", BOUNCED, "5.1.1", "user unknown. Command output: 5.7 no code "),
    (1, b"a\tb\n\xff\x1b", BOUNCED, "5.3.0", 'Command died with status 1: "/x". Command output: a b __'),
    (0, b"5.0.0 warning\n", SENT, "2.0.0", "5.0.0 warning"),
    (0, b" \n two\n\n", SENT, "2.0.0", "   two"),
])
def test_output(code: int, output: bytes, status: str, dsn: str, reason: str) -> None:
    verdict = judge(Outcome(Ending.EXITED, code, output), "/x")
    assert (verdict.status, verdict.dsn, verdict.reason) == (status, dsn, reason)


@pytest.mark.parametrize("outcome, status, dsn, reason", [
    (Outcome(Ending.TIMED_OUT), BOUNCED, "5.3.0", 'Command time limit exceeded: "/x"'),
    (Outcome(Ending.SIGNALED, 11, b"oh"), DEFERRED, "4.3.0", 'Command died with signal 11: "/x". Command output: oh'),
    (Outcome(Ending.NOT_STARTED, text="why"), DEFERRED, "4.3.0", "temporary failure"),
    (Outcome(Ending.GIVEN_UP, text="why"), DEFERRED, "4.3.0", "temporary failure"),
])
def test_other_ends(outcome: Outcome, status: str, dsn: str, reason: str) -> None:
    verdict = judge(outcome, "/x")
    assert (verdict.status, verdict.dsn, verdict.reason) == (status, dsn, reason)
    assert verdict.warning == ("/x: why" if outcome.text else "")


def test_the_notification_gets_the_programs_words() -> None:
    result = judge(Outcome(Ending.EXITED, 3), "/x").result("prog", sent="", action="")
    assert result.details == {"diagnostic_type": "x-unix", "diagnostic": "unknown mail system error 3"}
    assert judge(Outcome(Ending.EXITED, 1, b"no\n"), "/x").diagnostic == "no "


def test_unprintable_output_is_made_readable() -> None:
    assert readable("é\u2028\x9b\r\n".encode()) == "é___ "
