"""mailgateway rsmtp: batches from UUCP."""

import io
import signal
import subprocess
import sys
import time

import pytest

from gateway.commands import rsmtp
from gateway.commands.from_uucp import TOO_LARGE
from gateway.commands.main import find
from gateway.compression import packed
from gateway.content import submission

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


@pytest.mark.parametrize("end", [b"\n", b"x"], ids=["lines", "a-line-without-end"])
def test_a_message_that_is_too_large_goes_back_and_the_others_on(run, end):
    large = ONE.replace(b"\nx\n", b"\n" + b"x" * 60 + end * 500_000 + b"\n")
    status, found = run(large + TWO)
    assert status == 0
    (back, content), (other, _) = found
    assert (back.recipients, back.turned_away, back.reasons) == ([], ["c@d"], [TOO_LARGE])
    assert content.startswith(b"Subject: one\n\nxxx")
    assert other.recipients == ["g@h"]


@pytest.mark.parametrize("batch, complaint", [
    (b"nonsense\n" * 100_000, "no batch"),
    (b"x" * 3_000_000, "no batch"),
    (b"MAIL FROM:<a@b>\n" + b"RCPT TO:<c@d>\n" * 60_000 + b"DATA\nx\n.\n", "more than 50000 recipients"),
    (b"MAIL FROM:<a@b>\n" + b"RCPT TO:<" * 60_000 + b"DATA\nx\n.\n", "no batch"),
    (b"".join(packed([b"".join(packed([ONE], "gzip"))], "gzip")), "no batch"),
    (b"".join(packed([bytes(2_000_000)], "bzip2")), "more than 1000000 bytes when unpacked"),
], ids=["nonsense", "no-line-end", "recipients", "a-command-without-end", "twice-packed", "bomb"])
def test_hostile_batches(run, capsys, tmp_path, batch, complaint):
    with (tmp_path / "main.cf").open("a") as file:
        file.write(f"uucp_batch_size_limit = {1_000_000 if complaint.startswith('more than 1000000') else 10**8}\n")
    status, found = run(batch)
    assert (status, found) == (65, [])
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") < 15 and len(said) < 4000


def test_packed_again_and_again(run):
    data = ONE
    for _ in range(3):
        data = b"#! layer\n" + b"".join(packed([data], "gzip"))
    assert run(data)[0] == 0
    for _ in range(9):
        data = b"#! layer\n" + b"".join(packed([data], "gzip"))
    assert run(data)[0] == 65


def test_a_million_empty_lines_between_messages(run):
    status, found = run(b"\n" * 1_000_000 + ONE)
    assert status == 0 and len(found) == 1


def test_more_messages_than_a_batch_may_have(run, monkeypatch):
    monkeypatch.setattr(rsmtp, "MOST_MESSAGES", 1)
    status, found = run(ONE + TWO)
    assert status == 65 and [said.sender for said, _ in found] == ["a@b"]


def test_a_signal_makes_uuxqt_try_again(tmp_path):
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\n")
    (tmp_path / "master.cf").write_text("")
    command = [sys.executable, "-m", "gateway.commands.main", "rsmtp", "-c", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(ONE + b"MAIL FROM:<e@f>\nRCPT TO:<g@h>\nDATA\n" + b"y\n" * 100_000)
        process.stdin.flush()
        maildrop = tmp_path / "queue" / "maildrop"
        while not maildrop.is_dir() or len(list(maildrop.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 75 and b"ended by SIGTERM, will be tried again" in said
    assert list(maildrop.iterdir()) == []


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
