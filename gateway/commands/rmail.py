"""rmail: mail that comes in by UUCP; `rmail user…`, the message on standard input, run by uuxqt.

The sender is told by the lines on top (gateway.uucp.way), the neighbour by $UU_MACHINE.  A message that is packed
(gateway.compression), as crmail's is, is unpacked.

A message that is too large goes back to its sender with a notice.

Exit status, whatever standard input is: 0 queued, 64 bad arguments, 65 no "From " line, a bad one, or broken packed
data, 77 this user may not hand in mail, and 75 for all trouble on this side, which makes uuxqt try again later.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.commands.sendmail import Fatal, read_content, submit
from gateway.compression import PackError, unpacked
from gateway.config.builtin import load_configuration
from gateway.content import submission
from gateway.content.submission import Submission
from gateway.uucp.giving_back import TOO_LARGE, remembered, turned_away
from gateway.uucp.way import BadInput, addresses, sender_of, site_name, split_way

SUMMARY = "take mail from a UUCP neighbour (run by uuxqt; also as crmail)"

EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL = 64, 65, 69, 75

USAGE = "usage: rmail [-T] [-D domain] user ..."


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        recipients = _recipients(arguments)
    except ValueError as error:
        print(f"rmail: {error}", file=sys.stderr)
        return EX_USAGE
    try:
        settings = load_configuration(directory).settings
        stream = unpacked(sys.stdin.buffer, settings.number("uucp_batch_size_limit"))
        content = read_content(stream, dot_ends=False, keep_mailbox_lines=True)
        neighbour = os.environ.get("UU_MACHINE", "")
        way, rest = split_way(content, settings.number("hopcount_limit"))
        said = Submission(sender_of(way, neighbour), recipients, remote=True, neighbour=site_name(neighbour))
        kept = bytearray()
        try:
            submit(settings, said, remembered(rest, kept))
        except Fatal as error:
            if error.status != EX_UNAVAILABLE:
                raise
            queue = Path(settings.text("queue_directory"))
            submission.drop(queue, turned_away(said, TOO_LARGE), [bytes(kept)])
            submission.poke(queue)
        return 0
    except (BadInput, PackError) as error:
        print(f"rmail: {error}", file=sys.stderr)
        return EX_DATAERR
    except Fatal as error:
        print(f"rmail: {error}", file=sys.stderr)
        return error.status
    except Exception as error:
        # Another status would put the mail aside for ever, where its sender does not hear of it.
        print(f"rmail: will be tried again: {type(error).__name__}: {error}", file=sys.stderr)
        return EX_TEMPFAIL


def _recipients(arguments: list[str]) -> list[str]:
    rest = list(arguments)
    while rest and rest[0] in ("-T", "-D"):
        if rest.pop(0) == "-D" and rest:
            rest.pop(0)
    if rest[:1] == ["--"]:
        rest.pop(0)
    for word in rest:
        if word.startswith("-"):
            raise ValueError(f"dash precedes argument: {word}")
    found = [address for word in rest for address in addresses(word)]
    if not found or any(address.startswith("-") for address in found):
        raise ValueError(USAGE)
    return found
