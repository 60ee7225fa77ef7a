"""mailgateway status: whether the gateway runs, and what it is doing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway.config.builtin import load_configuration
from gateway.control import Control, Down

SUMMARY = "tell whether the gateway runs, and what it is doing (-j: as JSON)"


def main(arguments: list[str], directory: Path | None) -> int:
    """0 if it runs, 1 if not."""
    queue = load_configuration(directory).settings.text("queue_directory")
    try:
        with Control(queue) as control:
            status = control.call("status")
    except Down as error:
        print(f"mailgateway: not running ({error})", file=sys.stderr)
        return 1
    if "-j" in arguments:
        print(json.dumps(status))
        return 0
    print(f"mailgateway: running, {status['active']} messages active")
    for name, one in status["transports"].items():
        print(f"  {name}: {one['delivering']} deliveries, {one['waiting']} recipients waiting")
    return 0
