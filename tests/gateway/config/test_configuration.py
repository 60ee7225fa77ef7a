from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, from_texts, load, read

MASTER = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n"


def write(directory: Path, main: str, master: str | None = MASTER) -> None:
    (directory / "main.cf").write_text(main)
    if master is not None:
        (directory / "master.cf").write_text(master)


def test_load(tmp_path: Path) -> None:
    write(tmp_path, "myhostname = a.example\n")
    found = load(tmp_path)
    assert found.settings.text("myhostname") == "a.example"
    assert found.settings.text("config_directory") == str(tmp_path)
    inet, unix = found.service("smtp", "inet"), found.service("smtp")
    assert inet is not None and inet.command == "smtpd"
    assert unix is not None and unix.command == "smtp"
    assert found.service("nobody") is None
    assert found.findings == []


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"main\.cf: cannot be read: No such file or directory: create it"):
        load(tmp_path)
    write(tmp_path, "", None)
    with pytest.raises(ConfigError, match=r"master\.cf: cannot be read"):
        load(tmp_path)
    assert load(tmp_path, services=False).services == []


def test_broken_lines_stop_load_but_not_read(tmp_path: Path) -> None:
    write(tmp_path, "myhostname = a.example\nnonsense\n", "bad\nsmtp unix - - n - - smtp\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/main.cf, line 2: missing '='")
    found = read(tmp_path)
    assert len(found.findings) == 2
    assert [service.name for service in found.services] == ["smtp"]


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_bytes(b"relayhost = \xe4\n")
    assert load(tmp_path, services=False).settings.text("relayhost").encode("utf-8", "surrogateescape") == b"\xe4"


def test_from_texts() -> None:
    found = from_texts("relayhost = x\n", "a unix - - n - - smtp -o relayhost=y\n", Path("/nowhere"))
    service = found.service("a")
    assert service is not None
    assert found.service_settings(service).text("relayhost") == "y"


def test_the_directory_may_be_given_as_it_is_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "main.cf").write_text("alias_maps = hash:$config_directory/aliases\n")
    (tmp_path / "etc" / "master.cf").write_text("")
    monkeypatch.chdir(tmp_path)
    configuration = load(Path("etc"))
    assert configuration.settings.words("alias_maps") == [f"hash:{tmp_path}/etc/aliases"]
