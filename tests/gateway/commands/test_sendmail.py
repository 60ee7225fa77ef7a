"""mailgateway sendmail: options, exit statuses, and the file that it leaves for the gateway."""

import io
import os
import pwd
import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commands import sendmail
from gateway.commands.sendmail_options import UsageError, parse
from gateway.content import submission
from spool.envelope import NOTIFY_DELAY, NOTIFY_NEVER, NOTIFY_SUCCESS


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A configuration directory; site(arguments, stdin) runs sendmail, site.taken() reads what it left."""
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\nmessage_size_limit = 5000\n")
    (tmp_path / "master.cf").write_text("")
    monkeypatch.delenv("NAME", raising=False)
    monkeypatch.setattr(sendmail, "login_name", lambda: "joe")
    monkeypatch.setattr(sendmail, "own_name", lambda: "Joe")

    class Site:
        directory = tmp_path
        folder = tmp_path / "queue" / "maildrop"

        def __call__(self, *arguments, stdin=b"Subject: x\n\ny\n"):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
            return sendmail.main(list(arguments), tmp_path)

        def taken(self):
            (path,) = self.folder.iterdir()
            assert submission.NAME.match(path.name)
            file, uid = submission.open_submission(path)
            with file:
                assert uid == os.getuid()
                said = submission.read_submission(file)
                content = file.read()
            path.unlink()
            assert said.size == len(content)
            return said, content

    return Site()


def test_plain_submission(site):
    assert site("jane", "someone@elsewhere.example", stdin=b"Subject: x\n\nOne.\n.\nnot part of it\n") == 0
    said, content = site.taken()
    assert (said.sender, said.recipients, said.full_name) == ("joe", ["jane", "someone@elsewhere.example"], "Joe")
    assert content == b"Subject: x\n\nOne.\n"


def test_nobody_can_list_the_folder_and_the_gateway_can_read_the_file(site):
    site("jane")
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o1733
    assert [stat.S_IMODE(path.stat().st_mode) for path in site.folder.iterdir()] == [0o644]


def test_recipients_of_the_header(site):
    site("-t", "two@remote.example", stdin=b"To: ann (Ann)\nCc: B <b@c>,\n d@e\nBcc: secret@x\nFrom: f@g\n\nx\n")
    assert site.taken()[0].recipients == ["two@remote.example", "ann", "b@c", "d@e", "secret@x"]


def test_resent_mail_goes_to_the_resent_recipients_only(site):
    site("-ti", stdin=b"Resent-To: two@remote.example\nResent-From: joe\nTo: one@remote.example\n\nx\n")
    assert site.taken()[0].recipients == ["two@remote.example"]


def test_dots_stay_with_i(site):
    site("-oi", "-om", "-oem", "-flist@my.domain", "--", "one@remote.example", stdin=b"Subject: dots\n\na\n.\nb\n")
    said, content = site.taken()
    assert said.sender == "list@my.domain" and content.endswith(b"a\n.\nb\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-f", "list@my.domain", "-F", 'The "List"'], {"sender": "list@my.domain", "full_name": 'The "List"'}),
        (["-f", ""], {"sender": ""}),
        (["-f", "<>"], {"sender": ""}),
        (["-fFaxMaster", "-oi"], {"sender": "FaxMaster"}),
        (["-r", "Joe <a@b>"], {"sender": "a@b"}),
        (["-N", "success,delay", "-R", "hdrs", "-V", "env+id", "-B", "8BITMIME"],
         {"notify": NOTIFY_SUCCESS | NOTIFY_DELAY, "ret": "HDRS", "envid": "env+id", "encoding": "8bit"}),
        (["-N", "never"], {"notify": NOTIFY_NEVER}),
        (["-XV"], {"verp": "+="}),
        (["-XV-="], {"verp": "-="}),
        (["-V-="], {"verp": "-=", "envid": ""}),
        (["-Vabc"], {"verp": "", "envid": "abc"}),
        (["-N", "never,delay", "-R", "foo"], {"notify": 0, "ret": ""}),
        (["-V", "x" * 101], {"envid": ""}),
        (["-V", "a\tbc"], {"envid": ""}),
        (["-G"], {"remote": True}),
        (["-v"], {"trace": "record"}),
        (["-v", "-v"], {"trace": ""}),
        (["-O", "A=b", "-L", "tag", "-h", "5", "-Am", "-U", "-m", "-p", "x", "-bm"], {}),
    ],
)  # fmt: skip
def test_options(site, arguments, expected):
    assert site(*arguments, "a@b.example") == 0
    said, _ = site.taken()
    assert {name: getattr(said, name) for name in expected} == expected
    assert said.recipients == ["a@b.example"]


def test_verifying_sends_a_probe_instead_of_the_message(site, capsys):
    assert site("-bv", "both", "b@c", stdin=b"never read") == 0
    said, content = site.taken()
    assert said.trace == "verify"
    assert content == b"From: joe\nSubject: probe\nTo: both, b@c\n\n"
    assert capsys.readouterr().out == "Mail Delivery Status Report will be mailed to <joe>.\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([], b"x\n", "Recipient addresses must be specified"),
        (["-bv"], b"x\n", "Recipient addresses must be specified"),
        (["-t"], b"Subject: to nobody\n\nx\n", "No recipient addresses found in message header"),
        (["-bv", "-t"], b"\n", "-t option cannot be used with -bv"),
        (["-Z", "ann"], b"x\n", "unknown option -Z"),
        (["-X", "log", "ann"], b"x\n", "unsupported: -Xl"),
        (["-bp", "ann"], b"", "display queue mode requires no recipient"),
        (["-bs", "ann"], b"", "stand-alone mode requires no recipient"),
        (["-bi", "ann"], b"", "alias initialization mode requires no recipient"),
        (["-qIABC", "ann"], b"", "flush queue mode requires no recipient"),
        (["-f"], b"x\n", "-f needs a value"),
        (["-n", "a@b"], b"x\n", "-n option not supported"),
        (["-XVabc", "a@b"], b"x\n", "-XV requires two characters from -=+"),
        (["-XV#=", "a@b"], b"x\n", "-XV requires two characters from -=+"),
        (["-XV", "-f", "<>", "a@b"], b"x\n", "-XV option requires non-null sender"),
        (["-q", "-t"], b"x\n", "-t can be used only in delivery mode"),
        (["-B", "BINARY", "a@b"], b"x\n", "-B option needs"),
        (["-bz", "a@b"], b"x\n", "unsupported: -bz"),
        (["-qSsite"], b"", "unknown queue selection"),
    ],
)
def test_what_is_refused(site, capsys, arguments, stdin, said):
    assert site(*arguments, stdin=stdin) == 75
    error = capsys.readouterr().err
    assert error.startswith("sendmail: fatal: ") and said in error and error.count("\n") == 1
    assert not site.folder.exists() or not list(site.folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "stdin", "recipients"),
    [
        (["--", "-x@b"], b"x\n", ["-x@b"]),
        (["a@b", "-fx@y"], b"x\n", ["a@b", "-fx@y"]),
        (["-t"], b"To: -oQ/tmp\n\n", ["-oQ/tmp"]),
    ],
)
def test_the_gateway_decides_about_addresses_that_look_like_options(site, arguments, stdin, recipients):
    assert site(*arguments, stdin=stdin) == 0
    assert site.taken()[0].recipients == recipients


def test_what_was_verp_once_is_so_still_but_for_a_warning(site, capsys):
    assert site("-V", "ab", "a@b", stdin=b"x\n") == 0
    said = site.taken()[0]
    assert (said.verp, said.recipients) == ("+=", ["ab", "a@b"])
    assert capsys.readouterr().err == "sendmail: warning: option -V is deprecated; specify -XV instead\n"


@pytest.mark.parametrize("arguments", [['"e\x1bsc"@b'], ["-f", "a\x01@b", "c@d"]])
def test_what_the_gateway_would_set_aside_is_refused_at_once(site, capsys, arguments):
    assert site(*arguments, stdin=b"x\n") == 75
    assert "bad characters in" in capsys.readouterr().err
    assert not site.folder.exists() or not list(site.folder.iterdir())


def test_a_sender_that_is_several(site, capsys):
    assert site("-f", "a <a@x>, b@x", "c@d", stdin=b"x\n") == 0
    assert site.taken()[0].sender == "a@x"
    assert capsys.readouterr().err == "sendmail: warning: -f option specified malformed sender: a <a@x>, b@x\n"


@pytest.mark.parametrize("nobody", ["", " ", "<>", "(comment)"])
def test_the_empty_recipient_is_the_mail_system(site, nobody):
    assert site("a@b", nobody, stdin=b"x\n") == 0
    assert site.taken()[0].recipients == ["a@b", ""]


def test_too_large(site, capsys):
    assert site("a@b", stdin=b"\n" + b"x" * 6000) == 75
    assert "message file too big" in capsys.readouterr().err
    assert list(site.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written(site, capsys):
    (site.directory / "queue").write_text("a file")
    assert site("a@b") == 75
    assert "cannot queue the message" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "input", "output"),
    [
        ("always", b"a\r\nb\rc\r\n", b"a\nb\rc\n"), ("never", b"a\r\nb\n", b"a\r\nb\n"),
        ("strict", b"a\r\nb\r\n", b"a\nb\n"), ("strict", b"a\nb\r\n", b"a\nb\r\n"),
        ("always", b"a\r\n\r\nb", b"a\n\nb\n"),
        ("always", b"From x\n>From y\nFrom: z\nFrom w\n", b"From: z\nFrom w\n"), ("always", b"", b""),
        ("always", b"a\n.\r\nb", b"a\n"), ("always", b"a\n.", b"a\n"), ("always", b"a\n..\n", b"a\n..\n"),
    ],
)  # fmt: skip
def test_content(mode, input, output):
    stream = io.BufferedReader(io.BytesIO(input))
    assert b"".join(sendmail.read_content(stream, dot_ends=True, line_ends=mode)) == output


@given(st.binary(max_size=30), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_content_does_not_depend_on_how_it_arrives(data, size):
    class Slow:
        def __init__(self):
            self.rest = data

        def read1(self, count):
            block, self.rest = self.rest[:size], self.rest[size:]
            return block

    whole = b"".join(sendmail.read_content(io.BufferedReader(io.BytesIO(data)), dot_ends=True))
    assert b"".join(sendmail.read_content(Slow(), dot_ends=True)) == whole


def test_queue_commands():
    assert parse(["-bp"]).mode == "queue"
    assert (parse(["-q"]).mode, parse(["-q"]).flush) == ("flush", ["-f"])
    assert parse(["-qIABC"]).flush == ["-i", "ABC"]
    assert parse(["-qRsite.example"]).flush == ["-s", "site.example"]
    assert parse(["-q30m", "-bd"]).mode == parse(["-bd", "-q30m"]).mode == "daemon"
    assert parse(["-q30m"]).mode == parse(["-bh"]).mode == parse(["-bH"]).mode == "nothing"
    assert parse(["-bi", "-oA/etc/aliases"]).alias_files == ["/etc/aliases"]
    assert parse(["-I"]).mode == "aliases"
    assert str(parse(["-C", "/etc/x/main.cf"]).directory) == "/etc/x"


@given(st.lists(st.text(max_size=4), max_size=4))
@settings(max_examples=100)
def test_any_command_line_is_parsed_or_refused(words):
    try:
        parse(words)
    except UsageError as error:
        assert str(error)


def test_an_account_without_a_name(site, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setattr(os, "getuid", lambda: 999_999_999)
    monkeypatch.setattr(os, "geteuid", lambda: 999_999_999)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"\n"))))
    assert sendmail.main(["a@b"], site.directory) == 75
    assert "no login name found for user ID 999999999: say with -f" in capsys.readouterr().err


def test_users_who_may_not_submit(site, capsys):
    with (site.directory / "main.cf").open("a") as file:
        file.write("authorized_submit_users = nobody-at-all\n")
    assert site("a@b") == site("-bs") == 75
    assert "is not allowed to submit mail" in capsys.readouterr().err
    assert not site.folder.exists()


@pytest.mark.parametrize(("arguments", "status"), [(["-fme@x"], 0), (["-f", "me+1@x"], 75), ([], 75), (["-f<>"], 75)])
def test_senders_that_a_user_may_not_name(site, capsys, arguments, status):
    with (site.directory / "main.cf").open("a") as file:
        file.write(f"local_login_sender_maps = inline:{{ {{{pwd.getpwuid(os.getuid()).pw_name} = me@x}} }}\n")
    assert site(*arguments, "a@b") == status
    assert ("not authorized to use sender=" in capsys.readouterr().err) == bool(status)


def test_it_refuses_to_be_set_uid(site, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert site("a@b") == 75
    assert "set-uid" in capsys.readouterr().err


def test_smtp_on_standard_input(site):
    with (site.directory / "main.cf").open("a") as file:
        file.write("compatibility_level = 3.6\nmyhostname = gw.my.domain\n")
    dialogue = (
        b"EHLO localhost\nMAIL FROM:<ann@remote.example> RET=HDRS\nRCPT TO:<one@remote.example>\n"
        b"RCPT TO:<two@remote.example> NOTIFY=NEVER ORCPT=rfc822;2@x\nDATA\nSubject: by -bs\n\nx\n.\nQUIT\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "gateway.commands.main", "sendmail", "-c", str(site.directory), "-bs"],
        input=dialogue, capture_output=True, check=False,
    )  # fmt: skip
    said, content = site.taken()
    lines = run.stdout.decode().splitlines()
    assert run.stderr == b"" and run.returncode == 0
    assert lines[0].startswith("220 gw.my.domain ESMTP ") and lines[-1] == "221 2.0.0 Bye"
    queue_id = lines[-2].removeprefix("250 2.0.0 Ok: queued as ")
    assert (said.sender, said.recipients, said.ret) == (
        "ann@remote.example", ["one@remote.example", "two@remote.example"], "HDRS",
    )
    assert (said.notifies, said.orcpts) == ([0, NOTIFY_NEVER], ["rfc822;one@remote.example", "rfc822;2@x"])
    assert content.startswith(b"Received: from localhost (localhost [127.0.0.1])\n\tby gw.my.domain (")
    assert f"id {queue_id};".encode() in content and content.endswith(b"\nSubject: by -bs\n\nx\n")


def test_it_starts_without_twisted(site):
    script = (
        "import sys; from gateway.commands import sendmail; "
        f"status = sendmail.main(['-f', 'a@b', 'c@d'], __import__('pathlib').Path({str(site.directory)!r})); "
        "sys.exit(status or ('twisted' in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], input=b"\nx\n", capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert site.taken()[1] == b"\nx\n"
