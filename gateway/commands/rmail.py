"""rmail: mail that comes in by UUCP; `rmail user…`, the message on standard input, run by uuxqt.

The sender is told by the lines on top (gateway.uucp.way), the neighbour by $UU_MACHINE.  A message that is packed
(gateway.compression), as crmail's is, is unpacked.

A message that is too large goes back to its sender with a notice.

Exit status, whatever standard input is: 0 queued, 64 bad arguments, 65 no "From " line, a bad one, or broken packed
data, 77 this user may not hand in mail, and 75 for all trouble on this side and for a neighbour that has sent too much,
which makes uuxqt try again later (gateway.commands.from_uucp).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.commands.from_uucp import EX_USAGE, Intake, take
from gateway.content.submission import Submission
from gateway.uucp.way import addresses, sender_of, split_way

SUMMARY = "take mail from a UUCP neighbour (run by uuxqt; also as crmail)"

USAGE = "usage: rmail [-T] [-D domain] user ..."
BLOCK = 65536


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        recipients = _recipients(arguments)
    except ValueError as error:
        print(f"rmail: {error}".encode(errors="replace").decode(), file=sys.stderr)
        return EX_USAGE

    def work(intake: Intake) -> None:
        stream = intake.unpacked(sys.stdin.buffer)
        way, beginning = split_way(stream, intake.settings.number("hopcount_limit"))
        content = itertools.chain([beginning], iter(lambda: stream.read(BLOCK), b""))
        intake.add(Submission(sender_of(way, intake.machine), recipients), _with_line_feeds(content))

    return take("rmail", directory, work)


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


def _with_line_feeds(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """CRLF becomes LF, and the last line has an end."""
    held = last = b""
    for block in blocks:
        block = held + block
        held = b"\r" if block.endswith(b"\r") else b""
        block = block[: len(block) - len(held)].replace(b"\r\n", b"\n")
        last = block[-1:] or last
        yield block
    if held or last not in (b"", b"\n"):
        yield held + b"\n"
