"""uucp-paths: a transport table of a table of paths (pathalias).

    mailgateway uucp-paths [--service uucp] < paths > /etc/mailgateway/paths

What cannot be used is told on standard error.  Exit status: 0, or 65 if nothing could be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.uucp.paths import entries

SUMMARY = "make a transport table of UUCP's table of paths"

EX_USAGE, EX_DATAERR = 64, 65


def main(arguments: list[str], directory: Path | None) -> int:
    parser = argparse.ArgumentParser(prog="mailgateway uucp-paths", description=SUMMARY)
    parser.add_argument("--service", default="uucp", help="the service of master.cf (uucp)")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:
        return EX_USAGE if end.code else 0

    def note(text: str) -> None:
        print(f"uucp-paths: warning: {text}", file=sys.stderr)

    count = 0
    for pattern, hop in entries(sys.stdin, note):
        print(f"{pattern}\t{given.service}:{hop}")
        count += 1
    return 0 if count else EX_DATAERR
