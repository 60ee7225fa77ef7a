"""A real Postfix as the server at the other end: only its smtpd side, which throws away what it takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import TracebackType

from tests.system.gateway import environment, free_port, poll

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""


class PostfixServer:
    """Needs root.  ``parameters``: further lines of main.cf."""

    def __init__(self, folder: Path, parameters: str) -> None:
        self.port = free_port()
        self.log_file = folder / "postfix.log"
        self._etc = folder / "postfix"
        for name in ("postfix", "postfix-queue", "postfix-data"):
            (folder / name).mkdir()
        subprocess.run(["chown", "postfix", folder / "postfix-data"], check=True)
        (self._etc / "master.cf").write_text(MASTER.format(port=self.port))
        lines = {
            "compatibility_level": "3.6", "myhostname": "server.test", "queue_directory": f"{folder}/postfix-queue",
            "data_directory": f"{folder}/postfix-data", "maillog_file": self.log_file, "maillog_file_prefixes": folder,
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "mynetworks": "127.0.0.0/8", "mydestination": "",
            "default_transport": "discard", "alias_maps": "",
            "local_recipient_maps": "",
        }  # fmt: skip
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self._etc / "main.cf").write_text(text + parameters)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostfixServer:
        self._process = subprocess.Popen(
            ["postfix", "-c", self._etc, "start-fg"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=environment(), start_new_session=True,
        )  # fmt: skip
        poll(lambda: "daemon started" in self.log, lambda: f"Postfix starts\n{self.log}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        found: re.Match[str] = poll(lambda: re.search(pattern, self.log), lambda: f"{pattern} in\n{self.log[-2000:]}")
        return found
