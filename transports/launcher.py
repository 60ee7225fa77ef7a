"""A process that starts programs for one identity, which it has taken on for good; see transports.jobs for its loop.

It is a child of the spawner.  Since it need not change its rights, it can start programs by vfork: the kernel copies
nothing, and a program costs a quarter of what a fork of a Python process costs.  An order is

    {"job": N, "argv": […], "env": {…}, "directory": …, "shell": …}

directory: entered first, if not "", with the identity's rights; shell: a command for the shell instead if ``argv[0]``
is a bare name that is not in env's PATH.  A program gets a session of its own, umask 077, descriptors 0, 1, 2 only,
default signals.  A file that is executable but no program is the shell's, as execvp(3) has it.  The program "sh" is
/bin/sh, whatever PATH says; it calls itself so in what it prints.

Programs may be set-uid, so that this process could not end them: ``{"kill": N}`` is answered by ``{"job": N, "child":
PID}``, 0 if it has ended, and the spawner does it.  If the gateway goes away (end of file), the groups of all running
programs are killed: nothing is delivered that nobody watches.

The programs are the user's, and run with the same uid.  What transports.worker says of itself holds here, too: they
can neither trace this process nor get at its socket; they can stop or end it, and their own mail waits.
"""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess

from transports.jobs import Failed, Loop, Order, kill_group


class Launcher(Loop):
    def start(self, order: Order, descriptors: list[int]) -> int:
        argv, directory = order["argv"], order["directory"]
        try:
            return _start(argv, order, descriptors)
        except FileNotFoundError as error:
            refused: OSError = error
        except (PermissionError, NotADirectoryError) as error:
            refused = error
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise Failed(f"execute {argv[0]}", error) from None
            refused = error
        if directory and refused.filename == directory:
            raise Failed(f"enter {directory}", refused)
        try:
            if refused.errno == errno.ENOEXEC:
                path = shutil.which(argv[0], path=order["env"].get("PATH", "")) or argv[0]
                return _start(["/bin/sh", path, *argv[1:]], order, descriptors)
            if order["shell"] and "/" not in argv[0]:
                return _start(["sh", "-c", order["shell"]], order, descriptors)
        except OSError as error:
            refused = error
        raise Failed(f"execute {argv[0]}", refused)

    def kill(self, order: Order) -> None:
        number = order["kill"]
        self.answer({"job": number, "child": self.pids.get(number, 0)})

    def end(self) -> None:
        for pid in self.numbers:
            kill_group(pid)


def _start(argv: list[str], order: Order, descriptors: list[int]) -> int:
    """Raises OSError."""
    stdin, output = descriptors[:2]
    process = subprocess.Popen(
        argv, executable="/bin/sh" if argv[0] == "sh" else None, stdin=stdin, stdout=output, stderr=output,
        env=order["env"], cwd=order["directory"] or None, close_fds=True, start_new_session=True,
    )
    process.returncode = 0  # the loop reaps it, with all others
    return process.pid


def serve() -> None:
    launcher = Launcher(socket.socket(fileno=0))
    try:
        launcher.run()
    finally:
        launcher.end()
