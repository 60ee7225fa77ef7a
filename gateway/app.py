"""The twistd plug-in: `twistd mailgateway [--config-directory DIR]`.

Started by root with a configuration directory it becomes the master of several roles (gateway.master); started by
anybody else, or without a directory, it does everything itself (gateway.roles.Single).  Whatever makes it impossible to
start is told in one line before anything is started.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python import log, usage

from gateway import __version__
from gateway.clock import make_steady
from gateway.config import ConfigError, Configuration, Finding
from gateway.config.builtin import PORT, configured_directory, load_configuration
from gateway.config.configuration import from_texts
from gateway.config.findings import ERROR
from gateway.config.ports import known_ports
from gateway.listeners import ListenError, bind_inet, bind_unix, interface_addresses, service_addresses
from gateway.log import MailLog
from gateway.master import RELOADED, RESTARTED, Master, Plan, role_environment
from gateway.parts import make_log
from gateway.privileges import AccountError, mail_owner, prepare_directories
from gateway.rehearsal import findings
from gateway.role import catch_errors
from gateway.roles import Single
from gateway.succession import Estate, inherited, succeed
from spool.names import FOLDERS
from spool.store import JOURNALS

ORPHANS_PATIENCE = 15.0  # seconds that roles of a master that was killed may take to end
STOP_GRACE = 8.0  # seconds that running deliveries have when the gateway is told to stop
CHECK_PATIENCE = 60.0  # seconds that a new program may take to check the configuration
LAST_SESSIONS, LAST_TRANSACTIONS = 10.0, 60.0
"""Seconds that clients have before a restart of a gateway in one process; after the first they are asked to go."""


class Options(usage.Options):
    optParameters = [
        ["config-directory", "c", None, "Where main.cf and master.cf are; else $MAIL_CONFIG, or built-in defaults"]
    ]
    longdesc = "A mail gateway that reads Postfix's configuration."


def makeService(options: Options) -> Service:
    """Called by twistd.  Exits with one line if it cannot start."""
    from twisted.internet import reactor

    make_steady(reactor)
    given = options["config-directory"]
    try:
        estate = inherited()
        configuration = load_configuration(Path(given).absolute() if given else None)
        configured = given is not None or configured_directory(None) is not None
        if estate is not None and configured:
            configuration = from_texts(*estate.texts, configuration.directory)
        refuse_errors(findings(configuration, reactor))
        if not configured:
            configuration.directory.mkdir(exist_ok=True)
        return Gateway(configuration, configured, reactor, estate)
    except (ConfigError, AccountError, ListenError, OSError) as error:
        sys.exit(f"mailgateway: fatal: {error}")


def refuse_errors(found: list[Finding]) -> None:
    """Raises ConfigError for the first error."""
    for finding in found:
        if finding.severity == ERROR:
            raise ConfigError(finding.what, finding.mend, file=finding.file, line=finding.line)


class Gateway(Service):
    """The gateway within twistd."""

    name = "mailgateway"

    def __init__(
        self, configuration: Configuration, configured: bool, reactor: Any, estate: Estate | None = None
    ) -> None:
        self._estate = estate
        self._began_in = os.getcwd()
        self.configuration = configuration
        self.configured = configured
        self.reactor = reactor
        self.split = configured and os.geteuid() == 0
        self.owner = mail_owner(configuration.settings.text("mail_owner"))
        self.log: MailLog = make_log(configuration.settings, reactor)
        self.sockets: dict[str, socket.socket] = {}
        self._lock: Any = None
        self._family: Any = None
        """A lock that all our roles hold with us, as long as one of them lives."""
        self._single: Single | None = None
        self._handing_over = False
        self._restarting = False
        self._reload_again = False
        self._retiring: dict[Single, Deferred[Any]] = {}
        """Those of before a reload, with what fires when their last client has gone."""
        self._master: Master | None = None

    # --- start -----------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Everything that needs root's rights, or that must fail at once.  Failures end the process."""
        os.umask(0o077)
        catch_errors(self.log, "master")
        try:
            self._take_place(self.configuration)
        except (ConfigError, AccountError, ListenError, OSError) as error:
            self._fail(str(error))

    def _fail(self, text: str) -> None:
        self.log.fatal("master", text)
        print(f"mailgateway: fatal: {text}", file=sys.stderr, flush=True)
        os._exit(1)

    def _take_place(self, configuration: Configuration) -> None:
        settings = configuration.settings
        queue, data = Path(settings.text("queue_directory")), Path(settings.text("data_directory"))
        prepare_directories(queue, data, (*FOLDERS, JOURNALS), self.owner)
        if self._estate is not None:
            self._lock, self._family = self._estate.locks
        else:
            self._lock = lock(data / "master.lock")
            self._family = self._outlive_orphans(data / "roles.lock")
        known = self._estate.sockets if self._estate is not None else {}
        self.sockets = self._bind(configuration, known)

    def _outlive_orphans(self, path: Path) -> Any:
        """Roles whose master was killed end by themselves; until then they hold the sockets and the queue."""
        deadline = time.monotonic() + ORPHANS_PATIENCE
        while (held := family_lock(path)) is None:
            if time.monotonic() > deadline:
                raise AccountError(f"{path}: locked: processes of a gateway that was killed are still at work")
            time.sleep(0.1)
        return held

    def _bind(self, configuration: Configuration, known: dict[str, socket.socket]) -> dict[str, socket.socket]:
        """All sockets of a configuration by name; those that are bound already are taken over.  Raises ListenError."""
        settings = configuration.settings
        wanted: dict[str, Callable[[], socket.socket]] = {}
        interfaces = interface_addresses(settings.words("inet_interfaces"), settings.words("inet_protocols"))
        ports = known_ports(settings)
        for service in configuration.services:
            if service.type == "inet" and service.command.rpartition("/")[2] == "smtpd":
                for address in service_addresses(service.name, interfaces, ports):
                    wanted[f"inet:{address}@{service.name}"] = partial(bind_inet, address)
        queue = Path(settings.text("queue_directory"))
        owner = (self.owner.uid, self.owner.gid) if os.geteuid() == 0 else None
        for name, folder, mode in UNIX_SOCKETS:
            path = queue / folder / name
            wanted[f"{path}"] = partial(bind_unix, path, mode=mode, owner=owner, datagram=name == "pickup")
        made: dict[str, socket.socket] = {}
        try:
            for name, bind in wanted.items():
                if name not in known:
                    made[name] = bind()
        except ListenError:
            for one in made.values():
                one.close()
            raise
        return {name: known.get(name) or made[name] for name in wanted}

    def startService(self) -> None:
        super().startService()
        signal.signal(signal.SIGHUP, lambda number, frame: self.reactor.callFromThread(self.reload))
        where = self.configuration.directory if self.configured else "(built in)"
        self.log.info("master", f"daemon started -- version {__version__}, configuration {where}")
        estate, self._estate = self._estate, None
        if self.split:
            self._master = Master(self.reactor, self.log, self._requested, estate.roles if estate else ())
        try:
            self._run(self.configuration)
        except (ConfigError, AccountError, ListenError, OSError) as error:
            self._fail(str(error))
        if estate is not None:
            if self._master is None:
                self.log.info("master", RESTARTED)
            if estate.reload:
                self.reactor.callLater(0, self.reload)
        print(self._introduction(), flush=True)

    def _run(self, configuration: Configuration) -> None:
        if self._master is not None:
            self._master.start(configuration, self._plans())
            return
        self._single = Single(configuration, self.reactor, self.log, self._requested)
        self._start_single(self._single)
        self._single.work()

    def _start_single(self, single: Single) -> None:
        single.start({name: os.dup(one.fileno()) for name, one in self._named().items()})

    def _named(self) -> dict[str, socket.socket]:
        """The sockets by the names that roles know."""
        return {
            name if name.startswith("inet:") else name.rpartition("/")[2]: one for name, one in self.sockets.items()
        }

    def _plans(self) -> list[Plan]:
        named: dict[str, Any] = {**self._named(), "family": self._family}
        inet = {name: one for name, one in named.items() if name.startswith("inet:")}
        receivers = len(os.sched_getaffinity(0)) if inet else 0
        scheduler = {name: named[name] for name in ("control", "scheduler", "pickup", "family")}
        return [
            Plan("executor", 1, {name: named[name] for name in ("executor", "family")}),
            Plan("scheduler", 1, scheduler),
            *(Plan("receiver", number, {**inet, "family": self._family}) for number in range(1, receivers + 1)),
        ]

    def _introduction(self) -> str:
        settings = self.configuration.settings
        inet = [name[5:].partition("@")[0] for name in self.sockets if name.startswith("inet:")]
        log = settings.text("maillog_file") or "standard error"
        told = [
            f"mailgateway {__version__}: SMTP on {', '.join(dict.fromkeys(inet)) or 'no port'}",
            f"  spool in {settings.text('queue_directory')}, log in {log}",
        ]
        if not self.configured:
            told.append(f"  a first message: swaks --server 127.0.0.1:{PORT} --to {self.owner.name}@localhost")
        return "\n".join(told)

    # --- reload and stop -------------------------------------------------------------------------------------------

    def _requested(self, what: str) -> None:
        """An administrator's command, by the control socket."""
        if what == "reload":
            self.reload()
        elif what == "restart":
            self.restart()
        elif what == "stop":
            self.reactor.callLater(0, self.reactor.stop)

    def reload(self) -> None:
        """Take up a changed configuration.  One that cannot be used is refused whole, with the reason in the log."""
        if self._handing_over or self._restarting:
            self._reload_again = True
            return
        try:
            configuration = self._load()
            single = None if self.split else Single(configuration, self.reactor, self.log, self._requested)
            bound = self._bind(configuration, self.sockets)
        except (ConfigError, AccountError, ListenError, OSError) as error:
            self.log.error("master", f"reload refused, the old configuration stays: {error}")
            return
        self.log.info("master", f"reload -- version {__version__}, configuration {configuration.directory}")
        old, self.sockets, self.configuration = self.sockets, bound, configuration
        if single is None:
            self._run(configuration)
        else:
            self._replace_single(single)
        for name, one in old.items():
            if name not in bound:
                one.close()

    def _load(self) -> Configuration:
        """The configuration as it is now.  Raises ConfigError."""
        configuration = load_configuration(self.configuration.directory if self.configured else None)
        refuse_errors(findings(configuration, self.reactor))
        return configuration

    def _replace_single(self, single: Single) -> None:
        """The new one takes clients at once, and the queue when the present one has let go of it: two must not hold it.
        The clients that the present one has stay with it to their end."""
        old, self._single = self._single, single
        assert old is not None
        old.heir = single
        self._handing_over = True
        self._start_single(single)
        done = self._retiring[old] = old.hand_over()
        done.addErrback(log.err).addCallback(lambda ignored: self._handed_over(single))
        done.addErrback(log.err).addCallback(lambda ignored: old.retire())
        done.addErrback(log.err).addCallback(lambda ignored: self._retiring.pop(old))

    def _handed_over(self, single: Single) -> None:
        self._handing_over = False
        if self.running:
            single.work()
            self.log.info("master", RELOADED)
        if self._reload_again:
            self._reload_again = False
            self.reactor.callLater(0, self.reload)

    # --- restart ---------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Have a new program take this one's place, in this process, on these sockets.  If it would not start, or does
        not like the configuration, this one stays."""
        if self._handing_over:
            self.reactor.callLater(1.0, self.restart)
        elif not self._restarting and self.running:
            self._restarting = True
            Deferred.fromCoroutine(self._restart()).addErrback(log.err).addCallback(self._not_restarted)

    def _not_restarted(self, ignored: object) -> None:
        self._restarting = False
        if self._reload_again and self.running:
            self._reload_again = False
            self.reload()

    async def _restart(self) -> None:
        try:
            await self._ask_new_program()
            configuration = self._load()
            bound = self._bind(configuration, self.sockets)
        except (ConfigError, AccountError, ListenError, OSError) as error:
            self.log.error("master", f"restart refused, everything stays as it is: {error}")
            return
        self.log.info("master", f"restart -- version {__version__}, configuration {configuration.directory}")
        if self._master is None:
            await self._fall_silent()
        if not self.running:
            return
        roles = self._master.describe() if self._master is not None else []
        self.log.flush()
        try:
            succeed(
                Estate(bound, [self._lock, self._family], configuration.texts, roles, self._reload_again),
                self._began_in,
            )
        except OSError as error:
            self._fail(f"restart: {error}")

    async def _ask_new_program(self) -> None:
        """What would be started now must run, and find no error.  Raises ConfigError."""
        command = ["-m", "gateway.commands.main", "check"]
        if self.configured:
            command += ["-c", str(self.configuration.directory)]
        done: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            sys.executable, command, role_environment(), self._began_in, self.reactor
        )
        done.addTimeout(CHECK_PATIENCE, self.reactor)
        try:
            said, complained, status = await done
        except Exception as error:
            raise ConfigError(f"the program does not run: {type(error).__name__}") from None
        if status:
            lines = [line for line in (said + complained).decode(errors="replace").splitlines() if line.strip()]
            wrong = next((line for line in lines if "error" in line), lines[-1] if lines else f"status {status}")
            raise ConfigError(wrong.strip())

    async def _fall_silent(self) -> None:
        """One process: end what would be cut off.  While deliveries run clients are served; after that new ones wait
        for their greeting until those that are connected have gone."""
        single = self._single
        assert single is not None
        await single.end_deliveries()
        await single.hand_over()
        call = self.reactor.callLater(LAST_SESSIONS, self._dismiss_all)
        gone = DeferredList([single.retire(LAST_SESSIONS + LAST_TRANSACTIONS), *self._retiring.values()])
        gone.addTimeout(LAST_SESSIONS + LAST_TRANSACTIONS + 1, self.reactor).addErrback(lambda ignored: None)
        await gone
        if call.active():
            call.cancel()

    def stopService(self) -> Deferred[Any]:
        """Runs when twistd stops; the deliveries that are running have STOP_GRACE seconds."""
        super().stopService()
        self.log.info("master", "terminating on signal 15")
        for one in self.sockets.values():
            one.close()
        if self._master is not None:
            stopped = self._master.stop(STOP_GRACE)
        else:
            stopped = self._stop_singles()
            self.reactor.callLater(STOP_GRACE, self._leave)
        return stopped.addBoth(lambda ignored: self.log.flush())

    def _stop_singles(self) -> Deferred[Any]:
        waiting = list(self._retiring.values())
        single = self._single
        if single is not None:
            waiting.append(single.hand_over().addBoth(lambda ignored: single.retire()))
        self._dismiss_all()
        return DeferredList(waiting)

    def _dismiss_all(self) -> None:
        for one in (*self._retiring, *([self._single] if self._single else [])):
            one.dismiss()

    def _leave(self) -> None:
        """What did not end in time is cut off; nothing is lost by that."""
        self.log.flush()
        os._exit(0)


# Name, folder below queue_directory, mode.
UNIX_SOCKETS = (
    ("control", "public", 0o666), ("pickup", "public", 0o622), ("scheduler", "private", 0o600),
    ("executor", "private", 0o600),
)


def lock(path: Path) -> Any:
    """Hold the lock that says that this data directory is in use.  Raises AccountError if it is."""
    file = open(path, "w")  # noqa: SIM115 (it is open as long as the process lives)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise AccountError(f"{path}: locked: a gateway with this data_directory is running already") from None
    return file


def family_lock(path: Path) -> Any:
    """A lock that processes share who inherit the open file; None while others have it."""
    file = open(path, "w")  # noqa: SIM115 (it is open as long as the process lives)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


__all__ = ["Gateway", "Options", "makeService"]
