"""Asks Postfix, in a folder and on a port of its own, and writes answers.json; needs root and Postfix 3.7.

    python -m tests.gateway.addresses.odd.record
"""

from __future__ import annotations

import json
import re
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.gateway.addresses.odd.questions import (
    ADDRESSES,
    MAIL_PARAMETERS,
    SITE,
    SITES,
    SUBMITTED,
    Answers,
    message,
    save,
)

PORT = 24725
_MASTER = f"""\
127.0.0.1:{PORT} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
pickup unix n - n 1 1 pickup
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""
_CLASSES = {256: "local", 512: "virtual alias", 1024: "virtual mailbox", 2048: "relay", 4096: "default"}
_FAILED, _ROUTED = 1 << 0 | 1 << 2, 1 << 1
_QUEUED = re.compile(rb"queued as (\w+)")


def main() -> None:
    answers: dict[str, Answers] = {}
    with tempfile.TemporaryDirectory(prefix="odd-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        for name, settings in SITES.items():
            with postfix(Path(folder) / "site", {**SITE, **settings}) as queue:
                answers[name] = _ask(queue, MAIL_PARAMETERS.get(name, ""))
            print(name, sum(answers[name][one] != answers["plain"][one] for one in answers[name]), "differ")
        with postfix(Path(folder) / "site", SITE) as queue:
            SUBMITTED.write_text(json.dumps(_submit(queue.parent / "conf", queue), indent=0) + "\n")
    save(answers)


def _submit(conf: Path, queue: Path) -> dict[str, list[Any]]:
    """For each address: what becomes of it as an argument of sendmail (and of its -f), and as To of sendmail -t.  Exit
    status, sender and recipients, the last as they are in the envelope and with their original forms."""
    answers: dict[str, list[Any]] = {}
    command: list[Any] = ["/usr/sbin/sendmail", "-C", conf, "-i"]
    waiting = 0
    for number, address in enumerate(ADDRESSES):
        answer = answers[address.decode("latin-1")] = []
        asked: list[tuple[list[Any], bytes]] = [
            (["-f", address, "--", address], b""), (["-f", "s@x.tld", "-t"], b"To: %b\n" % address)
        ]
        for way, (arguments, header) in enumerate(asked):
            content = b"X-Number: %d.%d\n%b\nbody\n" % (number, way, header)
            status = subprocess.run([*command, *arguments], input=content, capture_output=True).returncode
            answer.append([status])
            waiting += status == 0
    for _ in range(100):
        time.sleep(0.1)
        if len(list((queue / "hold").iterdir())) == waiting:
            break
    for path in (queue / "hold").iterdir():
        sender, recipients, content = records(path)
        found = re.search(rb"X-Number: (\d+)\.(\d)", content)
        assert found, path
        text = ADDRESSES[int(found[1])].decode("latin-1")
        answers[text][int(found[2])] += [sender, [one[:2] for one in recipients]]
    return answers


@contextmanager
def postfix(folder: Path, settings: dict[str, str]) -> Iterator[Path]:
    conf, queue = folder / "conf", folder / "queue"
    for one in (conf, queue, folder / "data"):
        one.mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    folders = {
        "queue_directory": str(queue), "data_directory": str(folder / "data"), "maillog_file": str(folder / "log"),
        "maillog_file_prefixes": str(folder),
    }
    lines = [f"{name} = {value}\n" for name, value in {**settings, **folders}.items()]
    (conf / "main.cf").write_text("".join(lines))
    (conf / "master.cf").write_text(_MASTER)
    for file in ("dynamicmaps.cf", "postfix-files"):
        shutil.copy(f"/etc/postfix/{file}", conf)
    _postfix_command(conf, "start")
    try:
        yield queue
    finally:
        _postfix_command(conf, "stop")
        shutil.rmtree(folder)


def _postfix_command(conf: Path, command: str) -> None:
    subprocess.run(["/usr/sbin/postfix", "-c", conf, command], check=True, capture_output=True)


def _ask(queue: Path, parameters: str) -> Answers:
    answers: Answers = {}
    held: dict[bytes, dict[str, Any]] = {}
    with smtplib.SMTP("127.0.0.1", PORT, "pc.my.domain") as client:
        client.ehlo()
        for address in ADDRESSES:
            answer = answers[address.decode("latin-1")] = {}
            client.send(b"MAIL FROM:<%b>%b\r\n" % (address, parameters.encode()))
            answer["mail"] = _reply(client)
            if answer["mail"][0] != "2":
                client.docmd(f"MAIL FROM:<s@x.tld>{parameters}")
            client.send(b"RCPT TO:<%b>\r\n" % address)
            answer["rcpt"] = _reply(client)
            if answer["rcpt"][0] != "2":
                client.docmd("RCPT TO:<x@my.domain>")
            client.docmd("DATA")
            client.send(message(address).replace(b"\n", b"\r\n") + b".\r\n")
            reply = client.getreply()
            found = _QUEUED.search(reply[1])
            if found:
                held[found[1]] = answer
            else:
                answer["data"] = reply[1].decode()
            client.docmd("RSET")
    time.sleep(0.2)
    with socket.socket(socket.AF_UNIX) as rewrite:
        rewrite.connect(str(queue / "private/rewrite"))
        attributes(rewrite)
        for id, answer in held.items():
            _read(queue / "hold" / id.decode(), answer)
            answer["route"] = route(rewrite, answer["sender"], answer["recipients"][0][0])
    return answers


def _reply(client: smtplib.SMTP) -> str:
    code, text = client.getreply()
    return f"{code} {text.decode('latin-1')}"


def _read(path: Path, answer: dict[str, Any]) -> None:
    answer["sender"], recipients, content = records(path)
    answer["recipients"] = [one[:3] for one in recipients]
    answer["header"] = header_values(content.partition(b"\n\n")[0])


def records(path: Path) -> tuple[str, list[list[str]], bytes]:
    """A queue file: sender, recipients (address, original, DSN original, NOTIFY), content.  It is a list of records: a
    letter, a length in base 128, and as many bytes."""
    data, at = path.read_bytes(), 0
    content, sender = b"", ""
    recipients: list[list[str]] = []
    told = {"original": "", "dsn_orig_rcpt": "", "notify_flags": "0"}
    while at < len(data):
        kind, at = data[at : at + 1], at + 1
        size = shift = 0
        while True:
            byte, at = data[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        value, at = data[at : at + size], at + size
        text = value.decode("latin-1")
        if kind == b"p" and int(value):
            at = int(value)
        elif kind == b"S":
            sender = text
        elif kind == b"O":
            told["original"] = text
        elif kind == b"A" and text.partition("=")[0] in told:
            told[text.partition("=")[0]] = text.partition("=")[2]
        elif kind == b"R":
            recipients.append([text, *told.values()])
            told = {"original": "", "dsn_orig_rcpt": "", "notify_flags": "0"}
        elif kind in b"NL":
            content += value + (b"\n" if kind == b"N" else b"")
        elif kind == b"E":
            break
    return sender, recipients, content


def header_values(header: bytes) -> list[str]:
    """The values of From, To and Reply-To in a header, in the order in which they come."""
    fields = re.findall(rb"(?m)^(From|To|Reply-To):((?:.*\n[ \t])*.*)", header)
    return [value.decode("latin-1") for _, value in fields]


def route(rewrite: socket.socket, sender: str, address: str) -> list[Any]:
    asked = {"request": "resolve", "sender": sender, "address": address}
    rewrite.sendall("".join(f"{name}\0{value}\0" for name, value in asked.items()).encode("latin-1") + b"\0")
    got = attributes(rewrite)
    flags = int(got["flags"])
    if flags & _FAILED:
        return ["broken"]
    kind = next(name for bit, name in _CLASSES.items() if flags & bit)
    return [kind, bool(flags & _ROUTED), got["transport"], got["nexthop"], got["recipient"]]


def attributes(connection: socket.socket) -> dict[str, str]:
    """One list of attributes: names and values that end in NUL, and a NUL."""
    data = b""
    while not data.endswith(b"\0\0") or data.count(b"\0") % 2 == 0:
        more = connection.recv(65536)
        if not more:
            raise OSError("the service went away")
        data += more
    words = data.decode("latin-1").split("\0")[:-2]
    return dict(zip(words[::2], words[1::2], strict=True))


if __name__ == "__main__":
    main()
