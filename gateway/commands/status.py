"""mailgateway status: whether the gateway runs, and what it is doing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    for line in told(status):
        print(line)
    return 0


def told(status: dict[str, Any]) -> Iterator[str]:
    """What there is to say, in lines: what is going on, and whatever is at its limit."""
    yield f"mailgateway: running, {status['active']} messages active"
    for name, one in status["transports"].items():
        full = f" (as many as may be: {one['most']})" if 0 < one["most"] <= one["delivering"] else ""
        yield f"  {name}: {one['delivering']} deliveries{full}, {one['waiting']} recipients waiting"
    for name, peers in status["jobs"].items():
        for peer, one in peers.items():
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["since"]))
            state = f" ({one['state']})" if one["state"] else ""
            yield f"  {name}: {one['messages']} messages, {one['bytes']} bytes, wait for {peer} since {since}{state}"
    for one in status["receivers"]:
        yield (
            f"  receiver {one['pid']}: {one['clients']} of {one['most_clients']} clients, {one['messages']} of "
            f"{one['most_messages']} messages coming in; {one['accepted']} served, {one['refused']} turned away"
        )
    yield from map("  overload: {}".format, overload(status))


def overload(status: dict[str, Any]) -> Iterator[str]:
    if status["trouble"]:
        yield f"no deliveries: {status['trouble']}"
    if status["crowded"]:
        yield f"the queue has {status['active_limit']} active messages, as many as may be: new mail has to wait"
    free, least = status["free_bytes"], status["least_free"]
    if free is not None and free < max(least, 1):
        yield f"{free} bytes free for the queue, {least:.0f} must be: mail is refused with 452"
    for one in status["receivers"]:
        if 0 < one["most_clients"] <= one["clients"]:
            yield f"receiver {one['pid']} is full: clients are turned away with 421"
        if 0 < one["most_messages"] <= one["messages"]:
            yield f"receiver {one['pid']} takes as many messages as it can: more are refused with 451"
        if one["pause"]:
            yield f"receiver {one['pid']} lets each new message wait {one['pause']:g} seconds (in_flow_delay)"
