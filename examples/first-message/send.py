"""Sends a message to the gateway that `run` has started, waits for its delivery, and shows where it went."""

import os
import pathlib
import pwd
import smtplib
import sys
import time
from collections.abc import Callable

FOLDER = pathlib.Path("mailgateway")
LOG = FOLDER / "maillog"
PATIENCE = 20.0
MESSAGE = "Subject: first message\n\nHello, gateway.\n"


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def wait_for(ready: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            sys.exit(failure)
        time.sleep(0.05)


def answers() -> bool:
    try:
        smtplib.SMTP("127.0.0.1", 2525).quit()
    except (OSError, smtplib.SMTPException):
        return False
    return True


def log_lines(start: int = 0) -> list[str]:
    return LOG.read_text().splitlines()[start:]


def mails() -> set[pathlib.Path]:
    return set((FOLDER / "mail").glob("*/new/*"))


def main() -> None:
    wait_for(answers, f"nothing answers on 127.0.0.1:2525; see {FOLDER / 'twistd.log'}")
    if not LOG.exists():
        sys.exit(f"what answers on 127.0.0.1:2525 was not started here: there is no {LOG}")
    address, start, before = f"{user_name()}@localhost", len(log_lines()), mails()
    with smtplib.SMTP("127.0.0.1", 2525) as client:
        client.sendmail(address, [address], f"From: {address}\nTo: {address}\n{MESSAGE}")
    wait_for(lambda: any(line.endswith(": removed") for line in log_lines(start)), f"not delivered yet; see {LOG}")
    print(f"What the gateway's log ({LOG}) says of it:\n")
    print("\n".join(log_lines(start)))
    for path in mails() - before:
        print(f"\nThe message, now in {path}:\n")
        print(path.read_text())
    print("The gateway goes on running.  To send again: sh examples/first-message/run")
    print("                             To stop it:    .venv/bin/mailgateway stop")


if __name__ == "__main__":
    main()
