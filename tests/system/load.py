"""Clients that hand in mail without a break, and know exactly what was promised to them.

    with Load(gateway, "far.example") as load:
        …
    load.accepted       Message-IDs that got their 250
    load.troubles       what else happened to a client: a connection refused or cut, a reply that is no success
"""

from __future__ import annotations

import itertools
import smtplib
import threading
import time
from types import TracebackType
from typing import Any

MESSAGES = 3  # in one session


class Load:
    """``clients`` at a time; ``pause``: seconds between two sessions of one."""

    def __init__(self, gateway: Any, domain: str, clients: int = 4, pause: float = 0.01) -> None:
        self.accepted: list[str] = []
        self.troubles: list[str] = []
        self.sessions = 0
        self._gateway, self._domain, self._pause = gateway, domain, pause
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self) -> None:
        while not self._over.is_set():
            where = ["connect"]
            try:
                self._session(where)
                self.sessions += 1
            except (OSError, smtplib.SMTPException) as error:
                self.troubles.append(f"{where[0]}: {type(error).__name__}: {error}")
                time.sleep(0.05)
            time.sleep(self._pause)

    def _session(self, where: list[str]) -> None:
        with smtplib.SMTP("127.0.0.1", self._gateway.port, "client.example", timeout=20) as client:
            client.ehlo()
            for _ in range(MESSAGES):
                number = next(self._numbers)
                name = f"<{number}@load.example>"
                for command in ("MAIL FROM:<a@b.example>", f"RCPT TO:<u{number}@{self._domain}>", "DATA"):
                    where[0] = command[:4]
                    code, text = client.docmd(command)
                    if code not in (250, 354):
                        raise smtplib.SMTPResponseException(code, text)
                where[0] = "content"
                client.send(f"Subject: test\r\nMessage-ID: {name}\r\n\r\n{number}\r\n.\r\n")
                code, text = client.getreply()
                if code != 250:
                    raise smtplib.SMTPResponseException(code, text)
                self.accepted.append(name)
                where[0] = "between messages"
            where[0] = "QUIT"
