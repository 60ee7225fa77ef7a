"""The wheel in an environment of its own: the plug-in is there once, works from any folder, goes without a trace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.gateway import CHECKOUT

pytestmark = pytest.mark.system


def run(*command, cwd="/"):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts and "dropin.cache" not in path.name}


def test_the_wheel(folder):
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", folder / "dist", CHECKOUT)
    (wheel,) = (folder / "dist").iterdir()
    python = folder / "venv" / "bin" / "python"
    run("/usr/bin/python3", "-m", "venv", folder / "venv")
    twistd, command = python.with_name("twistd"), python.with_name("mailgateway")

    run(python, *pip, "install", wheel)
    installed = files(folder / "venv")
    assert len(re.findall(r"^ +mailgateway ", run(twistd, "--help"), re.MULTILINE)) == 1
    assert "--config-directory" in run(twistd, "mailgateway", "--help", cwd=folder)
    assert "sendmail" in run(command, "help")
    assert any(path.name == "py.typed" for path in installed)
    assert any(path.name == "parameters.tsv" for path in installed)

    run(python, *pip, "uninstall", "--yes", "mailgateway")
    left = [
        path for path in files(folder / "venv")
        if "mailgateway" in path.name or path.name in ("gateway", "transports", "spool")
    ]
    assert left == []
    assert "mailgateway" not in run(twistd, "--help")
