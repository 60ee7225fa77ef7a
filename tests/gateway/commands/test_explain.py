"""The command `mailgateway explain`, as a program; what it says is tested in tests/gateway/test_explain.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands import explain


def run(folder: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "gateway.commands.main", "explain", "-c", str(folder), *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    lines = [
        "compatibility_level = 3.6", "myhostname = gw.my.domain", f"queue_directory = {tmp_path}/queue",
        "inet_interfaces = 127.0.0.1", "alias_maps =",
        "transport_maps = inline:{{some.domain=error:5.7.1 no}, {there.example=discard:}}",
    ]
    (tmp_path / "main.cf").write_text("\n".join(lines) + "\n")
    (tmp_path / "master.cf").write_text("error unix - - n - - error\ndiscard unix - - n - - discard\n")
    return tmp_path


def test_many_addresses_for_programs(site: Path) -> None:
    status, out, _ = run(site, "--json", "--all", "-", "a@some.domain", stdin="b@there.example\n\nc@there.example\n")
    steps = [json.loads(line) for line in out.splitlines()]
    assert list(dict.fromkeys(step["address"] for step in steps)) == [
        "a@some.domain", "b@there.example", "c@there.example",
    ]
    assert {step["address"] for step in steps if not step["good"]} == {"a@some.domain"}
    (found,) = next(step for step in steps if step["part"] == "routing")["because"]
    assert found == {"table": "inline:{{some.domain=error:5.7.1 no}, {there.example=discard:}}", "key": "some.domain",
                     "place": "", "value": "error:5.7.1 no"}  # fmt: skip
    assert status == 1
    assert run(site, "b@there.example")[0] == 0


def test_one_line_for_what_is_wrong(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], ["--client", "pc.example", "a@b.c"]):
        with pytest.raises(SystemExit):
            explain.main(wrong, site)
    assert "--client: pc.example is not an IP address" in capsys.readouterr().err
    with (site / "main.cf").open("a") as file:
        file.write("proxy_interfaces = no.such.invalid\n")
    status, _, errors = run(site, "a@some.domain")
    assert (status, errors.count("\n")) == (78, 1)
    assert f"{site}/main.cf, line 7: proxy_interfaces" in errors
