"""pipe(8): delivery to a program.

``PipeService.from_service`` reads a service of master.cf once, and raises ConfigError for what is wrong with it;
``PipeTransport`` delivers.  The program gets the message on standard input in the form that flags= wants, its
arguments by the macros of argv=, the rights of user=; its exit status becomes the results (transports.verdict).  A
guard (transports.programs) stands before programs that take parts of mail for orders.

Results are one verdict for all recipients that went into one command, and a bounce for each that never reached it.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zope.interface import implementer

from gateway.addresses.forms import quote, split_domain, unquote
from gateway.addresses.syntax import Extensions
from gateway.clock import time_of_day
from gateway.config import ConfigError, Service, Settings
from gateway.interfaces import BOUNCED, DEFERRED, SENT, IContentSource, ITransport, Log, Request, Result
from spool.interfaces import Content
from transports import message
from transports.environment import exported
from transports.guard import Refusal
from transports.macros import Template, expand
from transports.process import Command, Identity, Outcome, Runner
from transports.programs import Guards
from transports.verdict import Verdict, judge

FLAGS = "BDFORXhqu.>"
_ATTRIBUTES = ("flags", "user", "eol", "null_sender", "size", "directory", "chroot", "argv")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(slots=True, frozen=True)
class PipeService:
    """One service's attributes, ready for use."""

    name: str
    argv: list[str]
    templates: tuple[Template, ...]
    user: str
    identity: Identity
    flags: frozenset[str] = frozenset()
    eol: bytes = b"\n"
    null_sender: str = "MAILER-DAEMON"
    size: int = 0
    directory: str = ""
    chroot: str = ""
    base: str = "/"
    time_limit: float = 1000.0
    extensions: Extensions = Extensions()
    original_recipients: bool = True
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_service(
        cls, service: Service, settings: Settings, own_environment: Mapping[str, str] = os.environ
    ) -> PipeService:
        """``settings``: with the service's -o options in them.  ``own_environment``: the gateway's."""

        def wrong(what: str, mend: str) -> ConfigError:
            return ConfigError(f"service {service.name}: {what}", mend, file=service.path, line=service.line)

        given, argv = _attributes(service.arguments, wrong)
        flags, size = given.get("flags", ""), given.get("size", "0")
        if unknown := sorted(set(flags) - set(FLAGS)):
            raise wrong(f'unknown flag "{unknown[0]}"', f"flags= takes {FLAGS}")
        if not size.isascii() or not size.isdigit():
            raise wrong(f"size={size} is no number", "give a number of bytes")
        try:
            templates = tuple(map(Template, argv))
        except ValueError as error:
            raise wrong(str(error), "see COMMAND ATTRIBUTE SYNTAX in pipe(8)") from None
        return cls(
            name=service.name,
            argv=argv,
            templates=templates,
            user=given["user"],
            identity=identity_of(given["user"], settings.text("mail_owner"), wrong),
            flags=frozenset(flags),
            eol=_unescaped(given.get("eol", r"\n")).encode("latin-1"),
            null_sender=given.get("null_sender", "MAILER-DAEMON"),
            size=int(size),
            directory=given.get("directory", ""),
            chroot=given.get("chroot", ""),
            base=settings.text("queue_directory"),
            time_limit=settings.transport_seconds(service.name, "time_limit"),
            extensions=Extensions.of(settings),
            original_recipients=settings.flag("enable_original_recipient"),
            environment=exported(settings, own_environment),
        )


@implementer(ITransport)
class PipeTransport:
    """Delivers for one service.  ``clock``: IReactorTime."""

    program = "pipe"

    def __init__(
        self, service: PipeService, runner: Runner, contents: IContentSource, guards: Guards, log: Log, clock: Any
    ) -> None:
        self._service = service
        self._runner = runner
        self._contents = contents
        self._guard = guards.choose(service.argv)
        self._log = log
        self._clock = clock

    async def stop(self) -> None:
        """Nothing is kept between deliveries."""

    async def describe(self, request: Request) -> list[str]:
        """See IDescribes: the command line."""
        addresses = [unquote(address) for address in request.addresses]
        originals = [unquote(one.original or one.address) for one in request.recipients]
        sender = unquote(request.entry.envelope.sender) or self._service.null_sender
        for address in addresses:
            if refusal := self._guard.refuse_recipient(address):
                return [f"would be refused: {refusal.reason}"]
        argv = self._arguments(request, addresses, originals, sender)
        if not isinstance(argv, list):
            return [f"would be refused: {argv.reason}"]
        return [f"runs as {self._service.user}: {shlex.join(argv)}"]

    async def deliver(self, request: Request) -> Sequence[Result]:
        """See ITransport."""
        service, envelope = self._service, request.entry.envelope
        count = len(request.indexes)
        if service.size and envelope.size > service.size:
            return [_own(BOUNCED, "5.2.3", "message too large", service.name)] * count
        if count > 1 and service.flags & {"D", "O"}:
            flag = "D" if "D" in service.flags else "O"
            self._log.warning("pipe", f"pipe flag `{flag}' requires {service.name}_destination_recipient_limit = 1")
            return [_own(DEFERRED, "4.3.5", "mail system configuration error", service.name)] * count
        if envelope.trace == "verify":
            return [_own(SENT, "2.0.0", f"delivers to command: {service.argv[0]}", service.name)] * count
        content = await self._contents.content(request.entry.id, request.entry.where)
        try:
            return await self._deliver(request, content)
        finally:
            content.close()

    async def _deliver(self, request: Request, content: Content) -> list[Result]:
        name = self._service.name
        addresses = [unquote(address) for address in request.addresses]
        sender = unquote(request.entry.envelope.sender) or self._service.null_sender
        results: list[Result | None] = [self._refused(address, content) for address in addresses]
        going = [at for at, result in enumerate(results) if result is None]
        if going:
            verdict, outcome = await self._run(request, [addresses[at] for at in going], going, sender, content)
            if verdict.warning:
                self._log.warning("pipe", f"{request.entry.id}: service {name}: {verdict.warning}")
            sent = f"delivered via {name} service" + (f" ({verdict.reason})" if verdict.reason else "")
            action = "delivered" if "X" in self._service.flags else "relayed"
            started = outcome.started if outcome else 0.0
            for at in going:
                results[at] = verdict.result(name, action=action, sent=sent, connected=started)
        return [result for result in results if result is not None]

    def _refused(self, address: str, content: Content) -> Result | None:
        if "D" in self._service.flags and message.has_been_at(content, address):
            reason = f"mail forwarding loop for {address}"
            return _own(BOUNCED, "5.4.6", reason, self._service.name)
        refusal = self._guard.refuse_recipient(address)
        return _own(refusal.status, refusal.dsn, refusal.reason, self._service.name) if refusal else None

    async def _run(
        self, request: Request, addresses: list[str], going: list[int], sender: str, content: Content
    ) -> tuple[Verdict, Outcome | None]:
        """The program, once, for these addresses (``going``: their places in the request)."""
        service, guard = self._service, self._guard
        originals = [unquote(request.recipients[at].original) for at in going]
        arguments = self._arguments(request, addresses, originals, sender)
        if isinstance(arguments, Refusal):
            return arguments.verdict(), None
        notes: list[str] = []
        blocks = message.encode(content, self._top(sender, addresses[0], originals[0]), self._form())
        outcome = await self._runner.run(
            Command(
                arguments, service.identity, service.environment, service.base, service.directory, service.chroot,
                guard.filter(blocks, notes), service.time_limit,
            )
        )
        for note in notes:
            self._log.warning("pipe", f"{request.entry.id}: {note}")
        verdict = guard.judge(outcome, judge(outcome, service.argv[0]))
        if verdict.status == SENT:
            await guard.settle()
        return verdict, outcome

    def _arguments(
        self, request: Request, addresses: list[str], originals: list[str], sender: str
    ) -> list[str] | Refusal:
        flags = self._service.flags
        nexthop = request.nexthop.lower() if "h" in flags else request.nexthop
        refusal = self._guard.refuse_delivery(sender, nexthop)
        if refusal:
            return refusal
        values = of_message(request, nexthop, sender, flags)
        recipients = [self._of_recipient(*pair) for pair in zip(addresses, originals, strict=True)]
        return self._guard.arguments(expand(self._service.templates, values, recipients))

    def _of_recipient(self, address: str, original: str) -> dict[str, str]:
        flags = self._service.flags
        mailbox, domain = split_domain(address)
        if "u" in flags:
            mailbox = mailbox.lower()
        user, extension = self._service.extensions.split(mailbox)
        extension = extension[1:]  # its delimiter
        return {
            "recipient": folded(address, flags), "original_recipient": folded(original, flags),
            "user": user, "extension": extension, "mailbox": mailbox,
            "domain": domain.lower() if "h" in flags else domain,
        }

    def _top(self, sender: str, recipient: str, original: str) -> bytes:
        """The lines in front of the message."""
        flags = self._service.flags
        top = message.from_line(sender, time_of_day(self._clock)) if "F" in flags else b""
        if "R" in flags:
            top += message.return_path(sender)
        if "O" in flags and self._service.original_recipients:
            top += message.original_to(original)
        if "D" in flags:
            top += message.delivered_to(recipient)
        return top

    def _form(self) -> message.Form:
        flags = self._service.flags
        return message.Form(">" in flags, "." in flags, self._service.eol, "B" in flags)


def _own(status: str, dsn: str, reason: str, relay: str) -> Result:
    return Result(status, dsn, reason, relay)


def of_message(request: Request, nexthop: str, sender: str, flags: frozenset[str]) -> dict[str, str]:
    """The macros that speak of the message.  ``sender``: internal form."""
    envelope = request.entry.envelope
    client = envelope.client
    return {
        "client_address": client.address, "client_helo": client.helo, "client_hostname": client.name,
        "client_port": client.port, "client_protocol": client.protocol, "envid": envelope.envid, "nexthop": nexthop,
        "queue_id": request.entry.id, "sasl_method": client.sasl_method, "sasl_sender": client.sasl_sender,
        "sasl_username": client.sasl_username, "sender": quote(sender) if "q" in flags and sender else sender,
        "size": str(envelope.size),
    }


def folded(address: str, flags: frozenset[str]) -> str:
    """An address for the command line; pipe(8) flags h, q, u."""
    local, domain = split_domain(address)
    local = local.lower() if "u" in flags else local
    domain = domain.lower() if "h" in flags else domain
    address = f"{local}@{domain}" if domain else local
    return quote(address) if "q" in flags else address


# --- reading the service ---------------------------------------------------------------------------------------------


def _attributes(words: Sequence[str], wrong: Callable[[str, str], ConfigError]) -> tuple[dict[str, str], list[str]]:
    """The attributes before argv=, and the command."""
    given: dict[str, str] = {}
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not equals or name not in _ATTRIBUTES:
            raise wrong(f'unknown attribute "{word}"', f"pipe takes {' '.join(known + '=' for known in _ATTRIBUTES)}")
        if name != "argv":
            given[name] = value
            continue
        argv = [*([value] if value else []), *words[at + 1 :]]
        if not argv:
            raise wrong("argv= names no command", "give the program and its arguments behind argv=")
        if not given.get("user"):
            raise wrong("user= is missing", "name the account whose rights the program gets")
        return given, argv
    raise wrong("argv= is missing", "give the program and its arguments behind argv=")


def identity_of(text: str, owner: str, wrong: Callable[[str, str], ConfigError]) -> Identity:
    """user=NAME or NAME:GROUP; never root's rights or the mail system's."""
    user, colon, group = text.partition(":")
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise wrong(f"user={text}: there is no account {user}", "make it, or name another one") from None
    try:
        gid = grp.getgrnam(group).gr_gid if colon else account.pw_gid
    except KeyError:
        raise wrong(f"user={text}: there is no group {group}", "make it, or name another one") from None
    if account.pw_uid == 0:
        raise wrong(f"user={text}: no program gets root's rights", "name an account that owns nothing of importance")
    if gid == 0:
        raise wrong(f"user={text}: no program gets the rights of group 0", "name another group")
    if user == owner and os.geteuid() == 0:
        raise wrong(f"user={text}: no program gets the mail system's own rights", "name an account of its own")
    return Identity(account.pw_uid, gid)


def _unescaped(text: str) -> str:
    """C-style escapes of eol=."""

    def letter(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code, 8) & 255) if code[0] in "01234567" else _LETTERS.get(code, code)

    return _ESCAPE.sub(letter, text)
