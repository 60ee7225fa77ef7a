"""A real gateway for a test: `twistd mailgateway` in a process of its own, on a configuration made from an example.

    gateway = Gateway(folder, "firewall")       copies examples/firewall; nothing else of it is changed but ports,
    gateway.replace("transport", old, new)      folders and accounts, and what the test says
    gateway.set(relayhost="")
    gateway.start()                             comes back when it answers
    gateway.run("mailq")                        `mailgateway mailq`, as whoever the test names
    gateway.stop()

Started by root it runs split in roles; with ``user`` (or when the tests are not run by root) in one process as that
user.  ``stop`` and ``kill`` leave no process behind.  Everything that is waited for has a deadline, after which the
test fails with the end of the log.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
BIN = Path(sys.executable).parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

START_LIMIT = 40.0
STOP_LIMIT = 25.0
WAIT_LIMIT = 40.0

# The accounts of the examples, by accounts that every Debian has.
ACCOUNTS = {"mailgateway": "news", "fax": "games"}


def poll(condition: Callable[[], Any], what: str | Callable[[], str], limit: float = WAIT_LIMIT) -> Any:
    """What the condition says once it is true.  Fails the test after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
    return found


def rewrite(path: Path, text: str) -> None:
    """Whoever reads the file meanwhile gets the old text or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def as_user(user: str | None, command: Sequence[str | Path]) -> list[str]:
    """The command with a user's rights and no other group; None leaves the rights as they are."""
    words = [str(word) for word in command]
    if user is None or os.geteuid() != 0 or user == "root":
        return words
    account = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *words]


class Gateway:
    def __init__(self, folder: Path, example: str = "twistd", *, user: str | None = None) -> None:
        self.folder = folder
        self.user = user if os.geteuid() == 0 else None
        self.directory = folder / "etc"
        self.log_file = folder / "maillog"
        self.port = 0
        self.prefix: list[str] = []  # what stands before the command line of twistd, for a mount namespace of its own
        self.process: subprocess.Popen[bytes] | None = None
        self._seen = 0
        shutil.copytree(EXAMPLES / example, self.directory)
        for path in (self.directory, *self.directory.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o022)  # whatever umask the checkout was made with
        self._adapt()

    @property
    def split(self) -> bool:
        return os.geteuid() == 0 and self.user is None

    # --- configuration -------------------------------------------------------------------------------------------

    def _adapt(self) -> None:
        """Ports that are free, folders below the test's own, accounts that exist."""
        self.set(
            queue_directory=str(self.folder / "spool"), data_directory=str(self.folder / "data"),
            maillog_file=str(self.log_file), maillog_file_prefixes=str(self.folder),
            inet_interfaces="127.0.0.1", inet_protocols="ipv4", maximal_backoff_time="4000s",
        )
        main, master = self.directory / "main.cf", self.directory / "master.cf"
        text = master.read_text()
        if re.search(r"^\S+ +inet ", text, re.MULTILINE):
            self.port = free_port()
            text = re.sub(r"^\S+ +inet ", f"127.0.0.1:{self.port} inet ", text, count=1, flags=re.MULTILINE)
        for account, existing in ACCOUNTS.items():
            text = text.replace(f"user={account} ", f"user={existing} ")
            main.write_text(main.read_text().replace(f"mail_owner = {account}\n", f"mail_owner = {existing}\n"))
        if self.split and "mail_owner" not in main.read_text():
            self.set(mail_owner=ACCOUNTS["mailgateway"])
        master.write_text(text)
        if self.user:
            account_entry = pwd.getpwnam(self.user)
            for path in (self.folder, self.directory, *self.directory.rglob("*")):
                os.chown(path, account_entry.pw_uid, account_entry.pw_gid)

    def set(self, **parameters: str) -> None:
        """Give parameters of main.cf these values, in place of the ones they have."""
        path = self.directory / "main.cf"
        text = path.read_text()
        for name, value in parameters.items():
            text, found = re.subn(
                rf"^{name} *=.*(?:\n[ \t]+\S.*)*$", lambda match, line=f"{name} = {value}": line, text,
                flags=re.MULTILINE,
            )
            if not found:
                text += f"{name} = {value}\n"
        rewrite(path, text)

    def replace(self, file: str, old: str, new: str) -> None:
        """Change the text of a file.  The old one must be there, or the test is about something else."""
        path = self.directory / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        rewrite(path, text.replace(old, new))

    def append(self, file: str, text: str) -> None:
        path = self.directory / file
        rewrite(path, (path.read_text() if path.exists() else "") + text)

    # --- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        began = len(self.log)
        command = [
            *self.prefix,
            *as_user(self.user, [BIN / "twistd", "--nodaemon", "--pidfile=", "mailgateway", "-c", self.directory]),
        ]
        with open(self.folder / "twistd.out", "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment(),
                start_new_session=True,
            )
        poll(lambda: self._ready(began), lambda: f"the gateway starts\n{self.last_words()}", START_LIMIT)

    def _ready(self, began: int) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with status {self.process.returncode}\n{self.last_words()}")
        if "daemon started" not in self.log[began:]:
            return False
        return answers(self.port) if self.port else self.run("status").returncode == 0

    def stop(self) -> None:
        """SIGTERM; it must end by itself."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end on SIGTERM\n{self.last_words()}") from None
        finally:
            end_group(process)

    def kill(self) -> None:
        """kill -9 of everything at once."""
        process, self.process = self.process, None
        if process is not None:
            end_group(process)

    def roles(self) -> dict[int, str]:
        """The running processes and their roles."""
        assert self.process is not None
        found = {self.process.pid: "master"}
        for pid, words in processes():
            if words[1:3] == ["-m", "gateway.role"] and str(self.directory) in words:
                found[pid] = words[3]
        return found

    # --- use -----------------------------------------------------------------------------------------------------

    @contextmanager
    def client(self, source: str = "127.0.0.1") -> Iterator[smtplib.SMTP]:
        """A session from an address of 127.0.0.0/8, behind its EHLO."""
        connected = smtplib.SMTP(
            "127.0.0.1", self.port, local_hostname="client.example", timeout=30, source_address=(source, 0)
        )
        with connected as client:
            client.ehlo()
            yield client

    def send(self, recipients: str | list[str], text: str | bytes = "Subject: test\n\nHello.\n",
             sender: str = "a@b.example", source: str = "127.0.0.1", options: Sequence[str] = ()) -> None:
        """One message by SMTP, which must be accepted for all recipients.  Line ends of the text are LF."""
        data = (text.encode() if isinstance(text, str) else text).replace(b"\n", b"\r\n")
        with self.client(source) as client:
            hand_in(client, sender, [recipients] if isinstance(recipients, str) else recipients, data, options)

    def run(self, name: str, *arguments: str, user: str | None = None, stdin: str | bytes = b"",
            check: bool = False) -> subprocess.CompletedProcess[str]:
        """`mailgateway NAME -c DIRECTORY ARGUMENTS`, by default as who runs the gateway, and where it runs."""
        command = as_user(user or self.user, [BIN / "mailgateway", name, "-c", self.directory, *arguments])
        if self.prefix and self.process is not None:
            # The root directory as well: this may run in a chroot.
            command = ["nsenter", f"--target={self.process.pid}", "--mount", "--root", *command]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(command, input=given, capture_output=True, cwd="/", env=environment(), timeout=60)
        result = subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        assert not check or result.returncode == 0, f"{name}: status {result.returncode}: {result.stderr}"
        return result

    def queue(self) -> list[dict[str, Any]]:
        listed = self.run("postqueue", "-j", check=True).stdout
        return [json.loads(line) for line in listed.splitlines()]

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_for(self, pattern: str, limit: float = WAIT_LIMIT) -> re.Match[str]:
        """The first match of a regular expression in the log, which may still come."""
        expression = re.compile(pattern, re.MULTILINE)
        found: re.Match[str] = poll(
            lambda: expression.search(self.log), lambda: f"{pattern!r} in the log\n{self.last_words()}", limit
        )
        return found

    def wait_until_empty(self, limit: float = WAIT_LIMIT) -> None:
        poll(lambda: not self.queue(), lambda: f"the queue is empty\n{self.last_words()}", limit)

    def last_words(self) -> str:
        output = self.folder / "twistd.out"
        said = output.read_text(errors="replace")[-1500:] if output.exists() else ""
        return f"{said}\n{self.log[-3000:]}"


def hand_in(client: smtplib.SMTP, sender: str, recipients: Sequence[str], data: bytes,
            options: Sequence[str] = ()) -> None:
    """One transaction; smtplib's own sendmail() changes addresses.  ``data``: with CRLF line ends."""
    for command in (" ".join([f"MAIL FROM:<{sender}>", *options]), *(f"RCPT TO:<{one}>" for one in recipients)):
        code, text = client.docmd(command)
        assert code == 250, f"{command}: {code} {text!r}"
    code, text = client.data(data)
    assert code == 250, f"{code} {text!r}"


def environment() -> dict[str, str]:
    return {"PATH": PATH, "TZ": "UTC", "LANG": "C.UTF-8"}


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.settimeout(10)
            return line.recv(200).startswith(b"220 ")
    except OSError:
        return False


def answers_at(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


def processes() -> Iterator[tuple[int, list[str]]]:
    """All processes of the machine with their command lines."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield int(path.name), words


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process group that we started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
