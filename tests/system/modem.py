"""A modem for tests, on a pseudo terminal: dials, and connects the caller with the command that answers.

    modem.py DEVICE LOG COMMAND …

DEVICE becomes a link to the terminal.  ATZ, ATH and the like are answered with OK; ATDT0 is busy; ATDT and any other
number starts the command on a terminal of its own, says CONNECT and carries bytes, until one side hangs up or the
caller says +++.  What it was told is written to LOG.  Runs by itself, with nothing but the standard library.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import tty
from pathlib import Path

device, log, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]


def terminal() -> tuple[int, int]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return ours, theirs


line, slave = terminal()
os.fchmod(slave, 0o666)
device.unlink(missing_ok=True)
device.symlink_to(os.ttyname(slave))


def note(text: str) -> None:
    with log.open("a") as file:
        file.write(text + "\n")


def connected() -> None:
    """Until somebody has hung up."""
    near, far = terminal()
    answering = subprocess.Popen(command, stdin=far, stdout=far, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(far)
    os.write(line, b"\r\nCONNECT 38400\r\n")
    escape = b""
    while True:
        ready, _, _ = select.select([line, near], [], [])
        try:
            if near in ready:
                os.write(line, os.read(near, 4096))
            if line in ready:
                data = os.read(line, 4096)
                escape = (escape + data)[-20:]
                if re.search(rb"\+\+\+(ATH\r)?\Z", escape):
                    break
                os.write(near, data)
        except OSError:  # it has ended
            break
    os.close(near)
    answering.wait()
    note("hung up")
    os.write(line, b"\r\nNO CARRIER\r\n")


words = b""
while True:
    words += os.read(line, 4096)
    *lines, words = words.split(b"\r")
    for one in lines:
        said = one.decode("ascii", "replace").strip().lstrip("+")
        note(said)
        if said == "ATDT0":
            os.write(line, b"\r\nBUSY\r\n")
        elif said.startswith("ATDT"):
            connected()
            words = b""
        elif said.startswith("AT"):
            os.write(line, b"\r\nOK\r\n")
