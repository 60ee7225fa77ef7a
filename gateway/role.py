"""A role process: "python -m gateway.role ROLE DIRECTORY NAME=DESCRIPTOR…", started by gateway.master only.

It takes the configuration from the master, reads whatever only root may read, becomes mail_owner (all roles but the
executor), and works until the master's Link says "retire" (take no more work, end what has begun, go) or "stop" (the
same with a deadline), or breaks (the master is gone).
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path
from typing import Any

from gateway.config import ConfigError
from gateway.log import MailLog, stderr_writer
from gateway.master import CONFIGURATION_DESCRIPTOR, LINK_DESCRIPTOR, read_text_file
from gateway.privileges import AccountError, become, mail_owner

ORPHAN_GRACE = 5.0  # seconds to end in when the master is gone


def main(arguments: list[str]) -> int:
    os.umask(0o077)
    name, directory, *named = arguments
    descriptors = {key: int(number) for key, number in (word.split("=") for word in named)}

    from gateway.reactor import install

    install()
    from twisted.internet import reactor

    from gateway.clock import make_steady
    from gateway.parts import make_log
    from gateway.roles import ROLES

    make_steady(reactor)
    configuration = read_text_file(CONFIGURATION_DESCRIPTOR, Path(directory))
    try:
        log = make_log(configuration.settings, reactor)
    except OSError as error:  # the mail must go on
        log = MailLog(configuration.settings.text("syslog_name"), stderr_writer)
        log.warning(name, f"cannot open the log: {error}; logging to standard error")
    catch_errors(log, name)
    role = ROLES[name](configuration, reactor, log)
    if name != "executor":
        become(mail_owner(configuration.settings.text("mail_owner")))
    process = RoleProcess(role, reactor, log)
    process.connect()
    role.start(descriptors)
    role.master.note("ready", None)
    gc.freeze()  # what was made until now stays: no collection has to look at it again
    reactor.run()
    log.flush()
    return 0


class RoleProcess:
    """Between a role and the master: carries out "retire" and "stop"."""

    def __init__(self, role: Any, reactor: Any, log: MailLog) -> None:
        self._role = role
        self._reactor = reactor
        self._log = log
        self._ending = False

    def connect(self) -> None:
        from twisted.internet.protocol import Factory

        from gateway.link import Link

        notes = {
            "retire": lambda ignored: self.end(None),
            "stop": self.end,
            **self._role.notes(),
        }
        link = Link(self._reactor, {}, notes, lambda ignored: self.end(ORPHAN_GRACE))
        self._role.master = link
        factory = Factory.forProtocol(lambda: link)
        factory.noisy = False
        self._reactor.adoptStreamConnection(LINK_DESCRIPTOR, socket.AF_UNIX, factory)
        os.close(LINK_DESCRIPTOR)

    def end(self, grace: float | None) -> None:
        """End after the work in hand, at the latest after ``grace`` seconds, for which no client is made to wait."""
        if grace is not None:
            self._reactor.callLater(grace, self._leave)
        if not self._ending:
            self._ending = True
            self._role.retire().addBoth(lambda ignored: self._leave())
        if grace is not None:
            self._role.dismiss()

    def _leave(self) -> None:
        self._log.flush()
        if self._reactor.running:
            self._reactor.stop()


def catch_errors(log: MailLog, role: str) -> None:
    """What nobody handled becomes a line in the mail log, with the place in our code where it arose: an exception in
    a protocol, a timer, a thread, a Deferred."""
    from twisted.logger import ILogObserver, globalLogPublisher
    from zope.interface import provider

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        failure = event.get("log_failure") or event.get("failure")  # Twisted's reactors still use the older way
        if failure is not None:
            frames = failure.getTracebackObject()
            place = ""
            while frames is not None:
                place = f"{frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}"
                frames = frames.tb_next
            log.error(role, f"internal: {failure.type.__name__}: {failure.getErrorMessage()} ({place})")

    globalLogPublisher.addObserver(observe)


def run() -> None:
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigError, AccountError) as error:
        sys.exit(f"mailgateway: {error}")


if __name__ == "__main__":
    run()


