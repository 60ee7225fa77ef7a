"""Asks Postfix, in a folder and on a port of its own, and writes answers.json; needs root and Postfix 3.7.

    python -m tests.gateway.content.mails.record
"""

from __future__ import annotations

import re
import smtplib
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.gateway.addresses.odd.record import PORT, attributes, postfix, records, route
from tests.gateway.content.mails.questions import SITE, SITES, Answers, Mail, save

_QUEUED = re.compile(rb"queued as (\w+)")
_MADE = re.compile(rb"(?m)^((?:Resent-)?(?:Message-Id|Date): )(?:<\d{14}\.|[A-Z][a-z]{2}, ).*")
_TRACE = re.compile(rb"\AReceived: .*\n(?:[ \t].*\n)*")


def main() -> None:
    answers: Answers = {}
    with tempfile.TemporaryDirectory(prefix="mails-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        for name, (settings, mails) in SITES.items():
            with postfix(Path(folder) / "site", {**SITE, **settings}) as queue:
                answers[name] = [_ask(queue, mail) for mail in mails]
    save(answers)


def header(content: bytes) -> str:
    """A header without what differs each time."""
    head, blank, _ = (b"\n" + content).partition(b"\n\n")
    return _MADE.sub(rb"\1(made)", _TRACE.sub(b"", head[1:] + b"\n")).decode("latin-1")


def _ask(queue: Path, mail: Mail) -> dict[str, Any]:
    answer: dict[str, Any] = {"rcpt": []}
    with smtplib.SMTP("127.0.0.1", PORT, "pc.my.domain") as client:
        client.ehlo()
        answer["mail"] = _reply(client, f"MAIL FROM:<{mail.sender}")
        for recipient in mail.to:
            answer["rcpt"].append(_reply(client, f"RCPT TO:<{recipient}"))
        client.docmd("DATA")
        client.send(f"{mail.header}\nbody\n.\n".replace("\n", "\r\n").encode())
        code, text = client.getreply()
    found = _QUEUED.search(text)
    answer["data"] = f"{code} {text.decode('latin-1')}" if found is None else "queued"
    if found is not None:
        time.sleep(0.02)
        sender, recipients, content = records(queue / "hold" / found[1].decode())
        answer |= {"sender": sender, "recipients": recipients, "header": header(content)}
        with socket.socket(socket.AF_UNIX) as rewrite:
            rewrite.connect(str(queue / "private/rewrite"))
            attributes(rewrite)
            answer["routes"] = [route(rewrite, answer["sender"], one[0]) for one in recipients]
    return answer


def _reply(client: smtplib.SMTP, line: str) -> str:
    code, text = client.docmd(line)
    return f"{code} {text.decode('latin-1')}"


if __name__ == "__main__":
    main()
