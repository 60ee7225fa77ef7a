"""mailgateway check [-v] [-j]: everything that is wrong with a configuration, each with its place and its cure.

One line a finding on standard output, "error: FILE, line N: what: how to mend" (or "warning:", and with -v "note:"
for what is accepted without effect); with -j one JSON object a line.  Exit status 1 if there is an error, else 0.
"""

from __future__ import annotations

import getopt
import json
import sys
from pathlib import Path

from gateway.config import ConfigError, Configuration, Finding, read
from gateway.config.builtin import builtin
from gateway.config.findings import ERROR, NOTE

SUMMARY = "report everything that is wrong with the configuration"

_USAGE = "usage: mailgateway check [-c DIR] [-v] [-j]"


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        options, rest = getopt.gnu_getopt(arguments, "c:vj")
    except getopt.GetoptError as problem:
        print(f"check: {problem}\n{_USAGE}", file=sys.stderr)
        return 64
    if rest:
        print(f"check: unexpected argument: {rest[0]}\n{_USAGE}", file=sys.stderr)
        return 64
    chosen = dict(options)
    if "-c" in chosen:
        directory = Path(chosen["-c"])
    try:
        configuration = builtin() if directory is None else read(directory.absolute())
        findings = _findings(configuration)
    except ConfigError as error:
        findings = [error.finding]
    for finding in findings:
        if finding.severity != NOTE or "-v" in chosen:
            _emit(finding, "-j" in chosen)
    return int(any(finding.severity == ERROR for finding in findings))


def _findings(configuration: Configuration) -> list[Finding]:
    from twisted.internet import reactor  # only here: loads the whole gateway

    from gateway.rehearsal import findings

    return findings(configuration, reactor)


def _emit(finding: Finding, as_json: bool) -> None:
    if as_json:
        fields = ("severity", "file", "line", "what", "mend")
        text = json.dumps({field: getattr(finding, field) for field in fields})
    else:
        text = f"{finding.severity}: {finding}"
    sys.stdout.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") + "\n")
