"""mailgateway rsmtp: batches from UUCP."""

import io
import sys

import pytest

from gateway.commands import rsmtp
from gateway.commands.main import find
from gateway.compression import packed
from gateway.content import submission
from gateway.uucp.giving_back import TOO_LARGE

ONE = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nSubject: one\n\nx\n.\n"
TWO = b"MAIL FROM:<e@f>\nRCPT TO:<g@h>\nDATA\nSubject: two\n\ny\n.\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\nmessage_size_limit = 500\n")
    (tmp_path / "master.cf").write_text("")
    monkeypatch.setenv("UU_MACHINE", "alpha")

    def run(stdin, *arguments):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        status = rsmtp.main(list(arguments), tmp_path)
        found = []
        for path in (tmp_path / "queue" / "maildrop").glob("*"):
            file, _ = submission.open_submission(path)
            with file:
                found.append((submission.read_submission(file), file.read()))
        return status, sorted(found, key=lambda each: each[0].sender)

    return run


@pytest.mark.parametrize("kind", ["none", "compress", "gzip", "bzip2", "xz", "zstd"])
@pytest.mark.parametrize("head", [b"", b"#! crsmtp\n"])
def test_a_batch_however_it_is_packed(run, kind, head):
    status, found = run(head + b"".join(packed([ONE, TWO, b"QUIT\n"], kind)))
    assert status == 0
    assert [(said.sender, said.recipients, said.neighbour, content) for said, content in found] == [
        ("a@b", ["c@d"], "alpha", b"Subject: one\n\nx\n"), ("e@f", ["g@h"], "alpha", b"Subject: two\n\ny\n"),
    ]
    assert all(said.remote for said, _ in found)


def test_what_is_whole_of_a_broken_batch_is_kept(run, capsys):
    status, found = run(ONE + TWO[:-2])
    assert status == 65 and [said.sender for said, _ in found] == ["a@b"]
    assert "ends within a message; 1 messages before that are queued" in capsys.readouterr().err


def test_all_or_nothing(run, tmp_path, capsys, monkeypatch):
    real = submission.stage
    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no room")
        return real(*arguments)

    monkeypatch.setattr(submission, "stage", failing)
    status, found = run(ONE + TWO)
    assert (status, found) == (75, [])
    assert "will be tried again: OSError: no room" in capsys.readouterr().err


def test_a_message_that_is_too_large_goes_back_and_the_others_on(run):
    large = ONE.replace(b"\nx\n", b"\n" + b"x" * 60 + b"\n" * 500)
    status, found = run(large + TWO)
    assert status == 0
    (back, content), (other, _) = found
    assert (back.recipients, back.turned_away, back.reasons) == ([], ["c@d"], [TOO_LARGE])
    assert content.startswith(b"Subject: one\n\nxxx")
    assert other.recipients == ["g@h"]


def test_a_recipient_that_is_none(run):
    status, found = run(ONE.replace(b"DATA", b"RCPT TO:<x\x02@y>\nDATA"))
    assert status == 0
    assert (found[0][0].recipients, found[0][0].turned_away) == (["c@d"], ["<x?@y>"])


def test_who_may(run, tmp_path, capsys):
    with (tmp_path / "main.cf").open("a") as file:
        file.write("authorized_submit_users = somebody-else\n")
    assert run(ONE) == (77, [])
    assert "is not allowed to submit mail" in capsys.readouterr().err


def test_other_names_and_usage(run, capsys):
    assert find("crsmtp") is rsmtp and find("crmail").__name__.endswith("rmail")
    assert run(b"", "x") == (64, [])
