"""mailq: the list of the queue, as `sendmail -bp` and `postqueue -p` print it."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.commands import postqueue

SUMMARY = "list the queue"

EX_TEMPFAIL = 75


def main(arguments: list[str], directory: Path | None) -> int:
    if any(not argument.startswith("-") for argument in arguments):
        print("mailq: fatal: display queue mode requires no recipient", file=sys.stderr)
        return EX_TEMPFAIL
    return postqueue.main(["-p"], directory)
