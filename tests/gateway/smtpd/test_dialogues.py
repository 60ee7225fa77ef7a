"""Dialogues as data: files in dialogues/, in which "!" sets, "@" connects, ">" says, "<" expects; "closed" ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.smtpd.rig import Client, Rig

FILES = sorted(Path(__file__).with_name("dialogues").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dialogue(file: Path) -> None:
    lines = file.read_text().splitlines()
    settings = dict(line[2:].split(" =", 1) for line in lines if line.startswith("! "))
    rig = Rig(own=("192.0.2.1", "127.0.0.1"), **{name: value.strip() for name, value in settings.items()})
    client: Client | None = None
    got: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"{file.name}:{number}"
        if line.startswith("@ "):
            client = rig.connect(line[2:], greet=False)
            got = client.got().splitlines()
        elif client is None or line[:2] not in ("> ", "< ", ">", "cl"):
            continue
        elif line.startswith("<"):
            assert got and got.pop(0) == line[2:], where
        elif line == "closed":
            assert client.closed, where
        else:
            assert not got, f"{where}: an unexpected reply before it"
            got = client.send(line[2:] + "\r\n").splitlines()
    assert not got


def test_there_are_dialogues() -> None:
    assert len(FILES) >= 4
