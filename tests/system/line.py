"""A line that crawls and drops, for tests: stands between a caller and the command that answers.

    line.py FOLDER RATE CUT_AFTER CUTS COMMAND …

carries bytes between its own standard input and output and the command's.  RATE: bytes a second each way, 0 = as fast
as can be.  After CUT_AFTER bytes (both ways together) the call is dropped; only the first CUTS calls are, which is
counted in FOLDER/cuts.  Runs by itself, with nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

folder, rate, budget, cuts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
counted = folder / "cuts"
drops = budget > 0 and (counted.stat().st_size if counted.exists() else 0) < cuts
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the command must hear of the drop, under nohup, too
command = subprocess.Popen(sys.argv[5:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
assert command.stdin is not None and command.stdout is not None
over = threading.Event()


def carry(source: int, sink: int) -> None:
    global budget
    try:
        while data := os.read(source, max(1, rate // 10) if rate else 4096):
            if rate:
                time.sleep(len(data) / rate)
            budget -= len(data)
            if drops and budget < 0:
                break
            while data:
                data = data[os.write(sink, data) :]
    except OSError:
        pass
    over.set()


for ends in ((0, command.stdin.fileno()), (command.stdout.fileno(), 1)):
    threading.Thread(target=carry, args=ends, daemon=True).start()
over.wait()
if drops and budget < 0:
    with counted.open("ab") as file:
        file.write(b"x")
else:
    try:
        command.wait(2)
    except subprocess.TimeoutExpired:
        pass
if command.poll() is None:
    command.send_signal(signal.SIGHUP)
command.wait()
os._exit(0)
