"""Two real Taylor UUCP sites for a test, "near" (ours) and "far", each with a configuration and spool of its own.

    sites = Sites(folder)                        lays them out; what rmail is at each is the test's affair:
    sites.rmail("near", f"exec … rmail \\"$@\\"")    a line of shell; without one the site keeps what comes
    sites.call("near", "far")                    near calls far; then both sides' jobs have crossed
    sites.execute("far")                         run what has arrived; sites.kept("far") is what rmail got there

A call goes through a pipe: uucico starts the other site's uucico, as one would start ssh.  With ``tcp`` it goes over
a port, on which ``answer`` (a thread of the test) hands each call to the other site's uucico.  Everything runs as the
user uucp, without uucico's habit of starting uuxqt by itself.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.gateway import as_user, environment

UUCICO, UUXQT = "/usr/lib/uucp/uucico", "/usr/sbin/uuxqt"
NAMES = ("near", "far")

CONFIG = """\
nodename {name}
spool {home}/spool
pubdir {home}/public
logfile {home}/Log
statfile {home}/Stats
debugfile {home}/Debug
sysfile {home}/sys
portfile {home}/port
dialfile {home}/dial
callfile {home}/call
passwdfile {home}/passwd
lockdir {home}
run-uuxqt never
"""

SYSTEM = """\
system {other}
call-login *
call-password *
called-login {other}
time any
chat "" \\r\\c ogin: \\L word: \\P
chat-timeout 20
address 127.0.0.1
port line
protocol t
commands rmail rsmtp crsmtp gsmtp bsmtp crmail
command-path {home}/bin
"""

KEEP = """\
to=$(/usr/bin/mktemp {home}/arrived/XXXXXX)
{{ for word in "$@"; do printf '%s\\n' "$word"; done; printf '\\n'; /bin/cat; }} > "$to" && /bin/mv "$to" "$to.mail"
"""


@dataclass(slots=True, frozen=True)
class Kept:
    """What a site's rmail was given."""

    arguments: list[str]
    data: bytes


class Sites:
    def __init__(self, folder: Path, *, tcp: bool = False, line: Sequence[str] = ()) -> None:
        self.folder = folder
        self._line = list(line)
        self._listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in NAMES} if tcp else {}
        for name, other in (NAMES, NAMES[::-1]):
            home = folder / name
            for part in ("spool", "public", "bin", "arrived"):
                (home / part).mkdir(parents=True)
            self.config(name).write_text(CONFIG.format(name=name, home=home))
            (home / "sys").write_text(SYSTEM.format(other=other, home=home))
            (home / "call").write_text(f"{other} {name} secret-{name}\n")
            (home / "passwd").write_text(f"{other} secret-{other}\n")
            (home / "dial").write_text("")
            (home / "port").write_text(f"port line\n{self._port(other)}\n")
            self.rmail(name, KEEP.format(home=home))
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "uucp", "uucp")

    def _port(self, other: str) -> str:
        if self._listeners:
            return f"type tcp\nservice {self.port(other)}"
        return f"type pipe\ncommand {self.answer_command(other)}"

    def answer_command(self, name: str) -> str:
        """What answers a call to a site."""
        return " ".join([*self._line, UUCICO, "-I", str(self.config(name)), "-l"])

    def port(self, name: str) -> int:
        """Where a site is called over TCP."""
        return int(self._listeners[name].getsockname()[1])

    def config(self, name: str) -> Path:
        return self.folder / name / "config"

    def rmail(self, name: str, action: str) -> None:
        self.program(name, "rmail", action)

    def program(self, name: str, command: str, action: str) -> None:
        """What a command of the sys file's "commands" does at a site."""
        script = self.folder / name / "bin" / command
        script.write_text(f"#!/bin/sh\n{action}\n")
        script.chmod(0o755)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While this lasts, calls over TCP are answered."""
        for name, listener in self._listeners.items():
            threading.Thread(target=self._answer, args=(name, listener), daemon=True).start()
        try:
            yield
        finally:
            for listener in self._listeners.values():
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()

    def _answer(self, name: str, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                self._run(self.answer_command(name).split(), stdin=line, stdout=line)

    # --- use -----------------------------------------------------------------------------------------------------

    def try_call(self, caller: str, called: str) -> int:
        """uucico's exit status."""
        return self._run([UUCICO, "-I", self.config(caller), "-D", "-S", called]).returncode

    def call(self, caller: str, called: str) -> None:
        status = self.try_call(caller, called)
        assert status == 0, f"{caller} calls {called}: status {status}: {self.logs()}"

    def execute(self, name: str) -> None:
        self._run([UUXQT, "-I", self.config(name)])

    def queue(self, name: str, data: bytes, *arguments: str) -> None:
        """`uux ARGUMENTS` at a site, with a message on standard input."""
        done = self._run(["uux", "-I", self.config(name), *arguments], input=data)
        assert done.returncode == 0, done.stderr

    def jobs(self, name: str) -> list[str]:
        """What waits for a call at a site, a line each."""
        return self._run(["uustat", "-I", self.config(name), "-a"]).stdout.decode().splitlines()

    def kept(self, name: str) -> list[Kept]:
        found = []
        for path in sorted((self.folder / name / "arrived").glob("*.mail"), key=os.path.getmtime):
            arguments, _, data = path.read_bytes().partition(b"\n\n")
            found.append(Kept(arguments.decode().split("\n"), data))
        return found

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*/Log"))

    def _run(self, command: list[str | Path], **options: object) -> subprocess.CompletedProcess[bytes]:
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        if "input" not in given:
            given.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(as_user("uucp", command), cwd="/", env=environment(), timeout=90, **given)
