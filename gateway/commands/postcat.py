"""postcat: show queue files; postcat(1).

    postcat [-bdehnoqrv] [-s OFFSET] [FILE…]

Prints the envelope, the header and the body of message files, or of messages with -q ID…; of those that -e, -h, -b
name alone.  Reads the spool itself, so it is for root and the mail owner.  Behind each recipient that waits stands the
reason, as in the list of the queue.  -o shows where in the file the parts begin; -d, -n, -r and -s, which concern
Postfix's record format, are taken without effect.
"""

from __future__ import annotations

import getopt
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.commands.queue_access import Fatal
from gateway.config.builtin import load_configuration
from spool import format, journal
from spool.envelope import Envelope
from spool.ids import valid
from spool.interfaces import RecipientState, SpoolError
from spool.names import CORRUPT
from spool.store import QUEUES, Store

SUMMARY = "show queued messages"

_USAGE = (
    "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] "
    "[-h (header text)] [-q (access queue)] [-v] [file(s)...]"
)

_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")


@dataclass(slots=True)
class _Options:
    parts: str
    """Of "ehb"."""
    offsets: bool
    verbose: bool


def main(arguments: list[str], directory: Path | None) -> int:
    try:
        try:
            options, operands = getopt.gnu_getopt(arguments, "bc:dehnoqrs:v")
        except getopt.GetoptError as error:
            what = "invalid option" if error.msg.endswith("not recognized") else "option requires an argument"
            print(f"postcat: {what} -- '{error.opt}'", file=sys.stderr)
            raise Fatal(_USAGE, 1) from None
        directory = next((Path(value) for option, value in options if option == "-c"), directory)
        letters = {option[1] for option, _ in options}
        parts = "".join(letter for letter in "ehb" if letter in letters) or "ehb"
        shown = _Options(parts, "o" in letters, "v" in letters)
        if "q" in letters:
            _show_queued(operands, directory, shown)
        else:
            _show_files(operands, shown)
        sys.stdout.flush()
        return 0
    except Fatal as error:
        sys.stdout.flush()
        print(f"postcat: fatal: {error}", file=sys.stderr)
        return error.status


def _show_queued(ids: list[str], directory: Path | None, shown: _Options) -> None:
    for id in ids:
        if not valid(id):
            raise Fatal(f"bad mail queue ID: {id}", 1)
    store = Store(load_configuration(directory).settings.text("queue_directory"))
    for id in ids:
        try:
            place = store.find([id], (*QUEUES, CORRUPT)).get(id)
            if place is None:
                raise Fatal(f"open queue file {id}: No such file or directory", 1)
            records = _journal(store, id)
            with open(store.path(place), "rb") as file:
                _show(file, f"{place.folder}/{id}", records, shown)
        except OSError as error:
            raise Fatal(f"open queue file {id}: {error.strerror}", 1) from error


def _journal(store: Store, id: str) -> bytes:
    try:
        return Path(store.journal(id)).read_bytes()
    except FileNotFoundError:
        return b""


def _show_files(names: list[str], shown: _Options) -> None:
    if not names and not sys.stdin.isatty():
        _show(sys.stdin.buffer, "stdin", b"", shown)
    for name in names:
        try:
            with open(name, "rb") as file:
                _show(file, name, b"", shown)
        except OSError as error:
            raise Fatal(f"open {name}: {error.strerror}", 1) from error


def _show(file: BinaryIO, name: str, records: bytes, shown: _Options) -> None:
    head = file.read(format.HEAD)
    if not head:
        return
    try:
        offset, _ = format.measure(head)
        envelope = format.decode(head + file.read(offset - len(head)))
    except SpoolError:
        sys.stdout.flush()
        print(f"postcat: warning: {name}: input is not a valid queue file", file=sys.stderr)
        return
    out = sys.stdout.buffer
    sys.stdout.flush()
    if "e" in shown.parts:
        _put(out, shown, None, f"*** ENVELOPE RECORDS {name} ***")
        replayed = journal.replay(records, envelope)
        for line in _records(replayed.envelope, replayed.states, offset):
            _put(out, shown, 0, line)
        _put(out, shown, None, f"*** MESSAGE CONTENTS {name} ***")
    in_header, at = True, offset
    for raw in file:
        in_header = in_header and (raw[:1] in (b" ", b"\t") or _HEADER.match(raw) is not None)
        if ("h" if in_header else "b") in shown.parts:
            front = f"{at:9d} " if shown.offsets else ""
            out.write((front + ("regular_text: " if shown.verbose else "")).encode() + raw.rstrip(b"\n") + b"\n")
        at += len(raw)
    if "e" in shown.parts:
        _put(out, shown, None, f"*** HEADER EXTRACTED {name} ***")
        _put(out, shown, None, f"*** MESSAGE FILE END {name} ***")
    out.flush()


def _put(out: BinaryIO, shown: _Options, offset: int | None, line: str) -> None:
    front = f"{offset:9d} " if shown.offsets and offset is not None else ""
    out.write((front + line).replace("\n", "?").encode(errors="replace") + b"\n")


def _records(envelope: Envelope, states: list[RecipientState], offset: int) -> Iterator[str]:
    """The envelope in the words of Postfix's records."""
    size, count = envelope.size, len(envelope.recipients)
    yield f"message_size: {size:15d} {offset:15d} {count:15d} {0:15d} {size:15d} {0:15d}"
    when = time.asctime(time.localtime(envelope.arrival))
    yield f"message_arrival_time: {when}"
    yield f"create_time: {when}"
    for name, value in _attributes(envelope):
        if value:
            yield f"named_attribute: {name}={value}"
    if envelope.content_filter:
        yield f"content_filter: {envelope.content_filter}"
    if envelope.redirect:
        yield f"redirect_to: {envelope.redirect}"
    if envelope.full_name:
        yield f"sender_fullname: {envelope.full_name}"
    yield f"sender: {envelope.sender}"
    for recipient, state in zip(envelope.recipients, states, strict=True):
        if recipient.notify:
            yield f"named_attribute: notify_flags={recipient.notify}"
        if recipient.orcpt:
            yield f"named_attribute: dsn_orig_rcpt={recipient.orcpt}"
        if recipient.original:
            yield f"original_recipient: {recipient.original}"
        yield f"{'done_recipient' if state.done else 'recipient'}: {recipient.address}"
        if state.reason and not state.done:
            yield f"{' ' * max(76 - len(state.reason), 0)}({state.reason})"


def _attributes(envelope: Envelope) -> Iterator[tuple[str, str]]:
    client = envelope.client
    yield "rewrite_context", client.rewrite_context
    yield "encoding", envelope.encoding
    yield "envelope_id", envelope.envid
    yield "ret_flags", {"FULL": "1", "HDRS": "2"}.get(envelope.ret, "")
    yield "log_client_name", client.name
    yield "log_client_address", client.address
    yield "log_client_port", client.port
    if client.name:
        yield "log_message_origin", f"{client.name}[{client.address}]"
    yield "log_helo_name", client.helo
    yield "log_protocol_name", client.protocol
    yield "reverse_client_name", client.reverse_name
    yield "sasl_method", client.sasl_method
    yield "sasl_username", client.sasl_username
    yield "sasl_sender", client.sasl_sender
    yield "log_ident", client.ident


