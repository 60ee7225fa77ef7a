"""mailgateway explain ADDRESS…: what would happen to a mail, and why, without sending anything.

    mailgateway explain joe@example.com --from ann@elsewhere.example --client 192.0.2.7 --helo mx.elsewhere.example

``--json``: one JSON object a step; ``--all FILE``: addresses from a file (- for standard input), one a line;
``--service NAME``: which smtpd of master.cf the client meets.  Exit status 0, or 1 if a mail would be refused or wait.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from gateway.config.builtin import load_configuration

SUMMARY = "tell what would happen to a mail, and why"


def main(arguments: list[str], directory: Path | None) -> int:
    parser = argparse.ArgumentParser(prog="mailgateway explain", description=SUMMARY)
    parser.add_argument("-c", dest="directory", help="configuration directory")
    parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="recipient")
    parser.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="sender (default: none)")
    parser.add_argument("--client", default="", metavar="IP", help="an SMTP client (default: handed in here)")
    parser.add_argument("--client-name", default="", metavar="NAME", help="its host name (default: looked up)")
    parser.add_argument("--helo", default="client.example", metavar="NAME", help="what the client says it is")
    parser.add_argument("--service", default="", metavar="NAME", help="the smtpd service that the client meets")
    parser.add_argument("--all", dest="file", metavar="FILE", help="read addresses from a file, - for standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a step")
    chosen = parser.parse_args(arguments)
    if chosen.file:
        with sys.stdin if chosen.file == "-" else open(chosen.file, encoding="utf-8") as lines:
            chosen.addresses += [line.strip() for line in lines if line.strip()]
    if not chosen.addresses:
        parser.error("no address given")
    configuration = load_configuration(Path(chosen.directory) if chosen.directory else directory)
    return _run(configuration, chosen)


def _run(configuration: Any, chosen: argparse.Namespace) -> int:
    from twisted.internet import reactor  # only here: loads the whole gateway
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from gateway.explain import Mail, explain

    status = 0

    async def work() -> None:
        nonlocal status
        for address in chosen.addresses:
            mail = Mail(address, chosen.sender, chosen.client, chosen.client_name, chosen.helo, chosen.service)
            steps, warnings = await explain(configuration, reactor, mail)
            _print(address, steps, warnings, chosen.json)
            if any(step.outcome.startswith("refused") or "would wait" in step.outcome for step in steps):
                status = 1

    try:
        react(lambda ignored: Deferred.fromCoroutine(work()), (), reactor)
    except SystemExit as ended:
        return int(ended.code or 0) or status
    return status


def _print(address: str, steps: list[Any], warnings: list[str], as_json: bool) -> None:
    if as_json:
        for step in steps:
            print(json.dumps({"address": address, **dataclasses.asdict(step)}))
        return
    print(f"{address}:")
    part = ""
    for step in steps:
        if step.part != part:
            part = step.part
            print(f"  {part}")
        print(f"    {step.what}: {step.outcome}")
        for reason in step.because:
            print(f"      by {reason}")
    for warning in warnings:
        print(f"  {warning}")
