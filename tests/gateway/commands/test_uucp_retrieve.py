"""mailgateway uucp-retrieve."""

import io
import sys

import pytest

from gateway.commands import uucp_retrieve
from tests.transports.test_uucp_attachments import BIG, SMALL, message


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\n")
    (tmp_path / "master.cf").write_text("")
    kept = tmp_path / "queue" / "uucp" / "kept"
    kept.mkdir(parents=True)
    (kept / "QID").write_bytes(message(SMALL, BIG).as_bytes())

    def run(*arguments):
        out = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", out)
        return uucp_retrieve.main(list(arguments), tmp_path), out.buffer.getvalue()

    return run


def test_an_attachment_by_its_token(run):
    assert run("QID.4") == (0, BIG)
    assert run("QID.3") == (0, SMALL)


@pytest.mark.parametrize("token", ["QID.9", "OTHER.1"])
def test_what_is_not_there(run, token, capsys):
    assert run(token) == (69, b"")
    assert capsys.readouterr().err == f"uucp-retrieve: fatal: nothing is kept under {token}\n"


@pytest.mark.parametrize("words", [[], ["../x.1"], ["QID"], ["QID.1", "x"]])
def test_usage(run, words):
    assert run(*words)[0] == 64
