"""sendmail: hand in a message, and what else programs expect of that name; sendmail(1).

Needs no set-uid bit, and refuses to run with one: the message goes as a file into the maildrop folder
(gateway.content.submission), safe when this ends with 0, whether the gateway runs or not.  All else that sendmail is
asked for (-bp, -bi, -q …) is done by the command for it.

Exit status: 0 queued; 78 configuration; 75 for everything else, as Postfix's: the text on standard error says what.
Loads nothing of Twisted, so that it starts fast.
"""

from __future__ import annotations

import itertools
import os
import pwd
import re
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gateway.addresses import tokens
from gateway.addresses.verp import Delimiters
from gateway.commands.sendmail_options import Options, UsageError, parse
from gateway.config import Settings
from gateway.config.builtin import load_configuration
from gateway.content import submission
from gateway.content.header_scan import Field, end_of_mailbox_lines, scan
from gateway.content.submission import Submission

SUMMARY = "hand in a message (and -bp, -bi, -bs, -q …), as other programs expect it"

EX_TEMPFAIL, EX_NOPERM = 75, 77

BLOCK = 65536
LONGEST_HEADER = 16 * 1024 * 1024
_DOT = re.compile(rb"^\.\n", re.MULTILINE)


class Fatal(Exception):
    """Ends the command with one line.  ``status``: for commands that have more than one for their failures."""

    def __init__(self, text: str, status: int = EX_TEMPFAIL) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
            raise Fatal("refusing to run with set-uid or set-gid rights: they are not needed")
        options = parse(arguments)
        for warning in options.warnings:
            print(f"sendmail: warning: {warning}", file=sys.stderr)
        return _run(options, options.directory or directory)
    except (Fatal, UsageError) as error:
        print(f"sendmail: fatal: {error}", file=sys.stderr)
        return EX_TEMPFAIL
    except OSError as error:
        print(f"sendmail: fatal: cannot queue the message: {error}", file=sys.stderr)
        return EX_TEMPFAIL


_WITHOUT_RECIPIENTS = {
    "smtp": "stand-alone mode", "queue": "display queue mode", "flush": "flush queue mode",
    "aliases": "alias initialization mode", "daemon": "daemon mode",
}


def _run(options: Options, directory: Path | None) -> int:
    if options.recipients and options.mode in _WITHOUT_RECIPIENTS:
        raise Fatal(f"{_WITHOUT_RECIPIENTS[options.mode]} requires no recipient")
    if options.mode == "nothing":
        return 0
    if options.mode == "mail":
        return _submit(options, directory)
    if options.mode == "smtp":
        settings = load_configuration(directory).settings
        refuse_unauthorized(settings, None)
        from gateway.commands.sendmail_smtp import serve  # only here: loads Twisted

        return serve(settings)
    from gateway.commands.main import run

    if options.mode == "aliases":
        name = "postalias" if options.alias_files else "newaliases"
        return run(name, options.alias_files, directory)
    if options.mode == "daemon":
        return run("start", [], directory)
    return run("postqueue", options.flush or ["-p"], directory)


def _submit(options: Options, directory: Path | None) -> int:
    if options.trace == "verify" and options.from_header:
        raise Fatal("-t option cannot be used with -bv")
    if not options.recipients and not options.from_header:
        raise Fatal("Recipient addresses must be specified on the command line or via the -t option")
    settings = load_configuration(directory).settings
    sender = sender_address(options.sender) if options.sender is not None else login_name()
    if options.sender is not None and len(addresses(options.sender)) > 1:
        print(f"sendmail: warning: -f option specified malformed sender: {_one_line(options.sender)}", file=sys.stderr)
    envelope = Submission(
        sender=sender,
        recipients=[one for text in options.recipients for one in addresses(text) or [""]],
        full_name=_one_line(options.full_name) if options.full_name is not None else own_name(),
        notify=options.notify,
        ret=options.ret,
        envid=options.envid,
        encoding=options.encoding,
        verp=verp_delimiters(options.verp, sender, settings),
        trace=options.trace,
        remote=options.gateway,
    )
    if options.trace == "verify":
        content: Iterator[bytes] = iter([_probe(envelope)])
    else:
        content = read_content(
            sys.stdin.buffer, dot_ends=not options.ignore_dots, line_ends=settings.text("sendmail_fix_line_endings")
        )
    submit(settings, envelope, content, from_header=options.from_header)
    if options.trace:
        print(f"Mail Delivery Status Report will be mailed to <{envelope.sender}>.")
    return 0


def submit(settings: Settings, envelope: Submission, content: Iterator[bytes], *, from_header: bool = False) -> None:
    """Queue a message.  ``from_header``: the recipients that stand in the header are added.  Raises Fatal, OSError."""
    fields, start = _header(content)
    if from_header:
        envelope.recipients += header_recipients(fields)
        if not envelope.recipients:
            raise Fatal("No recipient addresses found in message header")
    if not envelope.recipients:
        raise Fatal("no recipient address")
    try:
        submission.validate(envelope)
    except submission.SubmissionError as error:
        raise Fatal(str(error)) from None
    refuse_unauthorized(settings, envelope.sender)
    queue = Path(settings.text("queue_directory"))
    if not (queue / submission.MAILDROP).is_dir():
        submission.prepare(queue)  # nobody has started the gateway here yet
    submission.drop(queue, envelope, _limited(itertools.chain([start], content), settings.number("message_size_limit")))
    submission.poke(queue)


def refuse_unauthorized(settings: Settings, sender: str | None) -> None:
    """Tell users at once who may not submit mail (authorized_submit_users) or not from that sender
    (local_login_sender_maps; None: it is not known yet); the gateway itself asks again, for sure."""
    if settings.text("authorized_submit_users") == "static:anyone" \
            and settings.text("local_login_sender_maps") == "static:*":
        return
    # Only here: most sites let everybody.
    from gateway.addresses.login_senders import LoginSenders
    from gateway.interfaces import TableError
    from gateway.log import MailLog
    from gateway.tables.registry import Tables

    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    tables = Tables(clock=_Clock(), log=MailLog("", lambda data: None))
    try:
        allowed = tables.string_list("authorized_submit_users", settings).match_now(name or "unknown")
        senders = LoginSenders.of(settings, tables, "sendmail") if sender is not None else None
        named = senders is None or sender is None or _at_once(senders.allow(name or f"uid:{uid}", sender))
    except TableError:
        return
    if allowed is False:
        raise Fatal(f"User {name or 'unknown'}({uid}) is not allowed to submit mail", EX_NOPERM)
    if not named:
        raise Fatal(f"{name or 'unknown'}({uid}): not authorized to use sender='{sender}'")


def _at_once(question: Coroutine[Any, Any, bool]) -> bool:
    """The answer, or True where it takes a network."""
    try:
        question.send(None)
    except StopIteration as answer:
        return bool(answer.value)
    question.close()
    return True


class _Clock:
    def seconds(self) -> float:
        return time.monotonic()


# --- addresses -------------------------------------------------------------------------------------------------------


def addresses(text: str) -> list[str]:
    """The addresses of a list, in external form."""
    return [node.external() for node in tokens.parse(text) if isinstance(node, tokens.Address)]


def header_recipients(fields: Iterable[Field]) -> list[str]:
    """Whom the header names: To, Cc, Bcc; if it has any Resent- recipient, only those (RFC 5322 3.6.6)."""
    found: dict[bytes, list[str]] = {b"": [], b"resent-": []}
    resent = False
    for field in fields:
        prefix = b"resent-" if field.name.startswith(b"resent-") else b""
        resent = resent or bool(prefix)
        if field.name.removeprefix(prefix) in (b"to", b"cc", b"bcc"):
            found[prefix] += addresses(field.value.decode("utf-8", "surrogateescape"))
    return found[b"resent-" if resent else b""]


def sender_address(text: str) -> str:
    """The address of -f, in external form; "" for an empty one, the first of several."""
    return (addresses(text) or [""])[0]


def verp_delimiters(wanted: str | None, sender: str, settings: Settings) -> str:
    """What -XV asks for; "" if it is not there."""
    if wanted is None:
        return ""
    delimiters = Delimiters.of(settings)
    wanted = wanted or delimiters.default
    if not delimiters.acceptable(wanted):
        raise Fatal(f"-XV requires {delimiters.wanted}")
    if not sender:
        raise Fatal("-XV option requires non-null sender address")
    return wanted


def login_name() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise Fatal(f"no login name found for user ID {uid}: say with -f whom the message is from") from None


def own_name() -> str:
    """The user's full name: $NAME, or the first part of the account's comment, in which "&" is the login name."""
    name = os.environ.get("NAME")
    if name:
        return _one_line(name)
    try:
        account = pwd.getpwuid(os.getuid())
    except KeyError:
        return ""
    login = account.pw_name
    return _one_line(re.split("[,;%]", account.pw_gecos)[0].replace("&", login[:1].upper() + login[1:]))


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()


# --- content ---------------------------------------------------------------------------------------------------------


def read_content(stream: BinaryIO, *, dot_ends: bool, line_ends: str = "always") -> Iterator[bytes]:
    """A message from a stream, in blocks of whole lines with LF.

    ``dot_ends``: a line that is only a dot ends it.  ``line_ends``: sendmail_fix_line_endings (CRLF becomes LF always,
    never, or "strict": only if the first line has one).  "From " lines of a mailbox at the beginning are left out.
    """
    carry: list[bytes] = []
    first = mailbox = True
    while True:
        block = stream.read1(BLOCK)  # type: ignore[attr-defined]
        cut = block.rfind(b"\n") + 1
        if block and not cut:  # within a line, however long it is
            carry.append(block)
            continue
        data = b"".join([*carry, block[:cut]])
        carry = [block[cut:]]
        if not data:
            return
        if not block:
            data += b"\n"
        if first and line_ends == "strict":
            line_ends = "always" if data.partition(b"\n")[0].endswith(b"\r") else "never"
        first = False
        if line_ends == "always":
            data = data.replace(b"\r\n", b"\n")
        if mailbox:
            skipped = end_of_mailbox_lines(data)
            mailbox = skipped == len(data)
            data = data[skipped:]
        dot = _DOT.search(data) if dot_ends else None
        yield data[: dot.start()] if dot else data
        if dot:
            return


def _header(content: Iterator[bytes]) -> tuple[list[Field], bytes]:
    """The header fields, and the bytes that had to be read for them."""
    data = b""
    while len(data) < LONGEST_HEADER:
        block = next(content, None)
        data += block or b""
        found = scan(data, complete=block is None)
        if found is not None:
            return found[0], data
    raise Fatal("the message header is too long")


def _limited(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit > 0:
            raise Fatal("message file too big")
        yield block


def _probe(envelope: Submission) -> bytes:
    """The message that stands for the one to be verified."""
    lines = f"From: {envelope.sender}\nSubject: probe\n"
    if envelope.recipients:
        lines += f"To: {', '.join(envelope.recipients)}\n"
    return lines.encode("utf-8", "surrogateescape") + b"\n"
