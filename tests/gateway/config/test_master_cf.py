from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.findings import ERROR
from gateway.config.master_cf import Service, parse
from gateway.config.settings import Settings


def one(text: str) -> Service:
    file = parse(text, "master.cf")
    assert file.findings == []
    (service,) = file.services
    return service


def test_columns() -> None:
    service = one("smtp inet n - y 60? 7 smtpd\n")
    assert (service.name, service.type, service.command) == ("smtp", "inet", "smtpd")
    assert (service.private, service.unpriv, service.chroot) == (False, True, True)
    assert (service.wakeup, service.maxproc, service.line) == ("60?", 7, 1)


def test_defaults() -> None:
    service = one("x unix - - - - - smtp")
    assert (service.private, service.unpriv, service.chroot) == (True, True, False)
    assert (service.wakeup, service.maxproc) == ("0", None)


def test_overrides() -> None:
    service = one(
        "smtp inet n - n - - smtpd -v\n  -o a=b -o { c = d  e }\n# comment\n -o { f={x, y} } -ogh=i -o k= -vv\n"
    )
    assert service.overrides == {"a": "b", "c": "d  e", "f": "{x, y}", "gh": "i", "k": ""}
    assert service.verbose == 3
    assert service.arguments == []


def test_options_of_the_program_in_a_pipe_stay_arguments() -> None:
    service = one("u unix - n n - - pipe -o x=1\n  flags=F user=uucp argv=uux -r -o q=1 - { two words } ($recipient)\n")
    assert service.overrides == {"x": "1"}
    assert service.arguments == [
        "flags=F", "user=uucp", "argv=uux", "-r", "-o", "q=1", "-", "two words", "($recipient)"
    ]  # fmt: skip


def test_settings_of_a_service() -> None:
    service = one("relay unix - - n - - smtp -o syslog_name=gw/$service_name -o smtp_helo_timeout=5\n")
    own = service.settings(Settings({"myhostname": "a.example"}))
    assert own.text("syslog_name") == "gw/relay"
    assert own.text("process_name") == "smtp"
    assert own.seconds("smtp_helo_timeout") == 5
    assert own.place("smtp_helo_timeout").line == 1


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("smtp inet n - y - -", "bad field count"),
        ("smtp foo n - n - - smtpd", 'invalid type field "foo"'),
        ("smtp inet q - n - - smtpd", 'invalid private field "q"'),
        ("smtp inet y - n - - smtpd", 'invalid private field "y"'),
        ("smtp inet n q n - - smtpd", 'invalid unprivileged field "q"'),
        ("smtp inet n - q - - smtpd", 'invalid chroot field "q"'),
        ("smtp inet n - n xx - smtpd", 'invalid wakeup field "xx"'),
        ("smtp inet n - n 10? zz smtpd", 'invalid process_limit field "zz"'),
        ("smtp inet n - n - - smtpd -o foo", "option -o: missing '='"),
        ("smtp inet n - n - - smtpd -o", "option -o: missing '='"),
    ],
)
def test_errors(line: str, what: str) -> None:
    file = parse(f"# c\n{line}\nok unix - - n - - smtp\n", "master.cf")
    (finding,) = file.findings
    assert (finding.severity, finding.line) == (ERROR, 2)
    assert finding.what.startswith(what)
    assert finding.mend
    assert [service.name for service in file.services] == ["ok"]


def test_the_later_service_counts() -> None:
    file = parse("a unix - - n - - smtp\nb unix - - n - - smtp\na unix - - n - - lmtp\n", "master.cf")
    assert [(service.name, service.command) for service in file.services] == [("b", "smtp"), ("a", "lmtp")]
    assert file.findings[0].what == "duplicate service a/unix"


def test_broken_braces_are_reported() -> None:
    file = parse("a unix - - n - - smtp -o { a = b\n", "master.cf")
    assert [finding.what for finding in file.findings][0].startswith('missing "}"')


@given(st.text(alphabet="ab -\t\n#{}=onyinetux0?", max_size=100))
@settings(max_examples=200)
def test_any_text_parses(text: str) -> None:
    file = parse("s unix - - n - - pipe " + text, "master.cf")
    assert file.services or any(finding.severity == ERROR for finding in file.findings)
