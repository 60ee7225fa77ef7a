"""mailgateway rmail: the way in by UUCP."""

import io
import sys

import pytest

from gateway.commands import rmail
from gateway.compression import packed
from gateway.content import submission
from gateway.uucp.giving_back import TOO_LARGE


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\n")
    (tmp_path / "master.cf").write_text("")
    monkeypatch.delenv("UU_MACHINE", raising=False)

    def run(stdin, *arguments, machine=None):
        if machine:
            monkeypatch.setenv("UU_MACHINE", machine)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        status = rmail.main(list(arguments or ["joe@gw.my.domain"]), tmp_path)
        if status:
            return status
        (path,) = (tmp_path / "queue" / "maildrop").iterdir()
        file, _ = submission.open_submission(path)
        with file:
            said = submission.read_submission(file)
            return said, file.read()

    return run


@pytest.mark.parametrize(
    ("lines", "machine", "sender"),
    [
        ("From alice Thu Jan  1 12:00:00 1970 remote from alpha\n", None, "alpha!alice"),
        ("From alice  Thu remote from alpha\n>From alice  Thu remote from gamma\n", None, "alpha!gamma!alice"),
        ("From x!y!alice Thu remote from alpha\n", None, "alpha!x!y!alice"),
        ("From alice@alpha.example Thu remote from beta\n", None, "alice@alpha.example"),
        ("From gw!alice@alpha.example Thu remote from beta\n", None, "alice@alpha.example"),
        ("From alice@x.example  Thu\n", "beta", "alice@x.example"),
        ("From alice  Thu\n", "beta", "beta!alice"),
        ("From alice  Thu\n", None, "alice"),
        ("From alice Thu remote from alpha\n", "beta", "alpha!alice"),
        ("From MAILER-DAEMON  Thu\n", "beta", ""),
        ("From MAILER-DAEMON  Thu remote from alpha\n", "alpha", ""),
        ("From <>  Thu remote from alpha\n", None, ""),
    ],
)
def test_the_sender(run, lines, machine, sender):
    said, content = run(lines.encode() + b"Subject: x\n\nFrom here on\n", machine=machine)
    assert said.sender == sender
    assert content == b"Subject: x\n\nFrom here on\n"
    assert said.remote and said.recipients == ["joe@gw.my.domain"]


def test_recipients(run):
    said, _ = run(b"From a b\n\n", "-T", "-D", "x.example", "--", "joe", "beta!ann", "b@c")
    assert said.recipients == ["joe", "beta!ann", "b@c"]


@pytest.mark.parametrize(
    ("stdin", "arguments", "status"),
    [
        (b"From a b\n\n", ["-x@b"], 64), (b"From a b\n\n", ["--", "-x@b"], 64), (b"From a b\n\n", ["--"], 64),
        (b"From a b\n\n", ["a@b", "(nothing)-x"], 64),
        (b"", [], 65), (b"Subject: x\n\n", [], 65), (b"From -oQ/tmp x\n\n", [], 65),
        (b"From a Thu remote from -oX\n\n", [], 65), (b"From a Thu remote from a;b\n\n", [], 65),
        (b"From , Thu\n\n", [], 65), (b"From a b\n" * 2000, [], 65),
    ],
)  # fmt: skip
def test_what_is_refused(run, stdin, arguments, status, capsys):
    assert run(stdin, *arguments) == status
    assert capsys.readouterr().err.startswith("rmail: ")


def test_trouble_here_is_temporary(run, tmp_path, capsys):
    (tmp_path / "queue").write_text("a file")
    assert run(b"From a b\n\n") == 75
    (tmp_path / "main.cf").unlink()
    assert run(b"From a b\n\n") == 75
    assert "will be tried again" in capsys.readouterr().err


def test_a_dot_is_a_line_like_any_other(run):
    assert run(b"From a b\n\nx\n.\ny\n")[1] == b"\nx\n.\ny\n"


def test_a_message_that_is_too_large_goes_back(run, tmp_path):
    with (tmp_path / "main.cf").open("a") as file:
        file.write("message_size_limit = 500\n")
    said, content = run(b"From a@b.example Thu\nSubject: x\n\n" + b"y" * 600 + b"\n", machine="beta")
    assert (said.sender, said.recipients, said.turned_away) == ("a@b.example", [], ["joe@gw.my.domain"])
    assert said.reasons == [TOO_LARGE] and said.neighbour == "beta"
    assert content.startswith(b"Subject: x\n\nyyy")


def test_packed_mail(run):
    packed_mail = b"".join(packed([b"From a b\n\nx\n"], "xz"))
    assert run(packed_mail)[1] == b"\nx\n"
    assert run(packed_mail[:-4]) == 65


def test_mail_that_goes_round(run, tmp_path):
    with (tmp_path / "main.cf").open("a") as file:
        file.write("hopcount_limit = 3\n")
    assert run(b"From a b remote from c\n" * 4 + b"\nx\n") == 65
