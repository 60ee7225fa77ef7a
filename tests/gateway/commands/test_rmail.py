"""mailgateway rmail: the way in by UUCP."""

import io
import sys

import pytest

from gateway.commands import rmail
from gateway.commands.from_uucp import TOO_LARGE
from gateway.compression import packed
from gateway.content import submission


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
        ('From "sp ace"@x.example  Thu remote from alpha\n', None, '"sp ace"@x.example'),
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


@pytest.mark.parametrize(("line", "sender"), [
    (b"From a!!b Thu remote from alpha", "alpha!a!!b"),
    (b"From ../../etc Thu remote from alpha", 'alpha!"../../etc"'),
    (b"From a!..!b Thu remote from alpha", 'alpha!"a!..!b"'),
    (b"From $(id)`id` Thu remote from alpha", None),
    (b"From a|b>c Thu remote from alpha", None),
    (b"From a\x1bb Thu remote from alpha", None),
    (b"From \xff\xfe Thu remote from alpha", None),
    (b"From a@b@c Thu remote from alpha", None),
    (b"From a Thu remote from ../../etc", None),
    (b"From a Thu remote from alpha\x00", None),
    (b"From " + b"site!" * 1500 + b"a Thu", "site!" * 1500 + "a"),
    (b"From " + b"site!" * 5000 + b"a Thu", None),
    (b"From " + b"y" * 5_000_000, None),
    (b"From a Thu " + b"y" * 5_000_000, None),
])
def test_hostile_senders(run, line, sender, capsys, tmp_path):
    found = run(line + b"\nSubject: x\n\nx\n")
    said = capsys.readouterr().err
    assert len(said) < 300 and said.isprintable() or said.endswith("\n") and said[:-1].isprintable()
    if found == 65:
        assert sender is None and list((tmp_path / "queue" / "maildrop").iterdir()) == []
    elif sender is not None:
        assert found[0].sender == sender
    else:  # an address like any other
        assert found[0].sender.isprintable()


@pytest.mark.parametrize("address", [
    "..", "../../etc/passwd", "$(id)@b", "`id`", "a|b", "a;b@c", "x!!y", "!", "a!..!b@c", "site!" * 1900 + "a",
    "a\x7fb", "a\nb",
])
def test_hostile_recipients(run, address, tmp_path, capsys):
    found = run(b"From a@b Thu\n\nx\n", address, "good@b")
    if isinstance(found, int):
        assert found == 64
        return
    said, _ = found
    assert "good@b" in [*said.recipients, *said.turned_away]
    assert all(one.isprintable() for one in [*said.recipients, *said.turned_away])


def test_content_without_line_ends(run, tmp_path):
    with (tmp_path / "main.cf").open("a") as file:
        file.write("message_size_limit = 0\n")
    said, content = run(b"From a b\n" + b"y" * 30_000_000 + b"\r")
    assert len(content) == 30_000_002


@pytest.mark.parametrize("data", [b"a\r\nb\r\n", b"a\rb", b"a\n\n", b"\r\n", b"x" * 65535 + b"\r\nyz\r", b""])
def test_line_ends(run, data):
    assert run(b"From a b\n" + data)[1] == data.replace(b"\r\n", b"\n") + (b"" if data[-1:] in (b"\n", b"") else b"\n")


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
