"""postqueue: list and flush the queue; postqueue(1).

    postqueue -p         list, as mailq does
    postqueue -j         list, one JSON object a line
    postqueue -f         try everything now
    postqueue -i ID      try that message now
    postqueue -s SITE    try what is queued for that site now (fast_flush_domains)

Asks the running gateway.  Without one the list is made from the spool for root and the mail owner.  Exit status 69 with
one line on standard error for everything that cannot be done.
"""

from __future__ import annotations

import getopt
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.commands.queue_access import DirectQueue, Down, Fatal, RunningQueue, Voice, owns_spool
from gateway.config import Settings
from gateway.config.builtin import load_configuration
from gateway.control import Control, Refused
from spool.ids import valid

SUMMARY = "list and flush the queue"

EX_UNAVAILABLE = 69

_USAGE = "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"
_DOWN = "Cannot flush mail queue - mail system is down"

_ENTRY = "%-20s %8s %-19s %s"
"""As Postfix lists long queue IDs, three columns wider."""
_REASON_WIDTH = 76


def main(arguments: list[str], directory: Path | None) -> int:
    voice = Voice("postqueue")
    try:
        mode, value, directory = _parse(arguments, directory, voice)
        settings = load_configuration(directory).settings
        voice = Voice("postqueue", settings)
        if mode in ("-p", "-j"):
            show(settings, voice, as_json=mode == "-j")
        else:
            _flush(settings, mode, value)
        return 0
    except Fatal as error:
        voice.fatal(str(error))
        return error.status


def _parse(arguments: list[str], directory: Path | None, voice: Voice) -> tuple[str, str, Path | None]:
    try:
        options, operands = getopt.getopt(arguments, "c:fi:jps:v")
    except getopt.GetoptError as error:
        if error.msg.endswith("not recognized"):
            print(f"postqueue: invalid option -- '{error.opt}'", file=sys.stderr)
        else:
            print(f"postqueue: option requires an argument -- '{error.opt}'", file=sys.stderr)
        raise Fatal(_USAGE, EX_UNAVAILABLE) from None
    directory = next((Path(value) for option, value in options if option == "-c"), directory)
    modes = [(option, value) for option, value in options if option not in ("-c", "-v")]
    if len(modes) != 1 or operands:
        raise Fatal(_USAGE, EX_UNAVAILABLE)
    return (*modes[0], directory)


# --- listing ------------------------------------------------------------------------------------------------------


def show(settings: Settings, voice: Voice, *, as_json: bool = False) -> None:
    """Print the queue.  Raises Fatal."""
    queue: RunningQueue | DirectQueue
    try:
        with Control(settings.text("queue_directory")) as control:
            queue = RunningQueue(control)
            _print(queue.listing(), as_json)
        return
    except Refused as error:
        raise Fatal(str(error), EX_UNAVAILABLE) from None
    except Down as error:
        reason = f"Connect to the gateway's control service: {error}"
    except PermissionError as error:
        raise Fatal(f"Connect to the gateway's control service: {error.strerror}", EX_UNAVAILABLE) from None
    if not owns_spool(settings):
        raise Fatal(f"Queue report unavailable - mail system is down ({reason})", EX_UNAVAILABLE)
    voice.warning(f"Mail system is down -- accessing queue directly ({reason})")
    _print(DirectQueue(settings, voice).listing(), as_json)


def _print(listing: Iterable[dict[str, Any]], as_json: bool) -> None:
    out = sys.stdout
    if as_json:
        for one in listing:
            out.write(_clean(json.dumps(one, ensure_ascii=False)) + "\n")
        return
    count = size = 0
    for one in listing:
        if not count:
            out.write("-----Queue ID------- --Size-- ---Arrival Time---- --Sender/Recipient------\n")
        count += 1
        size += one["message_size"]
        out.write(_clean("\n".join(_entry(one))) + "\n\n")
    if count:
        out.write(f"-- {size // 1024} Kbytes in {count} Request{'' if count == 1 else 's'}.\n")
    else:
        out.write("Mail queue is empty\n")


def _entry(one: dict[str, Any]) -> list[str]:
    """The lines for a message.  A reason stands above the recipients that it concerns."""
    mark = {"active": "*", "hold": "!"}.get(one["queue_name"], "") + ("#" if one["forced_expire"] else "")
    arrival = time.asctime(time.localtime(one["arrival_time"]))[:19]
    lines = [_ENTRY % (one["queue_id"] + mark, one["message_size"], arrival, one["sender"])]
    last = ""
    for recipient in one["recipients"]:
        reason = recipient.get("delay_reason", "")
        if reason != last:
            if reason:
                lines.append(f"{' ' * max(_REASON_WIDTH - len(reason), 0)}({reason})")
            last = reason
        lines.append(_ENTRY % ("", "", "", recipient["address"]))
    return lines


def _clean(text: str) -> str:
    """Bytes that are no UTF-8 (surrogate escapes) as "?"; a terminal gets no control characters either."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


# --- flushing -------------------------------------------------------------------------------------------------------


def _flush(settings: Settings, mode: str, value: str) -> None:
    if mode == "-i" and not valid(value):
        raise Fatal(f'Cannot flush queue ID - invalid name: "{value}"', EX_UNAVAILABLE)
    if mode == "-s" and not _valid_site(value):
        raise Fatal(f'Cannot flush mail queue - invalid destination: "{value}"', EX_UNAVAILABLE)
    try:
        with Control(settings.text("queue_directory")) as control:
            if mode == "-f":
                control.call("flush")
            elif mode == "-i":
                control.call("flush-id", id=value)
            else:
                control.call("flush-site", site=value)
    except Refused as error:
        raise Fatal(str(error), EX_UNAVAILABLE) from None
    except (Down, PermissionError):
        raise Fatal(_DOWN, EX_UNAVAILABLE) from None


def _valid_site(site: str) -> bool:
    """A host name, or an address in brackets (RFC 5321 4.1.3)."""
    if site.startswith("[") and site.endswith("]"):
        return len(site) > 2 and all(one.isalnum() or one in ".:" for one in site[1:-1])
    labels = site.split(".")
    return (
        len(site) < 256
        and all(
            label.replace("-", "a").replace("_", "a").isalnum() and label.isascii() and label[0] != "-"
            and label[-1] != "-" and len(label) < 64
            for label in labels
        )
        and not labels[-1].isdigit()
    )
