"""The parameters of local(8), read once; local(8) CONFIGURATION PARAMETERS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.addresses.syntax import Extensions
from gateway.config import Settings
from transports.accounts import default_privileges
from transports.environment import exported
from transports.process import Identity
from transports.store import Locking

CONTEXTS = ("alias", "forward", "include")


@dataclass(slots=True, frozen=True)
class LocalConfig:
    default_rights: Identity
    hostname: str
    mail_name: str
    extensions: Extensions = Extensions()
    base: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    time_limit: float = 1000.0
    mailbox_command: str = ""
    home_mailbox: str = ""
    spool_directory: str = "/var/mail"
    size_limit: int = 51200000
    locking: Locking = Locking()
    strict_owner: bool = True
    require_home: bool = False
    forward_path: tuple[str, ...] = ()
    command_filter: frozenset[str] = frozenset()
    forward_filter: frozenset[str] = frozenset()
    directory_filter: frozenset[str] = frozenset()
    execution_directory: str = ""
    shell: str = ""
    luser_relay: str = ""
    mailbox_transport: str = ""
    fallback_transport: str = ""
    commands_in: frozenset[str] = frozenset()
    files_in: frozenset[str] = frozenset()
    delivered_in: frozenset[str] = frozenset()
    """Where a Delivered-To: is put on top: command, file, forward."""
    original_recipients: bool = True
    owner_special: bool = True
    expand_owner: bool = False
    reset_owner: bool = False
    frozen_delivered: bool = True
    propagated: frozenset[str] = frozenset()
    line_limit: int = 2048
    remembered: int = 1000

    @classmethod
    def from_settings(cls, settings: Settings, own_environment: Mapping[str, str] = os.environ) -> LocalConfig:
        """``settings``: with the service's -o options in them.  Raises ConfigError."""

        def contexts(name: str, known: tuple[str, ...]) -> frozenset[str]:
            words = frozenset(settings.words(name))
            if unknown := sorted(words - set(known)):
                raise settings.error(name, f'{name}: unknown name "{unknown[0]}"', f"use {', '.join(known)}")
            return words

        return cls(
            default_rights=default_privileges(settings),
            hostname=settings.text("myhostname"),
            mail_name=settings.text("mail_name"),
            extensions=Extensions.of(settings),
            base=settings.text("queue_directory"),
            environment=exported(settings, own_environment),
            time_limit=settings.seconds("command_time_limit"),
            mailbox_command=settings.text("mailbox_command"),
            home_mailbox=settings.text("home_mailbox"),
            spool_directory=settings.text("mail_spool_directory"),
            size_limit=settings.number("mailbox_size_limit"),
            locking=Locking.of(settings, "mailbox_delivery_lock"),
            strict_owner=settings.flag("strict_mailbox_ownership"),
            require_home=settings.flag("require_home_directory"),
            forward_path=tuple(settings.words("forward_path")),
            command_filter=frozenset(settings.text("command_expansion_filter")),
            forward_filter=frozenset(settings.text("forward_expansion_filter")),
            directory_filter=frozenset(settings.text("execution_directory_expansion_filter")),
            execution_directory=settings.text("command_execution_directory"),
            shell=settings.text("local_command_shell"),
            luser_relay=settings.text("luser_relay"),
            mailbox_transport=settings.text("mailbox_transport"),
            fallback_transport=settings.text("fallback_transport"),
            commands_in=contexts("allow_mail_to_commands", CONTEXTS),
            files_in=contexts("allow_mail_to_files", CONTEXTS),
            delivered_in=contexts("prepend_delivered_header", ("command", "file", "forward")),
            original_recipients=settings.flag("enable_original_recipient"),
            owner_special=settings.flag("owner_request_special"),
            expand_owner=settings.flag("expand_owner_alias"),
            reset_owner=settings.flag("reset_owner_alias"),
            frozen_delivered=settings.flag("frozen_delivered_to"),
            propagated=frozenset(settings.words("propagate_unmatched_extensions")),
            line_limit=settings.number("line_length_limit"),
            remembered=settings.number("duplicate_filter_limit"),
        )
