"""fax-received: a fax that has come in becomes a mail; called from HylaFAX's etc/FaxDispatch, or as its bin/faxrcvd.

    mailgateway fax-received [-c DIR] --to ADDRESS … [--table TYPE:NAME] [--from ADDRESS]
                             FILE DEVICE COMMID [MESSAGE [CALLID …]]

The arguments behind the options are those that HylaFAX gives to bin/faxrcvd: the received TIFF, modem, number of the
call, what went wrong.  The mail has what is known of the call as text, and in the header field Fax-Call; the pages as
PDF, or as they are, if no PDF can be made of them.  --table says whose the fax is, by the first of these keys that it
has; its value is a list of addresses:

    sub:SUBADDRESS, called:NUMBER (each CALLID, and each that the file has), device:DEVICE, from:SENDER

Else it goes to the addresses of --to.  Mail that cannot be delivered comes back to --from, by default FaxMaster.

Exit status 0: the mail is queued; 75: it is not, and the fax must be told of in another way; 64 for wrong arguments.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from pathlib import Path

from gateway.commands.sendmail import Fatal, addresses, sender_address, submit
from gateway.config import Settings
from gateway.config.builtin import load_configuration
from gateway.content.submission import Submission
from transports.fax.received import BadFax, Missing, Received, read

SUMMARY = "make a mail of a fax that has come in (called by HylaFAX)"
EX_USAGE, EX_TEMPFAIL = 64, 75
FAX_MASTER = "FaxMaster"
LARGEST = 200_000_000

_UNSAFE = re.compile(r"[^ -~]")
_POLICY = SMTP.clone(linesep="\n")


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        asked = _parser(directory).parse_args(arguments)
    except SystemExit as end:
        return EX_USAGE if end.code else 0
    try:
        _take(asked)
        return 0
    except (Fatal, OSError, ValueError) as error:
        print(f"fax-received: fatal: {error}", file=sys.stderr)
        return EX_TEMPFAIL


def _parser(directory: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailgateway fax-received", description=SUMMARY)
    parser.add_argument("-c", dest="directory", type=Path, default=directory, metavar="DIR", help="with main.cf")
    parser.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="who gets what is nobody's")
    parser.add_argument("--table", default="", metavar="TYPE:NAME", help="whose faxes are whose")
    parser.add_argument("--from", dest="sender", default=FAX_MASTER, metavar="ADDRESS", help="who hears of failure")
    parser.add_argument("file", type=Path)
    parser.add_argument("device")
    parser.add_argument("call", metavar="COMMID")
    parser.add_argument("message", nargs="?", default="")
    parser.add_argument("callids", nargs="*", metavar="CALLID")
    return parser


def _take(asked: argparse.Namespace) -> None:
    settings = load_configuration(asked.directory).settings
    known: Received | None = None
    trouble = ""
    try:
        known = read(asked.file)
    except (BadFax, Missing) as error:
        trouble = str(error)
    if asked.file.stat().st_size > LARGEST:
        raise ValueError(f"{asked.file} is larger than {LARGEST} bytes")
    recipients = _whose(asked, known, settings) if asked.table else []
    recipients = recipients or [one for text in asked.to for one in addresses(text)]
    envelope = Submission(sender_address(asked.sender), recipients, full_name="HylaFAX")
    mail = _mail(asked, known, trouble, recipients, settings)
    submit(settings, envelope, iter([mail.as_bytes(policy=_POLICY)]))


def _mail(
    asked: argparse.Namespace, known: Received | None, trouble: str, recipients: list[str], settings: Settings
) -> EmailMessage:
    host = settings.text("myhostname") or socket.gethostname()
    facts = list(_facts(asked, known))
    whose = dict(facts).get("from", "") or "an unknown sender"
    pages = "" if known is None else f", {known.pages} page{'s' * (known.pages != 1)}"
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = f"Fax <{sender_address(asked.sender) if '@' in asked.sender else f'{asked.sender}@{host}'}>"
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = f"Fax from {whose}{pages}"
    mail["Date"] = formatdate(localtime=True)
    mail["Auto-Submitted"] = "auto-generated"
    mail["Fax-Call"] = "; ".join(f"{name}={value.replace(';', ',')}" for name, value in facts)
    text = "".join(f"{name.capitalize() + ':':<14}{value}\n" for name, value in facts)
    if trouble:
        text += f"\nThe pages are attached as they came, since no PDF could be made of them: {trouble}\n"
    mail.set_content(text)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", asked.file.stem)[:60] or "fax"
    if known is None:
        mail.add_attachment(asked.file.read_bytes(), "image", "tiff", filename=f"{name}.tif")
    else:
        mail.add_attachment(known.pdf, "application", "pdf", filename=f"{name}.pdf")
    return mail


def _facts(asked: argparse.Namespace, known: Received | None) -> Iterator[tuple[str, str]]:
    """What is known of the call, in the order in which people want it."""
    calls = [*asked.callids, *(known.calls if known else ())]
    number = next((_line(call) for call in calls if re.fullmatch(r"\+?[0-9][0-9 ./-]{2,}", call.strip())), "")
    station = known.sender if known else ""
    found = {
        "from": station or number,
        "caller": number if number != station else "",
        "pages": str(known.pages) if known else "",
        "received": known.date if known else "",
        "seconds": str(known.seconds) if known and known.seconds else "",
        "quality": known.quality if known else "",
        "sub-address": known.subaddress if known else "",
        "device": asked.device,
        "call": asked.call,
        "error": asked.message,
        "file": asked.file.name,
    }
    for name, value in found.items():
        if value := _line(value):
            yield name, value


def _line(text: str) -> str:
    return _UNSAFE.sub("?", text.strip())[:200]


def _whose(asked: argparse.Namespace, known: Received | None, settings: Settings) -> list[str]:
    """What the table says; [] = nothing, or it cannot be asked: nobody's fax is lost for that."""
    from gateway.commands import postmap, table_changes  # only here: loads Twisted
    from gateway.interfaces import TableError
    from gateway.tables.registry import Tables

    keys = [f"sub:{known.subaddress}"] if known and known.subaddress else []
    calls = [*asked.callids, *(known.calls if known else ())]
    keys += [f"called:{_line(call)}" for call in dict.fromkeys(calls) if call.strip()]
    keys += [f"device:{_line(asked.device)}"] + ([f"from:{known.sender}"] if known and known.sender else [])
    tables = Tables(clock=postmap.SystemClock(), log=postmap.StandardErrorLog("fax-received"))
    table = tables.open(settings.expand(asked.table), settings)
    for key in keys:
        try:
            value = postmap.at_once(table.lookup(key.lower() if table.folds_case else key))
        except (TableError, table_changes.Fatal) as error:
            print(f"fax-received: warning: {error}", file=sys.stderr)
            return []
        if value:
            return [address for one in value.split(",") for address in addresses(one.strip())]
    return []
