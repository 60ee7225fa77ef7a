"""The small process that starts programs: a loop around fork, and nothing else.

It is started once by transports.process.Runner, as an interpreter of its own without site packages, so that a fork
costs the same whatever the gateway holds in memory or has open.  It imports the standard library and
transports.mailbox only.

Descriptor 0 is one end of a SOCK_SEQPACKET pair.  A packet from the gateway is one JSON object:

    {"job": N, "task": "command" | "serve", …}    with two descriptors: standard input, output; see Order below
    {"job": N, "in_file": true}                      the same, the object being in a third descriptor (a long argv)
    {"kill": N}                                      SIGKILL for the process group of a job

and the answer to every job is one packet ``{"job": N, "status": WAIT STATUS, "report": TEXT}`` when its process has
ended. The report is what the child wrote before it became the program: a JSON object ``{"stage": …, "errno": …,
"text": …}`` if it could not (so a program that cannot be started is told from one that exits 1), the answer of a
task, or "".

A child: new session, chroot, groups, gid and uid set and looked at again, umask 077, working directory, descriptors
0, 1, 2 only, default signals.  If the gateway goes away (end of file), the groups of all running jobs are killed:
nothing is delivered that nobody watches.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
from typing import Any, NoReturn

from transports import worker

LIMIT = 100_000
"""Bytes of a packet; longer orders travel in a file."""
NOT_STARTED = 127
"""Exit status of a child that could not become the program; the report says why."""

Order = dict[str, Any]
"""job, task; uid, gid (numbers); base: working directory entered before the rights are given up, directory: after;
chroot; argv, env, shell (command: a shell command to use when argv[0] is not found in PATH); spec: a task's own
arguments."""


class Spawner:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._jobs: dict[int, tuple[int, int]] = {}
        """pid → number, descriptor of the report."""
        self._pids: dict[int, int] = {}
        self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the gateway closes its end."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wakeup:
                    os.read(self._wakeup, 4096)
                    self._reap()
                elif not self._take():
                    return

    def end(self) -> None:
        for pid in self._jobs:
            kill_group(pid)

    def _take(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, LIMIT + 1000, 3)
        except ConnectionError:
            return False
        if not packet:
            return False
        order = json.loads(packet)
        if "kill" in order:
            if order["kill"] in self._pids:
                kill_group(self._pids[order["kill"]])
            return True
        number = order["job"]
        try:
            if order.get("in_file"):
                order = json.loads(_contents(descriptors.pop()))
            self._start(order, descriptors)
        except OSError as error:
            self._answer(number, NOT_STARTED << 8, failure("fork", error))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, order: Order, descriptors: list[int]) -> None:
        report, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                become(order, descriptors[0], descriptors[1], writer)
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(writer)
        self._jobs[pid] = (order["job"], report)
        self._pids[order["job"]] = pid

    def _reap(self) -> None:
        while self._jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._jobs:
                number, report = self._jobs.pop(pid)
                del self._pids[number]
                text = os.read(report, LIMIT).decode("utf-8", "replace")
                os.close(report)
                self._answer(number, status, text)

    def _answer(self, number: int, status: int, report: str) -> None:
        try:
            self._control.send(json.dumps({"job": number, "status": status, "report": report}).encode())
        except ConnectionError:
            pass  # the next read sees the end


def become(order: Order, stdin: int, output: int, report: int) -> NoReturn:
    """In the child: take on the identity that the order names, then the program's or the task's work."""
    stage = "set up"
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        stdin, output, report = (_out_of_the_way(number) for number in (stdin, output, report))
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(report, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        report = 3
        stage = f"enter {order.get('chroot') or order['base']}"
        os.chdir(order["base"])
        if order.get("chroot"):
            os.chroot(order["chroot"])
            os.chdir("/")
        stage = f"become user {order['uid']} group {order['gid']}"
        take_identity(order["uid"], order["gid"])
        os.umask(0o077)
        if order.get("directory"):
            stage = f"enter {order['directory']}"
            os.chdir(order["directory"])
        if order["task"] == "command":
            stage = f"execute {order['argv'][0]}"
            if order["uid"] == 0:
                raise PermissionError(1, "programs are never run as root")
            execute(order["argv"], order["env"], order.get("shell", ""))
        stage = order["task"]
        worker.serve()
        os._exit(0)
    except BaseException as error:  # nothing may run on in a copy of the loop
        os.write(report, failure(stage, error).encode())
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


def execute(argv: list[str], environment: dict[str, str], shell: str) -> NoReturn:
    """Like execvp, with a shell for a word that is no program: it may be one of the shell's own."""
    arguments = [os.fsencode(argument) for argument in argv]
    if "/" in argv[0]:
        os.execve(arguments[0], arguments, environment)
    refused: OSError | None = None
    for folder in environment.get("PATH", "").split(":"):
        try:
            os.execve(os.path.join(os.fsencode(folder), arguments[0]), arguments, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refused = error
    if shell:
        os.execve("/bin/sh", ["sh", "-c", shell], environment)
    raise refused or FileNotFoundError(2, os.strerror(2))


def failure(stage: str, error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else 0
    text = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return json.dumps({"stage": stage, "errno": number, "text": text})


def kill_group(pid: int) -> None:
    """The job's process group; before its setsid took effect, the process itself."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _out_of_the_way(descriptor: int) -> int:
    """A copy above those numbers that are about to be replaced."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def _contents(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def main() -> None:
    spawner = Spawner(socket.socket(fileno=0))
    try:
        spawner.run()
    finally:
        spawner.end()
