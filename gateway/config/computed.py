"""Defaults that depend on the machine: its name, its accounts, its networks.  As mail_params of Postfix works them out.

Each takes the Settings (for what they depend on) and gives a plain value without $names.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.settings import Settings


def myhostname(settings: Settings) -> str:
    """The machine's name; one without a dot gets the configured domain, or "localdomain"."""
    name = socket.gethostname().rstrip(".")
    if "." in name:
        return name
    domain = settings.text("mydomain") if settings.is_set("mydomain") else ""
    return f"{name}.{domain or 'localdomain'}"


def mydomain(settings: Settings) -> str:
    """myhostname less its first label."""
    return settings.text("myhostname").partition(".")[2] or "localdomain"


def mail_owner(settings: Settings) -> str:
    return _account("postfix", "mailgateway")


def setgid_group(settings: Settings) -> str:
    try:
        grp.getgrnam("postdrop")
    except KeyError:
        return "mailgateway"
    return "postdrop"


def _account(first: str, other: str) -> str:
    try:
        pwd.getpwnam(first)
    except KeyError:
        return other
    return first


def config_directory(settings: Settings) -> str:
    return str(settings.directory) if settings.directory is not None else "/etc/mailgateway"


def mynetworks(settings: Settings) -> str:
    from gateway.config.networks import default_mynetworks  # loads ctypes: only for who needs it

    return default_mynetworks(settings)


def process_id(settings: Settings) -> str:
    return str(os.getpid())


DEFAULTS: dict[str, Callable[[Settings], str]] = {
    "config_directory": config_directory,
    "mail_owner": mail_owner,
    "mydomain": mydomain,
    "myhostname": myhostname,
    "mynetworks": mynetworks,
    "process_id": process_id,
    "setgid_group": setgid_group,
}
