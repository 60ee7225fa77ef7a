"""Sends a message to the gateway that listens on 127.0.0.1:2525, waits for its delivery, and shows where it went."""

import getpass
import pathlib
import smtplib
import sys
import time

LOG = pathlib.Path("mailgateway/maillog")


def connect() -> smtplib.SMTP:
    deadline = time.monotonic() + 20
    while True:
        try:
            return smtplib.SMTP("127.0.0.1", 2525)
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("nothing answers on 127.0.0.1:2525; see mailgateway/twistd.log")
            time.sleep(0.1)


def main() -> None:
    user = getpass.getuser()
    with connect() as client:
        before = len(LOG.read_text().splitlines())
        client.sendmail(f"{user}@localhost", [f"{user}@localhost"], "Subject: first message\n\nHello, gateway.\n")
    deadline = time.monotonic() + 20
    while "removed" not in "".join(LOG.read_text().splitlines()[before:]):
        if time.monotonic() > deadline:
            sys.exit("it was not delivered in time; see mailgateway/maillog")
        time.sleep(0.1)
    print("What the gateway's log (mailgateway/maillog) says of it:\n")
    print("\n".join(LOG.read_text().splitlines()[before:]))
    newest = max(pathlib.Path("mailgateway/mail").glob("*/new/*"), key=lambda path: path.stat().st_mtime)
    print(f"\nThe message, in {newest}:\n")
    print(newest.read_text())
    print("The gateway goes on running. Stop it with: kill $(cat mailgateway/twistd.pid)")


if __name__ == "__main__":
    main()
