"""An SMTP server for tests that keeps what it gets: the far end of deliveries."""

from __future__ import annotations

import re
import socketserver
import threading
import time
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from types import TracebackType


@dataclass(slots=True, frozen=True)
class Received:
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    """Line ends are LF, and the dots are undone."""

    @property
    def message(self) -> Message:
        return message_from_bytes(self.data)


class Sink:
    """Listens on 127.0.0.1:``port`` while used as a context.  ``replies``: from a pattern of a command to the reply
    it gets instead of 250; ``delay``: seconds before each message's final reply, which comes only while
    ``may_answer`` is set."""

    def __init__(self, replies: dict[str, str] | None = None, delay: float = 0.0) -> None:
        self.replies = {re.compile(pattern, re.IGNORECASE): reply for pattern, reply in (replies or {}).items()}
        self.delay = delay
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.sink = self
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def keep(self, one: Received) -> None:
        with self._changed:
            self._received.append(one)
            self._changed.notify_all()

    @property
    def received(self) -> list[Received]:
        with self._changed:
            return list(self._received)

    def wait(self, count: int = 1, limit: float = 40.0) -> list[Received]:
        """What has come, once it is so many."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self._received) >= count, limit)
        assert arrived, f"{len(self.received)} of {count} messages came within {limit:.0f} s"
        return self.received

    def reply(self, command: str) -> str:
        return next((reply for pattern, reply in self.replies.items() if pattern.match(command)), "250 2.0.0 Ok")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    block_on_close = False
    request_queue_size = 100
    sink: Sink


class _Session(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            self._talk()
        except OSError:
            pass

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def _talk(self) -> None:
        sink, sender, recipients = self.server.sink, "", []
        self._say("220 sink.example ESMTP")
        while line := self.rfile.readline():
            command = line.decode("utf-8", "surrogateescape").strip()
            verb = command.split(" ")[0].upper()
            reply = sink.reply(command)
            if verb == "QUIT":
                self._say("221 2.0.0 Bye")
                return
            if verb == "EHLO" and reply.startswith("250"):
                reply = "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
            elif verb in ("MAIL", "RSET") and reply.startswith("250"):
                sender, recipients = _address(command), []
            elif verb == "RCPT" and reply.startswith("250"):
                recipients.append(_address(command))
            elif verb == "DATA" and not recipients:
                reply = "554 5.5.1 no recipients"
            elif verb == "DATA":
                self._say("354 go on")
                data = self._data()
                reply = sink.reply("EOM")
                if sink.delay:
                    time.sleep(sink.delay)
                sink.may_answer.wait()
                if reply.startswith("250"):
                    sink.keep(Received(sender, tuple(recipients), data))
            self._say(reply)

    def _data(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise ConnectionResetError
            lines.append(line.removeprefix(b".").replace(b"\r\n", b"\n"))
        return b"".join(lines)


def _address(command: str) -> str:
    match = re.search(r"<(.*)>", command)
    return match[1] if match else ""
