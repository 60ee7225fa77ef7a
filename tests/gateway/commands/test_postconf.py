from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gateway.commands.postconf import main
from gateway.config import parameters
from tests.gateway.config.postfix import needs_postfix, postconf

Capture = pytest.CaptureFixture[str]

MAIN = """\
# a comment
myhostname = mail.example.org
mydestination = $myhostname,
    localhost
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination, check_recipient_access hash:/etc/x/access
own = 17
relayhost = [$own]
lonely = 1
uucp_destination_recipient_limit = 4
"""
MASTER = """\
smtp inet n - n - - smtpd -v -o smtpd_banner=x
  -o { smtpd_client_restrictions = permit_mynetworks, reject } -n foo
127.0.0.1:10025 inet n - n - 5 smtpd
smtp unix - - n - - smtp
uucp unix - n n - - pipe
  flags=Fqhu user=uucp argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient) { two words }
a-service-with-a-long-name unix - - n 300? 1 smtp -o smtp_helo_name=$own
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(MAIN)
    (tmp_path / "master.cf").write_text(MASTER)
    return tmp_path


def run(directory: Path | None, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments), directory)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@needs_postfix
@pytest.mark.parametrize(
    "arguments",
    [
        "-n", "-nf", "-nx", "-nh", "-nH", "-nfh", "-n -C user", "-n -C service", "-n -C builtin", "-n -o biff=no",
        "myhostname mydestination", "-x mydestination relayhost", "-d smtpd_banner relayhost", "-h own",
        "-n relayhost lonely biff", "-dh uucp_time_limit", "-M", "-Mf", "-Mx", "-M smtp", "-M smtp/unix", "-M */inet",
        "-F", "-Ff", "-Fh smtp/unix", "-FH smtp/unix/command", "-F */*/chroot", "-P", "-Ph", "-PH", "-P smtp/inet",
        "-P */*/smtpd_banner", "-Px", "-l",
    ],
)  # fmt: skip
def test_as_postfix(directory: Path, capsys: Capture, arguments: str) -> None:
    status, out, _ = run(directory, capsys, *arguments.split())
    assert status == 0
    assert out == postconf(directory, *arguments.split())


@needs_postfix
def test_the_same_names(directory: Path, capsys: Capture) -> None:
    _, out, _ = run(directory, capsys, "-dH")
    assert set(postconf(directory, "-dH").split()) <= set(out.split())


@needs_postfix
@pytest.mark.parametrize(
    "arguments",
    [
        ["-e", "relayhost = new  value", "lonely =", "biff=  no "],
        ["relayhost=[$own]:25"],
        ["-X", "mydestination", "lonely"],
        ["-#", "mydestination", "own"],
        ["-Me", "smtp/unix=smtp unix - - n - 7 smtp -v -o a=b", "new/unix = new unix - - n - - lmtp"],
        ["-MX", "smtp/inet", "uucp/unix"],
        ["-M#", "smtp/inet"],
        ["-Pe", "uucp/unix/biff=no", "smtp/unix/own=1"],
        ["-PX", "smtp/inet/smtpd_banner"],
        ["-Fe", "smtp/inet/chroot=y", "smtp/unix/command=lmtp -v -o a=b"],
        ["-F", "*/unix/chroot = y"],
        ["-Fe", "smtp/*/process_limit=3"],
        ["-Pe", "*/unix/biff=no"],
        ["-PX", "*/*/smtpd_banner"],
        ["-MX", "*/inet"],
        ["-M#", "smtp/*"],
    ],
)
def test_changes_as_postfix(tmp_path: Path, capsys: Capture, arguments: list[str]) -> None:
    results = []
    for name in ("ours", "theirs"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "main.cf").write_text(MAIN + "# end\nrelayhost = last\n")
        (folder / "master.cf").write_text(MASTER)
        if name == "ours":
            assert main(arguments, folder) == 0
        else:
            postconf(folder, *arguments)
        results.append([(folder / file).read_text() for file in ("main.cf", "master.cf")])
    assert results[0] == results[1]
    assert results[0] != [MAIN, MASTER]


def test_default_output_has_every_parameter_and_what_is_set(directory: Path, capsys: Capture) -> None:
    status, out, err = run(directory, capsys)
    lines = out.splitlines()
    names = [line.partition(" =")[0] for line in lines]
    assert status == 0
    assert set(parameters.table()) <= set(names)
    assert names == sorted(names)
    assert "relayhost = [$own]" in lines and "own = 17" in lines and "smtp_time_limit" not in names
    assert "lonely" not in names
    assert f"postconf: warning: {directory}/main.cf: unused parameter: lonely=1" in err.splitlines()


def test_unknown_names_are_a_warning(directory: Path, capsys: Capture) -> None:
    status, out, err = run(directory, capsys, "nosuch", "biff")
    assert (status, out) == (0, "biff = yes\n")
    assert err == "postconf: warning: nosuch: unknown parameter\n"
    assert "unmatched request" in run(directory, capsys, "-M", "nosuch")[2]


def test_changes_to_nothing_are_a_warning(directory: Path, capsys: Capture) -> None:
    status, _, err = run(directory, capsys, "-Pe", "nosuch/unix/a=b")
    assert (status, err) == (0, 'postconf: warning: unmatched service_name/type: "nosuch/unix/a=b"\n')
    assert (directory / "master.cf").read_text() == MASTER


def test_defaults_are_told_without_a_word_about_what_is_set(directory: Path, capsys: Capture) -> None:
    (directory / "main.cf").write_text("biff = no\nbiff = no\n")
    assert "overriding earlier entry" in run(directory, capsys, "biff")[2]
    assert run(directory, capsys, "-d", "biff") == (0, "biff = yes\n", "")


def test_the_usual_directory_goes_without_saying(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert f"config_directory = {directory}\n" in run(directory, capsys, "-n")[1]
    monkeypatch.setattr("gateway.commands.postconf._USUAL_DIRECTORY", directory)
    assert "config_directory" not in run(directory, capsys, "-n")[1]


def test_json(directory: Path, capsys: Capture) -> None:
    _, out, _ = run(directory, capsys, "-jn", "relayhost", "own")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"name": "relayhost", "value": "[$own]"}, {"name": "own", "value": "17"}
    ]  # fmt: skip
    _, out, _ = run(directory, capsys, "-jxP", "a-service-with-a-long-name")
    assert json.loads(out) == {
        "service": "a-service-with-a-long-name", "type": "unix", "name": "smtp_helo_name", "value": "17"
    }  # fmt: skip
    _, out, _ = run(directory, capsys, "-jM", "smtp/unix")
    assert json.loads(out)["value"].endswith(" smtp")


def test_table_types(directory: Path, capsys: Capture) -> None:
    _, out, _ = run(directory, capsys, "-m")
    types = out.split()
    assert types == sorted(types)
    assert {"hash", "regexp", "static", "texthash"} <= set(types)


def test_without_a_directory(capsys: Capture) -> None:
    status, out, _ = run(None, capsys, "-hx", "syslog_name")
    assert (status, out) == (0, "mailgateway\n")
    assert run(None, capsys, "-e", "biff=no")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["-d", "-n"], "specify one of -d -n"),
        (["-C", "foo"], 'unknown -C option value "foo" in "foo"'),
        (["-e"], "-e requires name=value argument"),
        (["-e", "relayhost"], "missing '=' after attribute name: \"relayhost\""),
        (["-e", "a = b\nc = d"], "multi-line"),
        (["-X", "relayhost=1"], 'take a name, not "relayhost=1"'),
        (["-Me", "smtp/unix=other unix - - n - - smtp"], 'must begin with "smtp unix"'),
        (["-Me", "smtp/unix=smtp unix - - n"], "bad field count"),
        (["-MX", "smtp"], "write SERVICE/TYPE"),
        (["-F", "smtp/unix/nosuch"], 'invalid field "nosuch"'),
        (["-Fe", "smtp/unix/chroot=maybe"], "invalid chroot field"),
        (["-x", "relayhost", "-o", "relayhost=${x"], "truncated macro reference"),
        (["-T", "nonsense"], "bad -T mode"),
        (["-Z"], "option -Z not recognized"),
    ],
)
def test_refusals_change_nothing(directory: Path, capsys: Capture, arguments: list[str], what: str) -> None:
    status, out, err = run(directory, capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("postconf: fatal: ") and what in err and err.count("\n") == 1
    assert ((directory / "main.cf").read_text(), (directory / "master.cf").read_text()) == (MAIN, MASTER)
    assert sorted(os.listdir(directory)) == ["main.cf", "master.cf"]


def test_broken_configuration(directory: Path, capsys: Capture) -> None:
    (directory / "main.cf").write_text("relayhost = a\nnonsense\n")
    status, out, err = run(directory, capsys, "-n")
    assert (status, out) == (1, "")
    assert err == f"postconf: fatal: {directory}/main.cf, line 2: missing '=' after attribute name: \"nonsense\"\n"


def test_missing_master_is_a_warning(directory: Path, capsys: Capture) -> None:
    (directory / "master.cf").unlink()
    status, out, err = run(directory, capsys, "-h", "relayhost")
    assert (status, out) == (0, "[$own]\n")
    assert f"postconf: warning: open {directory}/master.cf: No such file or directory" in err


def test_output_survives_any_bytes(directory: Path, capsys: Capture) -> None:
    (directory / "main.cf").write_bytes(b"relayhost = \xe4\n")
    assert run(directory, capsys, "-n", "relayhost")[0] == 0
