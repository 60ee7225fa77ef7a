"""mailgateway start: starts the gateway in the background, as "twistd mailgateway" does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.config.builtin import configured_directory

SUMMARY = "start the gateway in the background (arguments go to twistd)"


def main(arguments: list[str], directory: Path | None) -> int:
    """Becomes twistd, which checks the configuration first and says what is wrong."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, *arguments, "mailgateway"]
    if not any(one.startswith("--pidfile") for one in arguments):
        command.insert(1, "--pidfile=")
    configured = configured_directory(directory)
    if configured is not None:
        command += ["--config-directory", str(configured.absolute())]
    os.execv(twistd, command)
    return 0
