"""Odd addresses handed in with sendmail, on the command line and in a header: all as Postfix 3.7 does it."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.addresses.forms import unquote
from gateway.commands import sendmail
from gateway.content import submission
from spool.envelope import Recipient
from tests.gateway.addresses.odd.questions import ADDRESSES, SITE, SUBMITTED
from tests.gateway.content.support import Way

ANSWERS: dict[str, list[Any]] = json.loads(SUBMITTED.read_text())


class _Site:
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        lines = [f"{name} = {value}\n" for name, value in {**SITE, "queue_directory": str(folder)}.items()]
        (folder / "main.cf").write_text("".join(lines))
        (folder / "master.cf").touch()
        patch.setattr("os.fdatasync", lambda descriptor: None)
        patch.setattr("os.fsync", lambda descriptor: None)
        self._folder, self._patch = folder, patch
        self._way = Way(**SITE)

    def ask(self, arguments: list[bytes], header: bytes) -> list[Any]:
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(header + b"\nbody\n"))))
        words = [word.decode("utf-8", "surrogateescape") for word in arguments]
        status = sendmail.main(["-i", *words], self._folder)
        if status:
            return [status]
        (path,) = (self._folder / submission.MAILDROP).iterdir()
        with submission.open_submission(path)[0] as file:
            said = submission.read_submission(file)
        path.unlink()
        draft = self._way.receive(header + b"\n", sender=said.sender, to=[Recipient(one) for one in said.recipients])
        envelope = draft.envelope
        return [
            0, _latin(envelope.sender), [[_latin(one.address), _latin(one.original)] for one in envelope.recipients]
        ]


def _latin(address: str) -> str:
    return unquote(address).encode("utf-8", "surrogateescape").decode("latin-1")


def _is_refused(address: bytes, expected: list[Any]) -> bool:
    """What Postfix queues, to bounce it or to have it in MAILER-DAEMON's mailbox, and we do not take: what begins with
    "-", control characters, and arguments that hold no address."""
    if re.match(rb'"?-', address) or re.search(rb"[\x00-\x1f\x7f]", address):
        return True
    return len(expected) > 1 and expected[2] == [["MAILER-DAEMON@my.domain", ""]]


def test_as_postfix_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = _Site(tmp_path, monkeypatch)
    different = []
    for address in ADDRESSES:
        text = address.decode("latin-1")
        asked = ([b"-f", address, b"--", address], b""), ([b"-f", b"s@x.tld", b"-t"], b"To: %b\n" % address)
        for (arguments, header), expected in zip(asked, ANSWERS[text], strict=True):
            got = site.ask(arguments, header)
            if len(got) == 1 and _is_refused(address, expected):
                continue
            if got != expected:
                different.append(f"{arguments[-1].decode('latin-1')!r} {text!r}: {got}, not {expected}")
    assert not different, "\n" + "\n".join(different)
