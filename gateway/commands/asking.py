"""Asks the running gateway for something, on behalf of a command that does nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.config.builtin import load_configuration
from gateway.control import Control, Down, Refused

EX_UNAVAILABLE, EX_NOPERM = 69, 77


def ask(request: str, directory: Path | None) -> int:
    """The exit status: 0, or what kept it from being done, which is told on standard error."""
    queue = load_configuration(directory).settings.text("queue_directory")
    connected = False
    try:
        with Control(queue) as control:
            connected = True
            control.call(request)
    except Down as error:
        if connected and request == "stop":
            return 0  # gone before its answer was out
        print(f"mailgateway: fatal: the gateway is not running ({error})", file=sys.stderr)
        return EX_UNAVAILABLE
    except (Refused, PermissionError) as error:
        print(f"mailgateway: fatal: {request}: {error}", file=sys.stderr)
        return EX_NOPERM
    return 0
