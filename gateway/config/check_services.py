"""What can be wrong with master.cf: commands that nobody knows, pipes that cannot run, transports that are missing."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable, Iterator

from gateway.config.configuration import Configuration
from gateway.config.expand import ExpandError
from gateway.config.findings import ERROR, NOTE, WARNING, ConfigError, Finding
from gateway.config.master_cf import Service
from gateway.config.settings import Settings

COMMANDS = {
    "smtpd", "smtp", "lmtp", "pipe", "local", "virtual", "error", "discard", "cleanup", "qmgr", "pickup", "bounce",
    "trivial-rewrite", "flush", "verify", "showq", "uucp", "uucp-retrieve", "fax", "python",
}  # fmt: skip
"""Commands with a meaning here."""
WITHOUT_EFFECT = {"oqmgr", "nqmgr", "proxymap", "tlsmgr", "anvil", "scache", "postlogd", "tlsproxy", "dnsblog"}
"""Helpers of the other program: accepted, nothing to start."""
NOT_YET = {"postscreen", "qmqpd", "spawn"}
"""Known, not served."""
PIPE_ATTRIBUTES = {"argv", "chroot", "directory", "eol", "flags", "null_sender", "size", "user"}
PIPE_FLAGS = set("BDFORXhqu.>")

_TRANSPORTS = (
    "default_transport", "local_transport", "relay_transport", "virtual_transport", "mailbox_transport",
    "fallback_transport", "content_filter", "best_mx_transport", "address_verify_default_transport",
    "address_verify_local_transport", "address_verify_relay_transport", "address_verify_virtual_transport",
)  # fmt: skip

CheckParameter = Callable[[Settings, str], Iterable[Finding]]


def check(configuration: Configuration, check_parameter: CheckParameter) -> Iterator[Finding]:
    """Findings about the services; ``check_parameter`` looks at one setting of an -o option."""
    for service in configuration.services:
        yield from _command(service)
        own = service.settings(configuration.settings)
        for name in service.overrides:
            yield from check_parameter(own, name)
        if service.command.rpartition("/")[2] == "pipe":
            yield from _pipe(service)
    yield from _transports(configuration)


def _command(service: Service) -> Iterator[Finding]:
    command = service.command.rpartition("/")[2]
    if command in COMMANDS:
        return
    about = f"service {service.name}: command {command}"
    if command in WITHOUT_EFFECT:
        yield Finding(NOTE, service.path, service.line, f"{about} has no effect here", "keep it or remove it")
    elif command in NOT_YET:
        yield Finding(WARNING, service.path, service.line, f"{about} is known but not yet effective", "remove it")
    else:
        mend = f"use one of {', '.join(sorted(COMMANDS))}"
        yield Finding(ERROR, service.path, service.line, f"{about} is unknown: mail for it is deferred", mend)


def pipe_attributes(service: Service) -> tuple[dict[str, str], list[str], list[str]]:
    """(attributes in front of argv=, argv, what was not understood) of a pipe service; pipe(8)."""
    attributes: dict[str, str] = {}
    strange: list[str] = []
    for at, word in enumerate(service.arguments):
        name, equals, value = word.partition("=")
        if not equals or name not in PIPE_ATTRIBUTES:
            strange.append(word)
        elif name == "argv":
            return attributes, [value, *service.arguments[at + 1 :]] if value else service.arguments[at + 1 :], strange
        else:
            attributes[name] = value
    return attributes, [], strange


def _pipe(service: Service) -> Iterator[Finding]:
    def error(what: str, mend: str) -> Finding:
        return Finding(ERROR, service.path, service.line, f"service {service.name}: {what}", mend)

    attributes, argv, strange = pipe_attributes(service)
    for word in strange:
        yield error(f"unknown pipe attribute: {word}", f"use one of {', '.join(sorted(PIPE_ATTRIBUTES))}, argv= last")
    if not argv:
        yield error("missing command-line attribute: argv", "add argv=PROGRAM ARGUMENTS")
    if "user" not in attributes:
        yield error("missing command-line attribute: user", "add user=NAME or user=NAME:GROUP")
    else:
        for severity, what, mend in _account(attributes["user"]):
            yield Finding(severity, service.path, service.line, f"service {service.name}: {what}", mend)
    for flag in sorted(set(attributes.get("flags", "")) - PIPE_FLAGS):
        yield error(f"unknown flag: {flag}", f"use flags out of {''.join(sorted(PIPE_FLAGS))}")
    size = attributes.get("size", "0")
    if not size.isdecimal():
        yield error(f"bad size: {size}", "give a number of bytes")
    directory = attributes.get("directory", "/")
    if not directory.startswith("/"):
        yield error(f"directory {directory} is not an absolute path", "write it with a slash in front")


def _account(value: str) -> Iterator[tuple[str, str, str]]:
    """(severity, what, how to mend) of user=NAME[:GROUP]; without the account, mail for the service waits."""
    user, colon, group = value.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        if uid == 0:
            yield ERROR, "user= is root", "give an account with no special rights"
    except KeyError:
        yield WARNING, f"unknown user name: {user}", "create the account, or name another one"
    if colon:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
            if gid == 0:
                yield ERROR, "the group of user= is root's", "give a group with no special rights"
        except KeyError:
            yield WARNING, f"unknown group name: {group}", "create the group, or name another one"


def _transports(configuration: Configuration) -> Iterator[Finding]:
    """Transports that main.cf names and master.cf lacks."""
    settings = configuration.settings
    for name in _TRANSPORTS:
        if not settings.is_set(name):
            continue
        try:
            transport = settings.text(name).partition(":")[0].strip()
        except (ConfigError, ExpandError):
            continue
        if transport and configuration.service(transport) is None:
            what = f"{name} names the transport {transport}, which no unix service provides"
            yield Finding(ERROR, *settings.place(name), what, f"add a service {transport} to master.cf")
    if not any(service.type == "inet" for service in configuration.services):
        path = str(configuration.directory / "master.cf")
        yield Finding(NOTE, path, 0, "no inet service: no mail comes in by SMTP", "add smtp inet n - n - - smtpd")
