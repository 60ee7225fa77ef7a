"""uucp-retrieve: an attachment that did not fit a UUCP link.

    mailgateway uucp-retrieve TOKEN > FILE

writes the attachment for which a note with that token was sent to the neighbour (attachments= of the uucp service).
For root and the mail owner; the messages are kept below queue_directory, in uucp/kept.  Who got the note can ask for it
by mail: transports.uucp.retrieval.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.config.builtin import load_configuration
from transports.uucp.attachments import payload
from transports.uucp.shelf import TOKEN, find

SUMMARY = "write out an attachment that did not fit a UUCP link"

EX_USAGE, EX_UNAVAILABLE, EX_NOPERM = 64, 69, 77


def main(arguments: list[str], directory: Path | None) -> int:
    if len(arguments) != 1 or not TOKEN.match(arguments[0]):
        print("usage: mailgateway uucp-retrieve [-c DIR] TOKEN > FILE", file=sys.stderr)
        return EX_USAGE
    queue = Path(load_configuration(directory).settings.text("queue_directory"))
    try:
        found = find(queue / "uucp", arguments[0])
    except PermissionError as error:
        print(f"uucp-retrieve: fatal: {error}", file=sys.stderr)
        return EX_NOPERM
    if found is None:
        print(f"uucp-retrieve: fatal: nothing is kept under {arguments[0]}", file=sys.stderr)
        return EX_UNAVAILABLE
    sys.stdout.buffer.write(payload(found[1]))
    sys.stdout.buffer.flush()
    return 0
