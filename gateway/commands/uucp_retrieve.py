"""uucp-retrieve: an attachment that did not fit a UUCP link.

    mailgateway uucp-retrieve TOKEN > FILE

writes the attachment for which a note with that token was sent to the neighbour (attachments= of the uucp service).
For root and the mail owner; the messages are kept below queue_directory, in uucp/kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gateway.config.builtin import load_configuration
from transports.uucp.attachments import part

SUMMARY = "write out an attachment that did not fit a UUCP link"

EX_USAGE, EX_UNAVAILABLE, EX_NOPERM = 64, 69, 77

_TOKEN = re.compile(r"([A-Za-z0-9]{1,100})\.([0-9]{1,6})\Z")


def main(arguments: list[str], directory: Path | None) -> int:
    match = _TOKEN.match(arguments[0]) if len(arguments) == 1 else None
    if match is None:
        print("usage: mailgateway uucp-retrieve [-c DIR] TOKEN > FILE", file=sys.stderr)
        return EX_USAGE
    queue = Path(load_configuration(directory).settings.text("queue_directory"))
    try:
        with open(queue / "uucp" / "kept" / match[1], "rb") as file:
            found = part(file, int(match[2]))
    except FileNotFoundError:
        found = None
    except PermissionError as error:
        print(f"uucp-retrieve: fatal: {error}", file=sys.stderr)
        return EX_NOPERM
    if found is None:
        print(f"uucp-retrieve: fatal: nothing is kept under {match[0]}", file=sys.stderr)
        return EX_UNAVAILABLE
    sys.stdout.buffer.write(found)
    sys.stdout.buffer.flush()
    return 0
