"""mailgateway explain ADDRESS…: what would happen to a mail, and why, without sending anything.

    mailgateway explain joe@example.com --from ann@elsewhere.example --client 192.0.2.7 --helo mx.elsewhere.example

``--json``: one JSON object a step; ``--all FILE``: addresses from a file (- for standard input), one a line;
``--service NAME``: which smtpd of master.cf the client meets; ``--login NAME``: as whom it has logged in.  Exit status
0, or 1 if a mail would be refused, returned, or wait.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.builtin import load_configuration
from gateway.log import printable

SUMMARY = "tell what would happen to a mail, and why"


def main(arguments: list[str], directory: Path | None) -> int:
    parser = argparse.ArgumentParser(prog="mailgateway explain", description=SUMMARY)
    parser.add_argument("-c", dest="directory", help="configuration directory")
    parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="recipient")
    parser.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="sender (default: none)")
    parser.add_argument("--client", default="", metavar="IP", help="an SMTP client (default: handed in here)")
    parser.add_argument("--client-name", default="", metavar="NAME", help="its host name (default: looked up)")
    parser.add_argument("--helo", default="client.example", metavar="NAME", help="what the client says it is")
    parser.add_argument("--login", default="", metavar="NAME", help="as whom the client has logged in")
    parser.add_argument("--service", default="", metavar="NAME", help="the smtpd service that the client meets")
    parser.add_argument("--all", dest="file", metavar="FILE", help="read addresses from a file, - for standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a step")
    chosen = parser.parse_args(arguments)
    if not chosen.addresses and not chosen.file:
        parser.error("no address given")
    if chosen.sender == "<>":
        chosen.sender = ""
    try:
        chosen.client = str(ipaddress.ip_address(chosen.client)) if chosen.client else ""
    except ValueError:
        parser.error(f"--client: {chosen.client} is not an IP address")
    return _run(load_configuration(Path(chosen.directory) if chosen.directory else directory), chosen)


def _addresses(chosen: argparse.Namespace) -> Iterator[str]:
    yield from chosen.addresses
    if chosen.file:
        with sys.stdin if chosen.file == "-" else Path(chosen.file).open(errors="surrogateescape") as lines:
            for line in lines:
                if address := line.strip():
                    yield address


def _run(configuration: Any, chosen: argparse.Namespace) -> int:
    from twisted.internet import reactor  # only here: loads the whole gateway
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from gateway.explain import Explainer, Mail

    status = 0
    trouble: Exception | None = None

    async def work() -> None:
        nonlocal trouble
        explainer = Explainer(configuration, reactor)
        try:
            await each(explainer)
        except Exception as error:  # as it is, past the reactor
            trouble = error
        finally:
            explainer.close()

    async def each(explainer: Explainer) -> None:
        nonlocal status
        for address in _addresses(chosen):
            mail = Mail(
                address, chosen.sender, chosen.client, chosen.client_name, chosen.helo, chosen.service, chosen.login
            )
            steps, warnings = await explainer.explain(mail)
            _print(address, steps, warnings, chosen.json)
            if not all(step.good for step in steps):
                status = 1

    try:
        react(lambda ignored: Deferred.fromCoroutine(work()), (), reactor)
    except SystemExit as ended:
        if trouble is not None:
            raise trouble from None
        return int(ended.code or 0) or status
    return status


def _print(address: str, steps: list[Any], warnings: list[str], as_json: bool) -> None:
    if as_json:
        for step in steps:
            print(json.dumps({"address": address, **dataclasses.asdict(step)}))
        for warning in warnings:
            print(json.dumps({"address": address, "part": "warning", "what": "", "outcome": warning, "good": True}))
        return
    print(f"{printable(address)}:")
    part = ""
    for step in steps:
        if step.part != part:
            part = step.part
            print(f"  {part}")
        print(f"    {printable(step.what)}: {printable(step.outcome)}")
        for reason in step.because:
            print(f"      by {printable(str(reason))}")
    for warning in warnings:
        print(f"  {printable(warning)}")
