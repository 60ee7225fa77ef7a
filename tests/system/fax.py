"""A real HylaFAX server without a modem, for a test: hfaxd and faxq with a spool of their own, on a port of their own.

    with FaxServer(folder) as server:
        …                                     clients find it with HOME=server.home in their environment
        server.jobs()                         what waits: job number → its fields, and the text of its documents
        server.end(number, npages="1" …)      as if it had been sent, or had failed
    server.end(number, …)                 as if it had been sent, or had failed

Jobs stay in the queue, since there is nothing that could send them.  Both daemons refuse to run without root.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from tests.system.gateway import environment, free_port, poll

CONFIG = """\
CountryCode: 49
AreaCode: 30
LongDistancePrefix: 0
InternationalPrefix: 00
DialStringRules: etc/dialrules
"""
QUEUES = ("sendq", "doneq", "recvq", "docq", "status")


class FaxServer:
    def __init__(self, folder: Path) -> None:
        self.spool, self.home, self.port = folder / "spool", folder / "home", free_port()
        self._log = folder / "log"
        self._running: list[subprocess.Popen[bytes]] = []
        self.home.mkdir(parents=True)
        (self.home / ".hylarc").write_text(f"Host: localhost\nPort: {self.port}\n")
        subprocess.run(["cp", "-a", "/var/spool/hylafax", self.spool], check=True)
        subprocess.run(["cp", "-a", "/etc/hylafax/.", self.spool / "etc"], check=True)
        for left in (path for queue in QUEUES for path in (self.spool / queue).iterdir()):
            left.unlink()
        for modem in (self.spool / "etc").glob("config.*"):
            modem.unlink()
        (self.spool / "etc" / "config").write_text(CONFIG)
        hosts = self.spool / "etc" / "hosts.hfaxd"
        hosts.write_text("localhost\n127.0.0.1\n")
        shutil.chown(hosts, "uucp", "uucp")
        hosts.chmod(0o600)

    def __enter__(self) -> FaxServer:
        self.start()
        return self

    def start(self) -> None:
        for command in (["faxq", "-D", "-q", self.spool], ["hfaxd", "-d", "-q", self.spool, "-i", str(self.port)]):
            with open(self._log, "ab") as log:
                self._running.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
                )
        poll(self._greets, lambda: f"hfaxd answers: {self._log.read_text()[-500:]}")

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as line:
                line.settimeout(2)
                return line.recv(100).startswith(b"220")
        except OSError:
            return False

    def stop(self) -> None:
        running, self._running = self._running, []
        for process in reversed(running):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def jobs(self) -> dict[str, dict[str, str]]:
        """By number; the key "text" holds the documents."""
        found = {}
        for path in (self.spool / "sendq").glob("q[0-9]*"):
            lines = path.read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            names = [line.rpartition(":")[2] for line in lines if line.lstrip("!").startswith("postscript:")]
            fields["text"] = "".join((self.spool / name).read_text(errors="replace") for name in names)
            fields["tiff"] = "".join(line.rpartition(":")[2] for line in lines if line.startswith("tiff:"))
            found[path.name[1:]] = fields
        return found

    def end(self, number: str, **fields: str) -> None:
        """What faxq writes when a job has come to its end: these fields changed, and in the other queue."""
        waiting = self.spool / "sendq" / f"q{number}"
        text = waiting.read_text()
        for name, value in fields.items():
            text = re.sub(rf"(?m)^{name}:.*$", f"{name}:{value}", text)
        new, done = self.spool / "tmp" / waiting.name, self.spool / "doneq" / waiting.name
        new.write_text(text)
        shutil.copystat(waiting, new)
        shutil.chown(new, "uucp", waiting.stat().st_gid)
        new.rename(done)
        waiting.unlink()
