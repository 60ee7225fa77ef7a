from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config import Finding, read
from gateway.config.check import check

USER = "nobody"
MASTER = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\nlocal unix - n n - - local\n"
BASE = f"compatibility_level = 3.6\nmail_owner = {USER}\n"
BASE_LINES = BASE.count("\n")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def findings(directory: Path, main: str = "", master: str = MASTER, severity: str | None = None) -> list[Finding]:
    """What check says; lines of ``main`` count from BASE_LINES + 1."""
    (directory / "main.cf").write_text(
        BASE + main + f"\nqueue_directory = {directory}/spool\ndata_directory = {directory}/data\n"
    )
    (directory / "master.cf").write_text(master)
    found = check(read(directory), table_types=["hash", "regexp", "static", "texthash", "unix", "inline"])
    return [finding for finding in found if severity in (None, finding.severity)]


def one(directory: Path, main: str = "", master: str = MASTER) -> Finding:
    (finding,) = findings(directory, main, master)
    return finding


def test_a_sound_configuration(directory: Path) -> None:
    assert findings(directory, "relayhost = [mail.example]\nown = x\nmydestination = $own, $myhostname\n") == []


def test_unknown_parameter_with_the_nearest_name(directory: Path) -> None:
    finding = one(directory, "mydestinations = x\n")
    assert (finding.severity, finding.line) == ("warning", BASE_LINES + 1)
    assert finding.what.startswith("unused parameter: mydestinations")
    assert finding.mend == "did you mean mydestination?"
    assert "no_such_parameter_here" in one(directory, "no_such_parameter_here = 17\n").what


def test_names_that_something_refers_to_are_known(directory: Path) -> None:
    main = (
        "smtpd_restriction_classes = insiders\ninsiders = reject\nmine = 1\nrelayhost = ${mine?a}\n"
        "smtp_destination_recipient_limit = 3\nvirtual_alias_maps = ldap:people\npeople_server_host = x\n"
    )
    assert [finding.what for finding in findings(directory, main) if "unused" in finding.what] == []
    assert "unused" in findings(directory, "nobody_destination_recipient_limit = 3\n")[0].what


def test_undefined_reference(directory: Path) -> None:
    assert one(directory, "relayhost = $nope\n").what == "undefined parameter: nope (in the value of relayhost)"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("biff = maybe", "bad boolean configuration: biff = maybe"),
        ("message_size_limit = 1M", "bad numerical configuration: message_size_limit = 1M"),
        ("maximal_queue_lifetime = 3q", "parameter maximal_queue_lifetime: bad time value or unit: 3q"),
        ("smtp_destination_recipient_limit = x", "bad numerical configuration: smtp_destination_recipient_limit = x"),
        ("relayhost = ${foo", 'relayhost: truncated macro reference: "${foo"'),
        ("mynetworks = {x", 'mynetworks: missing "}" in "{x"'),
        ("relayhost = $relayhost", "relayhost refers to itself (relayhost -> relayhost)"),
        ("header_checks = regexp:/nowhere/checks", "regexp:/nowhere/checks: no such file"),
        ("virtual_alias_maps = foo:bar", "virtual_alias_maps: unsupported dictionary type: foo"),
        ("default_transport = bla:x", "default_transport names the transport bla, which no unix service provides"),
        ("default_privs = root", "default_privs is root, a privileged account"),
        ("nonsense", "missing '=' after attribute name: \"nonsense\""),
    ],
)
def test_errors_in_main_cf(directory: Path, line: str, what: str) -> None:
    (finding,) = findings(directory, f"\n{line}\n", severity="error")
    assert (finding.what, finding.file, finding.line) == (what, f"{directory}/main.cf", BASE_LINES + 2)
    assert finding.mend


def test_comment_behind_a_value(directory: Path) -> None:
    finding = one(directory, "myorigin = mail.example # ours\n")
    assert finding.severity == "warning" and finding.what.startswith("#comment after other text")
    assert findings(directory, "relayhost = [a#b]\n") == []


def test_not_yet_and_never(directory: Path) -> None:
    later = one(directory, "default_extra_recipient_limit = 3\n")
    assert later.severity == "warning"
    assert later.what == "default_extra_recipient_limit is known but not yet effective"
    never = one(directory, "daemon_directory = /usr/lib/postfix\n")
    assert never.severity == "note" and "names a place of the other program" in never.what


def test_deprecated(directory: Path) -> None:
    assert one(directory, "smtpd_use_tls = yes\n").mend == "use smtpd_tls_security_level = may"
    withdrawn = one(directory, "smtpd_client_restrictions = reject_maps_rbl, permit\n")
    assert (withdrawn.severity, withdrawn.mend) == ("warning", "use reject_rbl_client DOMAIN")


def test_a_domain_in_two_classes(directory: Path) -> None:
    main = "mydestination = a.example, b.example\nvirtual_alias_domains = B.example hash:/x ,c.example\n"
    main += "relay_domains =\n"
    found = [finding for finding in findings(directory, main) if "BOTH" in finding.what]
    assert [finding.what for finding in found] == [
        "do not list domain b.example in BOTH mydestination and virtual_alias_domains"
    ]
    assert found[0].line == BASE_LINES + 2


def test_mydestination_within_relay_domains_is_usual(directory: Path) -> None:
    assert findings(directory, "mydestination = a.example\nrelay_domains = $mydestination b.example\n") == []


def test_tables_that_are_there(directory: Path) -> None:
    (directory / "aliases.db").touch()
    (directory / "checks").touch()
    main = f"alias_maps = hash:{directory}/aliases\nheader_checks = regexp:{directory}/checks\n"
    assert findings(directory, main) == []


def test_caches_need_not_be_made(directory: Path) -> None:
    """As Debian's main.cf has them."""
    names = ("address_verify_map", "smtp_tls_session_cache_database", "smtp_sasl_auth_cache_name")
    main = "".join(f"{name} = btree:/nowhere/cache\n" for name in names)
    assert findings(directory, main) == []


def test_a_missing_table_within_restrictions_and_overrides(directory: Path) -> None:
    main = "smtpd_recipient_restrictions = check_sender_access hash:/nowhere/a, reject\n"
    assert one(directory, main).what == "hash:/nowhere/a: no such file"
    finding = one(directory, master=MASTER + "x unix - - n - - smtp -o transport_maps=hash:/nowhere/b\n")
    assert (finding.what, finding.line) == ("hash:/nowhere/b: no such file", 4)
    assert finding.file == f"{directory}/master.cf"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_table(directory: Path) -> None:
    (directory / "t").touch(0o000)
    assert "cannot be read" in one(directory, f"transport_maps = texthash:{directory}/t\n").what


def test_open_relay_is_an_error(directory: Path) -> None:
    finding = one(directory, "smtpd_relay_restrictions = permit_mynetworks\n")
    assert finding.severity == "error" and "reject_unauth_destination" in finding.mend
    closed = "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, reject\n"
    assert findings(directory, closed) == []


@pytest.mark.parametrize(
    ("line", "severity", "what"),
    [
        ("x unix - - n - - nonsense", "error", "service x: command nonsense is unknown: mail for it is deferred"),
        ("x unix - n n - - pipe user=nobody", "error", "service x: missing command-line attribute: argv"),
        ("x unix - n n - - pipe argv=/bin/cat", "error", "service x: missing command-line attribute: user"),
        ("x unix - n n - - pipe user=no-such argv=/bin/cat", "warning", "service x: unknown user name: no-such"),
        ("x unix - n n - - pipe user=root argv=/bin/cat", "error", "service x: user= is root"),
        ("x unix - n n - - pipe user=nobody:nope argv=/bin/cat", "warning", "service x: unknown group name: nope"),
        ("x unix - n n - - pipe user=nobody foo=1 argv=/bin/cat", "error", "service x: unknown pipe attribute: foo=1"),
        ("x unix - n n - - pipe user=nobody flags=FZ argv=/bin/cat", "error", "service x: unknown flag: Z"),
        ("x unix - - n - - smtp -o smtp_helo_timeout=zz", "error", "parameter smtp_helo_timeout: bad time value"),
        ("x inet n - n - 1 postscreen", "warning", "service x: command postscreen is known but not yet effective"),
        ("x unix - - n - - proxymap", "note", "service x: command proxymap has no effect here"),
        ("x unix - - n - - smtp -o nosuch=1", "warning", "unused parameter: nosuch"),
        ("x unix - - n -", "error", "bad field count"),
    ],
)
def test_master_cf(directory: Path, line: str, severity: str, what: str) -> None:
    finding = one(directory, master=MASTER + line + "\n")
    assert (finding.severity, finding.line, finding.file) == (severity, 4, f"{directory}/master.cf")
    assert finding.what.startswith(what)


def test_a_good_pipe(directory: Path) -> None:
    pipe = "x unix - n n - - pipe flags=DRhu user=nobody directory=/tmp size=100 argv=/bin/cat -o a=b flags=? x\n"
    assert findings(directory, master=MASTER + pipe) == []


def test_mail_owner_must_exist(directory: Path) -> None:
    found = findings(directory, "mail_owner = no-such-user\n", severity="error" if os.geteuid() == 0 else "warning")
    assert found[-1].what == "mail_owner: unknown user name: no-such-user"
    assert found[-1].line == BASE_LINES + 1


def test_a_mail_owner_that_does_not_exist_is_told_of_once(directory: Path) -> None:
    (directory / "data").mkdir()
    assert [finding for finding in findings(directory, "mail_owner = no-such-user\n") if "owned" in finding.what] == []


def test_modes_and_owners(directory: Path) -> None:
    findings(directory)
    (directory / "main.cf").chmod(0o666)
    (directory / "spool").mkdir(0o777)
    (directory / "spool").chmod(0o777)
    (directory / "data").touch()
    whats = {finding.what for finding in check(read(directory))}
    assert whats >= {"group or other writable", "queue_directory is group or other writable"}
    assert "data_directory is not a directory" in whats


def test_findings_come_in_order_and_once(directory: Path) -> None:
    found = findings(directory, "b1 = $x1\nb2 = 2\nbiff = q\nbiff = q\n")
    places = [(finding.file, finding.line) for finding in found]
    assert places == sorted(places)
    assert len(set(found)) == len(found)
    for finding in found:
        assert "\n" not in str(finding)
