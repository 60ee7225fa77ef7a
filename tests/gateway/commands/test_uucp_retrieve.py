"""mailgateway uucp-retrieve."""

import io
import sys

import pytest

from gateway.commands import uucp_retrieve
from tests.transports.support import Bytes
from tests.transports.test_uucp_attachments import BIG, SMALL, message
from transports.uucp.shelf import Facts, key_of, write


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}/queue\n")
    (tmp_path / "master.cf").write_text("")
    folder = tmp_path / "queue" / "uucp"
    write(folder, "QID", Bytes(message(SMALL, BIG).as_bytes()), Facts(10_000))

    def run(*arguments):
        out = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", out)
        words = [one.replace("KEY", key_of(folder, "QID")) for one in arguments]
        return uucp_retrieve.main(words, tmp_path), out.buffer.getvalue()

    return run


def test_an_attachment_by_its_token(run):
    assert run("KEY.4") == (0, BIG)
    assert run("KEY.3") == (0, SMALL)


@pytest.mark.parametrize("token", ["KEY.9", f"{'a' * 16}.1"])
def test_what_is_not_there(run, token, capsys):
    assert run(token) == (69, b"")
    assert capsys.readouterr().err.startswith("uucp-retrieve: fatal: nothing is kept under ")


@pytest.mark.parametrize("words", [[], ["../x.1"], ["KEY"], ["KEY.1", "x"], ["QID.1"]])
def test_usage(run, words):
    assert run(*words)[0] == 64
