"""A real Dovecot for tests, as an ordinary user: LMTP on a TCP port and a UNIX socket, logins on another; Maildirs.

Users joe and ann have room, "full" has a kilobyte, others do not exist; extensions (joe+x) count.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from tests.system.gateway import as_user, free_port, poll

USER = "nobody"

CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = lmtp
listen = 127.0.0.1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
first_valid_gid = 1
mail_uid = {user}
mail_gid = {group}
mail_location = maildir:{folder}/mail/%n/Maildir
ssl = no
recipient_delimiter = +
auth_username_format = %Ln
mail_plugins = quota
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=1G
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
auth_mechanisms = plain login cram-md5 scram-sha-256
service auth {{
  user = {user}
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
service lmtp {{
  user = {user}
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


class Dovecot:
    """Runs while used as a context."""

    def __init__(self, folder: Path) -> None:
        """``folder``: made here."""
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "lmtp"
        self.auth = folder / "auth"
        account = pwd.getpwnam(USER) if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
        for name in ("run", "mail"):
            (folder / name).mkdir(parents=True)
        users = [f"{name}:{{PLAIN}}secret::::{folder}/mail/{name}::\n" for name in ("joe", "ann")]
        users.append(f"full:{{PLAIN}}secret::::{folder}/mail/full::userdb_quota_rule=*:bytes=1000\n")
        (folder / "users").write_text("".join(users))
        (folder / "dovecot.conf").write_text(CONFIG.format(
            folder=folder, user=account.pw_name, group=grp.getgrgid(account.pw_gid).gr_name, port=self.port))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)

    def __enter__(self) -> Dovecot:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        program = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/sbin")
        assert program is not None
        self._process = subprocess.Popen(
            as_user(USER, [program, "-F", "-c", self.folder / "dovecot.conf"]), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        poll(self._answers, lambda: f"Dovecot answers\n{self.log}")

    def set(self, name: str, value: str) -> None:
        """For the next start."""
        with open(self.folder / "dovecot.conf", "a") as file:
            file.write(f"{name} = {value}\n")

    def kill(self) -> None:
        """All at once, in the middle of whatever it does.  Locks that it has left would hold it up for minutes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for lock in (self.folder / "mail").rglob("*.lock"):
            lock.unlink()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        finally:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def messages(self, user: str) -> list[str]:
        """The mail that the user has got, and not read yet."""
        return [path.read_text() for path in sorted((self.folder / "mail" / user / "Maildir" / "new").glob("*"))]

    def sessions(self) -> int:
        """LMTP connections that have ended, as its log counts them."""
        return self.log.count("Disconnect from ")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as line:
                return line.recv(100).startswith(b"220")
        except OSError:
            return False
