"""The small process from which those come that act as somebody: a loop around fork, and nothing else.

It is started once by transports.process.Runner, as an interpreter of its own without site packages, so that a fork
costs the same whatever the gateway holds in memory or has open.  It imports the standard library and its children's
modules only.  See transports.jobs for its loop; an order is

    {"job": N, "task": "serve" | "launch", "uid": …, "gid": …, "base": …, "chroot": …}

for a process that writes mailboxes (transports.worker) or starts programs (transports.launcher).  A child has a new
session, chroot, groups, gid and uid set and looked at again, umask 077, the working directory ``base`` (entered
before the rights are given up), and no descriptors but 0, 1, 2, and 3, on which it reports why it could not become what
it was to be.

    {"kill": N}                  SIGKILL for the process of a job
    {"kill": N, "child": PID}    for a process group that a launcher has started
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from typing import NoReturn

from transports import launcher, worker
from transports.jobs import LIMIT, NOT_STARTED, Failed, Loop, Order, kill_group

OPEN_FILES = 1024
"""What programs are used to (RLIMIT_NOFILE, the soft limit), however much the gateway has allowed itself: some look
through all that they may have."""


class Spawner(Loop):
    def __init__(self, control: socket.socket) -> None:
        super().__init__(control)
        self._reports: dict[int, int] = {}
        """pid → descriptor from which to read."""

    def start(self, order: Order, descriptors: list[int]) -> int:
        try:
            report, writer = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise Failed("fork", error) from None
        try:
            pid = os.fork()
            if pid == 0:
                become(order, descriptors[0], descriptors[1], writer)
        except OSError as error:
            os.close(report)
            raise Failed("fork", error) from None
        finally:
            os.close(writer)
        self._reports[pid] = report
        return pid

    def kill(self, order: Order) -> None:
        pid = self.pids.get(order["kill"])
        if pid is None:
            return
        if "child" not in order:
            kill_group(pid)
        elif _parent(order["child"]) == pid:
            kill_group(order["child"])

    def report_of(self, pid: int) -> str:
        report = self._reports.pop(pid)
        try:
            return os.read(report, LIMIT).decode("utf-8", "replace")
        finally:
            os.close(report)


def become(order: Order, stdin: int, output: int, report: int) -> NoReturn:
    """In the child: take on the identity that the order names, then do the work."""
    stage = "set up"
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        stdin, output, report = (_out_of_the_way(number) for number in (stdin, output, report))
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(report, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        report = 3
        stage = f"enter {order['chroot'] or order['base']}"
        os.chdir(order["base"])
        if order["chroot"]:
            os.chroot(order["chroot"])
            os.chdir("/")
        stage = f"become user {order['uid']} group {order['gid']}"
        take_identity(order["uid"], order["gid"])
        os.umask(0o077)
        stage = order["task"]
        if stage == "launch":
            if order["uid"] == 0:
                raise PermissionError(1, "programs are never run as root")
            launcher.serve()
        else:
            worker.serve()
        os._exit(0)
    except BaseException as error:  # nothing may run on in a copy of the loop
        os.write(report, str(Failed(stage, error)).encode())
    finally:
        os._exit(NOT_STARTED)


def take_identity(uid: int, gid: int) -> None:
    """Real, effective and saved ids, and no other group.  Without root rights only the identity that is there
    already."""
    if os.getresuid() == (0, 0, 0):
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        if os.getgroups() != [gid] or os.getresgid() != (gid, gid, gid):
            raise PermissionError(1, "the groups could not be set")
    if os.getresuid() != (uid, uid, uid):
        raise PermissionError(1, "that takes root rights")


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _out_of_the_way(descriptor: int) -> int:
    """A copy above those numbers that are about to be replaced."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, OPEN_FILES), hard))
    Spawner(socket.socket(fileno=0)).run()
